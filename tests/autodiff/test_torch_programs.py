"""Gradients and Hessian-vector products of random programs of twenty steps agree with torch."""

import numpy as np
import pytest

from eckart.autodiff import check_grads, grad, hvp, jvp, vmap

torch = pytest.importorskip("torch")

# For each step: the shapes it accepts, and the step in NumPy and in torch.
UNARY = [
    (lambda s: True, np.sin, torch.sin),
    (lambda s: True, np.tanh, torch.tanh),
    (lambda s: True, lambda x: np.exp(x / 4), lambda x: torch.exp(x / 4)),
    (lambda s: True, lambda x: x**2 / 3, lambda x: x**2 / 3),
    (lambda s: True, lambda x: 1 / (2 + np.cos(x)), lambda x: 1 / (2 + torch.cos(x))),
    (lambda s: True, lambda x: np.log(1 + x * x), lambda x: torch.log(1 + x * x)),
    (lambda s: True, lambda x: np.sqrt(1 + np.abs(x)), lambda x: torch.sqrt(1 + torch.abs(x))),
    (lambda s: True, lambda x: np.where(x > 0.1, x, 0.2 * x), lambda x: torch.where(x > 0.1, x, 0.2 * x)),
    (lambda s: True, lambda x: np.clip(x, -0.7, 1.3), lambda x: torch.clip(x, -0.7, 1.3)),
    (lambda s: True, lambda x: 2.0 - x, lambda x: 2.0 - x),
    (lambda s: True, lambda x: -x * 0.5, lambda x: -x * 0.5),
    (
        lambda s: len(s) > 0,
        lambda x: x.mean(axis=-1, keepdims=True) * x,
        lambda x: x.mean(-1, keepdim=True) * x,
    ),
    (lambda s: len(s) > 0, lambda x: x - np.max(x, axis=0), lambda x: x - torch.amax(x, 0)),
    (lambda s: len(s) > 0, lambda x: np.min(x, axis=-1), lambda x: torch.amin(x, -1)),
    (lambda s: len(s) > 0, lambda x: np.sum(x, axis=0), lambda x: x.sum(0)),
    (lambda s: len(s) > 0, lambda x: np.cumsum(x, axis=-1) / 2, lambda x: torch.cumsum(x, -1) / 2),
    (lambda s: len(s) > 0, lambda x: np.sort(x, axis=-1) * 0.9, lambda x: torch.sort(x, -1)[0] * 0.9),
    (lambda s: len(s) > 0, lambda x: np.flip(x, 0), lambda x: torch.flip(x, (0,))),
    (lambda s: len(s) > 0, lambda x: np.prod(np.tanh(x), axis=0), lambda x: torch.prod(torch.tanh(x), 0)),
    (lambda s: len(s) > 0, lambda x: x[..., ::2], lambda x: x[..., ::2]),
    (lambda s: len(s) > 0, lambda x: x[[0, -1, 0]], lambda x: x[[0, -1, 0]]),
    (lambda s: len(s) > 0, lambda x: x[None, 0], lambda x: x[None, 0]),
    (lambda s: len(s) > 0, lambda x: np.reshape(x, -1), lambda x: torch.reshape(x, (-1,))),
    (lambda s: len(s) > 0, lambda x: np.concatenate([x, 2 * x]), lambda x: torch.concatenate([x, 2 * x])),
    (lambda s: len(s) > 1, lambda x: x.T, lambda x: x.permute(*range(x.ndim)[::-1])),
    (lambda s: len(s) > 1, lambda x: np.swapaxes(x, 0, -1), lambda x: torch.swapaxes(x, 0, -1)),
    (lambda s: len(s) > 1, lambda x: np.var(x, axis=1), lambda x: torch.var(x, 1, correction=0)),
    (
        lambda s: len(s) > 1,
        lambda x: np.linalg.norm(x, axis=-1),
        lambda x: torch.linalg.vector_norm(x, dim=-1),
    ),
    (lambda s: len(s) == 2, lambda x: x @ x.T / 5, lambda x: x @ x.T / 5),
]
BINARY = [
    (None, lambda a, b: a + b, lambda a, b: a + b),
    (None, lambda a, b: a * b / 2, lambda a, b: a * b / 2),
    (None, lambda a, b: a - b, lambda a, b: a - b),
    (None, lambda a, b: a / (1.5 + b * b), lambda a, b: a / (1.5 + b * b)),
    (None, np.maximum, torch.maximum),
    (None, np.logaddexp, torch.logaddexp),
    (None, lambda a, b: np.hypot(a, b + 1), lambda a, b: torch.hypot(a, b + 1)),
    (None, lambda a, b: (1 + a * a) ** np.tanh(b), lambda a, b: (1 + a * a) ** torch.tanh(b)),
    ("product", lambda a, b: np.matmul(a, b) / 3, lambda a, b: torch.matmul(a, b) / 3),
    ("outer", lambda a, b: np.einsum("i,j->ij", a, b), lambda a, b: torch.einsum("i,j->ij", a, b)),
]
SHAPES = [(), (4,), (3, 4), (4, 3), (2, 3, 4)]


