"""Every case of the table: both modes agree with differences and with each other, to second order and mapped.

Two kinds of tolerance, relative to the largest entry (or to 1 if that is smaller):

- `ROUNDING` for two computations of the same numbers in different order. Their error is about n eps cond,
  where n <= 30 is the number of entries and cond the condition number of the matrices in the table, at most
  100: 7e-13. The largest measured error is 2.5e-13.
- `DIFFERENCES` for differences of fourth order with step h = 1e-4. Their error is rounding, about eps / h =
  2e-12 times the size of intermediate results, because h^4 = 1e-16 is smaller. The largest
  measured error is 2e-10.
"""

import numpy as np
import pytest

from eckart.autodiff import grad, jvp, vjp, vmap
from support.autodiff_cases import CASES

ROUNDING, DIFFERENCES = 1e-11, 1e-8
EACH = pytest.mark.parametrize("case", CASES, ids=repr)


def direction(rng, x):
    t = rng.standard_normal(np.shape(x))
    if np.iscomplexobj(x):
        t = t + 1j * rng.standard_normal(np.shape(x))
    return t


def pair(a, b):
    """Return Re sum(a b), the pairing that defines the transpose."""
    return np.sum(np.real(np.asarray(a) * np.asarray(b)))


def moved(args, ts, h):
    return [x + h * t for x, t in zip(args, ts, strict=True)]


def differences(f, args, ts, h=1e-4):
    """Return the derivative along ``ts`` by differences of fourth order."""
    one = (f(*moved(args, ts, h)) - f(*moved(args, ts, -h))) / (2 * h)
    two = (f(*moved(args, ts, 2 * h)) - f(*moved(args, ts, -2 * h))) / (4 * h)
    return (4 * one - two) / 3


def close(a, b, tol):
    """Assert that the shapes are equal and the error is at most ``tol`` times the largest entry (or 1)."""
    assert np.shape(a) == np.shape(b)
    scale = max(1.0, np.abs(b).max(initial=0))
    assert np.abs(np.asarray(a) - b).max(initial=0) <= tol * scale


@EACH
def test_forward_mode_agrees_with_differences(case):
    ts = [direction(np.random.default_rng(7), x) for x in case.args]
    y, dy = jvp(case.f, case.args, ts)
    close(y, case.f(*case.args), ROUNDING)
    close(dy, differences(case.f, case.args, ts), DIFFERENCES)


@EACH
def test_reverse_mode_is_the_transpose_of_forward_mode(case):
    rng = np.random.default_rng(8)
    ts = [direction(rng, x) for x in case.args]
    y, pullback = vjp(case.f, *case.args)
    ct = direction(rng, y)
    _, dy = jvp(case.f, case.args, ts)
    cts = pullback(ct)
    assert [np.shape(c) for c in cts] == [np.shape(x) for x in case.args]
    left, right = pair(ct, dy), sum(pair(c, t) for c, t in zip(cts, ts, strict=True))
    assert abs(left - right) <= ROUNDING * max(1.0, abs(left), *[np.abs(c).max(initial=0) for c in cts])


def scalarised(case):
    """Return the case as a real function of all its arguments, with a random weight for each result."""
    y = case.f(*case.args)
    weight = direction(np.random.default_rng(9), y)
    return lambda *args: np.sum(np.real(case.f(*args) * weight))


@EACH
def test_second_derivatives_agree(case):
    """Hessian-vector products by all combinations of modes agree with each other and with differences."""
    f, n = scalarised(case), len(case.args)
    ts = [direction(np.random.default_rng(10), x) for x in case.args]
    gradient = grad(f, tuple(range(n)))
    _, forward = jvp(gradient, case.args, ts)
    for i in range(n):
        close(forward[i], differences(lambda *a, i=i: gradient(*a)[i], case.args, ts), DIFFERENCES)

    def along(*args):
        return sum(np.sum(np.real(g * t)) for g, t in zip(gradient(*args), ts, strict=True))

    for a, b in zip(grad(along, tuple(range(n)))(*case.args), forward, strict=True):
        close(a, b, ROUNDING)
    _, twice = jvp(lambda *a: jvp(f, a, ts)[1], case.args, ts)  # forward over forward
    close(twice, sum(pair(h, t) for h, t in zip(forward, ts, strict=True)), ROUNDING)


NARROW = {"float64": np.float32, "complex128": np.complex64}


@pytest.mark.parametrize("case", [c for c in CASES if c.float32], ids=repr)
def test_float32_stays_float32(case):
    args = [np.asarray(x).astype(NARROW[np.asarray(x).dtype.name]) for x in case.args]
    y, dy = jvp(case.f, args, args)
    assert dy.dtype == y.dtype
    _, pullback = vjp(case.f, *args)
    for g, x in zip(pullback(np.ones_like(y)), args, strict=True):
        assert g.dtype == x.dtype


@EACH
def test_vmap_agrees_with_a_loop(case):
    """The value, tangent and cotangents agree, with the first, the last and all arguments batched."""
    rng = np.random.default_rng(11)
    ts = [direction(rng, x) for x in case.args]

    def both(*args):
        y, pullback = vjp(case.f, *args)
        return y, jvp(case.f, args, ts)[1], pullback(np.ones_like(y))

    for subset in {(0,), (len(case.args) - 1,), tuple(range(len(case.args)))}:
        axes = tuple(0 if i in subset else None for i in range(len(case.args)))
        shift = np.array([0.0, 1e-3, -1e-3])
        args = [
            x if axis is None else np.stack([x + s * t for s in shift])
            for x, t, axis in zip(case.args, ts, axes, strict=True)
        ]
        value, tangent, cotangents = vmap(both, axes)(*args)
        for k in range(3):
            want = both(*[x if axis is None else x[k] for x, axis in zip(args, axes, strict=True)])
            close(value[k], want[0], ROUNDING)
            close(tangent[k], want[1], ROUNDING)
            for g, w in zip(cotangents, want[2], strict=True):
                close(g[k], w, ROUNDING)
