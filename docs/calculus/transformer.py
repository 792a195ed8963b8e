"""A Transformer layer with a backward pass written by hand.

The layer norms come first, as in GPT-2 (Xiong et al., 2020, arXiv:2002.04745):

    x1 = x  + Attention(LayerNorm(x))
    y  = x1 + MLP(LayerNorm(x1))

There are B sequences of T tokens of width d, and h heads of width d/h. The MLP uses the exact GELU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erf

EPS = 1e-5  # added to the variance in the layer norms

Params = dict[str, Any]


def parameters(rng: np.random.Generator, d: int, hidden: int) -> Params:
    """Return random weights and biases; none is zero, so that an error in any gradient shows."""
    shapes = {
        **{"gain1": (d,), "shift1": (d,)},
        **{f"W{n}": (d, d) for n in "qkvo"},
        **{f"b{n}": (d,) for n in "qkvo"},
        **{"gain2": (d,), "shift2": (d,)},
        **{"W1": (d, hidden), "b1": (hidden,), "W2": (hidden, d), "b2": (d,)},
    }
    p = {name: rng.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    return {name: 1 + w if name.startswith("gain") else w for name, w in p.items()}


def normalise(x):
    """Return x with mean 0 and variance 1 over its last axis, and 1 / standard deviation."""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + EPS)
    return centred * inverse, inverse


def normalise_back(dn, n, inverse):
    """Return the cotangent of x: dn without its mean and its part along n, divided by the deviation."""
    mean, along = dn.mean(axis=-1, keepdims=True), (dn * n).mean(axis=-1, keepdims=True)
    return (dn - mean - n * along) * inverse


def split(x, heads):
    """Return x split into heads: (B, T, d) -> (B, h, T, d/h)."""
    B, T, d = x.shape
    return np.swapaxes(np.reshape(x, (B, T, heads, d // heads)), 1, 2)


def merge(x):
    """Return x with the heads joined: (B, h, T, d/h) -> (B, T, d)."""
    B, h, T, k = x.shape
    return np.reshape(np.swapaxes(x, 1, 2), (B, T, h * k))


def transpose(x):
    """Return x with its last two axes exchanged."""
    return np.swapaxes(x, -1, -2)


def normal_cdf(u):
    """Return the distribution function of the standard normal distribution."""
    return 0.5 * (1 + erf(u / np.sqrt(2)))


def forward(p: Params, x, heads: int, causal: bool = True):
    """Return the output of the layer, (B, T, d), and the values that the backward pass needs."""
    T, k = x.shape[1], x.shape[2] // heads
    n1, inv1 = normalise(x)
    a = n1 * p["gain1"] + p["shift1"]
    Q, K, V = (split(a @ p[f"W{n}"] + p[f"b{n}"], heads) for n in "qkv")  # (B, h, T, k)
    S = Q @ transpose(K) / np.sqrt(k)  # (B, h, T, T)
    if causal:  # a token attends to itself and to earlier tokens
        S = np.where(np.tri(T, dtype=bool), S, -np.inf)
    E = np.exp(S - np.max(S, axis=-1, keepdims=True))
    A = E / np.sum(E, axis=-1, keepdims=True)
    out = merge(A @ V)
    x1 = x + out @ p["Wo"] + p["bo"]
    n2, inv2 = normalise(x1)
    m = n2 * p["gain2"] + p["shift2"]
    u = m @ p["W1"] + p["b1"]  # (B, T, hidden)
    g = u * normal_cdf(u)
    y = x1 + g @ p["W2"] + p["b2"]
    cache = {"n1": n1, "inv1": inv1, "a": a, "Q": Q, "K": K, "V": V, "A": A, "out": out}
    return y, {**cache, "n2": n2, "inv2": inv2, "m": m, "u": u, "g": g}


def weight_gradient(x, dy):
    """Return the gradient of W in y = x W, summed over batch and tokens."""
    return np.einsum("bti,btj->ij", x, dy)


def backward(p: Params, cache: Params, dy: np.ndarray, heads: int) -> tuple[Params, np.ndarray]:
    """Return the gradients of all parameters and of the input, for the cotangent ``dy`` of the output."""
    n1, n2, A, V, u = cache["n1"], cache["n2"], cache["A"], cache["V"], cache["u"]
    grads: Params = {}

    # y = x1 + gelu(m W1 + b1) W2 + b2
    grads["W2"], grads["b2"] = weight_gradient(cache["g"], dy), dy.sum((0, 1))
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    du = (dy @ p["W2"].T) * (normal_cdf(u) + u * density)
    grads["W1"], grads["b1"] = weight_gradient(cache["m"], du), du.sum((0, 1))
    dm = du @ p["W1"].T
    grads["gain2"], grads["shift2"] = (dm * n2).sum((0, 1)), dm.sum((0, 1))
    dx1 = dy + normalise_back(dm * p["gain2"], n2, cache["inv2"])  # the residual bypasses the MLP

    # x1 = x + merge(A V) Wo + bo
    grads["Wo"], grads["bo"] = weight_gradient(cache["out"], dx1), dx1.sum((0, 1))
    dout = split(dx1 @ p["Wo"].T, heads)
    dA, dV = dout @ transpose(V), transpose(A) @ dout
    dS = A * (dA - np.sum(dA * A, axis=-1, keepdims=True))  # the softmax; 0 where A is masked to 0
    scale = 1 / np.sqrt(V.shape[-1])
    dQ, dK = scale * dS @ cache["K"], scale * transpose(dS) @ cache["Q"]
    da = np.zeros_like(dx1)
    for n, d_head in zip("qkv", (dQ, dK, dV), strict=True):
        flat = merge(d_head)
        grads[f"W{n}"], grads[f"b{n}"] = weight_gradient(cache["a"], flat), flat.sum((0, 1))
        da += flat @ p[f"W{n}"].T
    grads["gain1"], grads["shift1"] = (da * n1).sum((0, 1)), da.sum((0, 1))
    return grads, dx1 + normalise_back(da * p["gain1"], n1, cache["inv1"])
