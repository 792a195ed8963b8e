"""A Transformer layer with its backward pass written by hand.

Pre-norm, as in GPT-2 (Xiong et al., 2020, arXiv:2002.04745):

    x1 = x  + Attention(LayerNorm(x))
    y  = x1 + MLP(LayerNorm(x1))

with B sequences of T tokens of width d, h heads of width d/h, and the exact GELU in the MLP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erf

EPS = 1e-5  # of the layer norms

Params = dict[str, Any]


def parameters(rng: np.random.Generator, d: int, hidden: int) -> Params:
    """Return random weights and biases, all of them away from zero so that nothing hides."""
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
    """Return the cotangent of x: what is left of dn without its mean and without its part along n."""
    mean, along = dn.mean(axis=-1, keepdims=True), (dn * n).mean(axis=-1, keepdims=True)
    return (dn - mean - n * along) * inverse


def split(x, heads):
    """(B, T, d) -> (B, h, T, d/h)"""
    B, T, d = x.shape
    return np.swapaxes(np.reshape(x, (B, T, heads, d // heads)), 1, 2)


def merge(x):
    """(B, h, T, d/h) -> (B, T, d)"""
    B, h, T, k = x.shape
    return np.reshape(np.swapaxes(x, 1, 2), (B, T, h * k))


def turn(x):
    return np.swapaxes(x, -1, -2)


def normal_cdf(u):
    return 0.5 * (1 + erf(u / np.sqrt(2)))


def forward(p: Params, x, heads: int, causal: bool = True):
    """Return the output of the layer, (B, T, d), and what the backward pass needs."""
    T, k = x.shape[1], x.shape[2] // heads
    n1, inv1 = normalise(x)
    a = n1 * p["gain1"] + p["shift1"]
    Q, K, V = (split(a @ p[f"W{n}"] + p[f"b{n}"], heads) for n in "qkv")  # (B, h, T, k)
    S = Q @ turn(K) / np.sqrt(k)  # (B, h, T, T)
    if causal:  # a token sees itself and those before it
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
    return y, {"n1": n1, "inv1": inv1, "a": a, "Q": Q, "K": K, "V": V, "A": A, "out": out,
               "n2": n2, "inv2": inv2, "m": m, "u": u, "g": g}  # fmt: skip


def weight(x, dy):
    """Return the gradient of W in y = x W, summed over batch and tokens."""
    return np.einsum("bti,btj->ij", x, dy)


def backward(p: Params, kept: Params, dy: np.ndarray, heads: int) -> tuple[Params, np.ndarray]:
    """Return the gradients of all parameters and of the input, for the cotangent ``dy`` of the output."""
    n1, n2, A, V, u = kept["n1"], kept["n2"], kept["A"], kept["V"], kept["u"]
    grads: Params = {}

    # y = x1 + gelu(m W1 + b1) W2 + b2
    grads["W2"], grads["b2"] = weight(kept["g"], dy), dy.sum((0, 1))
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    du = (dy @ p["W2"].T) * (normal_cdf(u) + u * density)
    grads["W1"], grads["b1"] = weight(kept["m"], du), du.sum((0, 1))
    dm = du @ p["W1"].T
    grads["gain2"], grads["shift2"] = (dm * n2).sum((0, 1)), dm.sum((0, 1))
    dx1 = dy + normalise_back(dm * p["gain2"], n2, kept["inv2"])  # the residual goes past the MLP

    # x1 = x + merge(A V) Wo + bo
    grads["Wo"], grads["bo"] = weight(kept["out"], dx1), dx1.sum((0, 1))
    dout = split(dx1 @ p["Wo"].T, heads)
    dA, dV = dout @ turn(V), turn(A) @ dout
    dS = A * (dA - np.sum(dA * A, axis=-1, keepdims=True))  # the softmax; 0 where A is masked to 0
    scale = 1 / np.sqrt(V.shape[-1])
    dQ, dK = scale * dS @ kept["K"], scale * turn(dS) @ kept["Q"]
    da = np.zeros_like(dx1)
    for n, d_head in zip("qkv", (dQ, dK, dV), strict=True):
        flat = merge(d_head)
        grads[f"W{n}"], grads[f"b{n}"] = weight(kept["a"], flat), flat.sum((0, 1))
        da += flat @ p[f"W{n}"].T
    grads["gain1"], grads["shift1"] = (da * n1).sum((0, 1)), da.sum((0, 1))
    return grads, dx1 + normalise_back(da * p["gain1"], n1, kept["inv1"])