def fits(kind, s, t):
    if kind == "product":
        return len(s) > 0 and len(t) > 0 and s[-1] == t[-2:][0] and len(s) + len(t) < 6
    if kind == "outer":
        return len(s) == len(t) == 1
    try:
        return np.prod(np.broadcast_shapes(s, t)) < 200
    except ValueError:
        return False


def program(seed, steps=20):
    """Return inputs and a list of steps: (numbers of the arrays, function of NumPy, function of torch)."""
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(s) for s in SHAPES]
    shapes, calls = list(SHAPES), []
    while len(calls) < steps:
        late = lambda: int(len(shapes) * (1 - rng.random() ** 2 * 0.999))  # mostly recent arrays  # noqa: E731
        if rng.random() < 0.6:
            accepts, in_numpy, in_torch = UNARY[rng.integers(len(UNARY))]
            at = (min(late(), len(shapes) - 1),)
            if not accepts(shapes[at[0]]):
                continue
        else:
            kind, in_numpy, in_torch = BINARY[rng.integers(len(BINARY))]
            at = tuple(min(late(), len(shapes) - 1) for _ in range(2))
            if not fits(kind, shapes[at[0]], shapes[at[1]]):
                continue
        shape = np.shape(in_numpy(*[np.ones(shapes[i]) for i in at]))
        if np.prod(shape, dtype=int) < 200:
            shapes.append(shape)
            calls.append((at, in_numpy, in_torch))
    return inputs, calls


def run(inputs, calls, xp):
    """Run a program with the library ``xp`` and return a number that depends on every array."""
    arrays = list(inputs)
    for at, in_numpy, in_torch in calls:
        step = in_numpy if xp is np else in_torch
        arrays.append(step(*[arrays[i] for i in at]))
    total = 0.0
    for x in arrays:
        total = total + xp.mean(xp.tanh(x))
    return total


@pytest.mark.parametrize("seed", range(40))
def test_random_program_agrees_with_torch(seed):
    inputs, calls = program(seed)
    ours = lambda xs: run(xs, calls, np)  # noqa: E731
    g = grad(ours)(inputs)
    ts = [torch.tensor(x, requires_grad=True) for x in inputs]
    want = torch.autograd.grad(run(ts, calls, torch), ts, create_graph=True)
    for a, b in zip(g, want, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-9, atol=1e-11)
    vs = [np.random.default_rng(seed + 1).standard_normal(x.shape) for x in inputs]
    along = sum((w * torch.tensor(v)).sum() for w, v in zip(want, vs, strict=True))
    twice = torch.autograd.grad(along, ts)
    for a, b in zip(hvp(ours, inputs, vs), twice, strict=True):
        known = np.isfinite(b.numpy())  # torch returns NaN for the second derivative of a norm at 0
        assert known.mean() > 0.5
        np.testing.assert_allclose(
            np.where(known, a, 0), np.where(known, b.numpy(), 0), rtol=1e-8, atol=1e-10
        )
    slope = sum(np.sum(a * v) for a, v in zip(g, vs, strict=True))
    np.testing.assert_allclose(jvp(ours, (inputs,), (vs,))[1], slope, rtol=1e-9, atol=1e-11)
    both = vmap(grad(ours))([np.stack([x, x + 0.01]) for x in inputs])
    for k, shift in enumerate((0, 0.01)):
        for a, b in zip(both, grad(ours)([x + shift for x in inputs]), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-9, atol=1e-11)


def test_random_program_passes_check_grads():
    inputs, calls = program(1)
    check_grads(lambda xs: run(xs, calls, np), (inputs,))
