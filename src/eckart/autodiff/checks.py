"""Checks of derivatives, the cheapest first, with failures that name the entry, the primitive and the line.

1. The dot-product test <ct, J t> = <J' ct, t> compares the two modes to rounding and needs no step.
2. The complex step Im f(x + i h t) / h compares with the function to rounding, where every primitive on the
   tape is analytic (Squire & Trapp, SIAM Review 40, 1998); abs, norm, eigh, svd, cholesky and qr are not.
3. Central differences of fourth order over several steps compare with the function to about 1e-9.
4. The Hessian must be symmetric, and the same checks hold for the gradient as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .api import grad, jvp, select, vjp
from .core import Array, check_inexact, dtype_of, shape_of
from .errors import ArgumentError, CheckError, TieError
from .tree import flatten
from .wengert import record

STEPS = (1e-2, 1e-3, 1e-4, 1e-5)  # of the size of the argument
ANALYTIC = frozenset({
    "add", "subtract", "multiply", "divide", "negative", "positive", "power", "sin", "cos", "tan",
    "exp", "exp2", "expm1", "log", "log1p", "sqrt", "square", "reciprocal", "sinh", "cosh", "tanh",
    "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "expit", "matmul", "einsum", "sum",
    "cumsum", "reshape", "transpose", "broadcast_to", "concatenate", "getitem", "scatter", "gather",
    "take_along_axis", "fft.fft", "linalg.inv", "linalg.solve", "linalg.det", "scipy.linalg.expm",
    "scipy.linalg.solve_triangular",
})  # fmt: skip

Args = tuple[Any, ...]


class Difference(NamedTuple):
    """A derivative by differences: the estimate, its own error, and the step it was taken with."""

    value: np.ndarray
    error: np.ndarray
    step: float


def check_grads(
    f: Callable[..., Any],
    x: Any,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    tol: float | None = None,
    seed: int = 0,
) -> None:
    """Check the derivatives of ``f`` against each other and against differences; return None or raise.

    Parameters
    ----------
    f : callable
        From arrays, or trees of them, to arrays or trees of them.
    x : array, or tuple of arguments
        Where to check.
    order : int
        1 for derivatives, 2 for their derivatives too, and so on.
    modes : sequence of {"fwd", "rev"}
        What to check.
    tol : float, optional
        Relative error to allow; 1e-6, and 2e-2 in float32.
    seed : int
        Of the random directions.

    Raises
    ------
    CheckError
        Naming the worst entry, both values, the step, and the primitive and line at fault.

    Notes
    -----
    About 20 evaluations of ``f`` for order 1 and of its gradient for each further order.

    Examples
    --------
    >>> check_grads(lambda x: np.sin(x) * x, np.array([1.0, 2.0]))
    """
    args = x if isinstance(x, tuple) else (x,)
    leaves, rebuild = flatten(args)
    leaves = [check_inexact("check_grads", a) for a in leaves]
    unknown = set(modes) - {"fwd", "rev"}
    if unknown or not modes:
        raise ArgumentError("check_grads", f"modes are {tuple(modes)}", 'Write "fwd", "rev" or both')
    narrow = any(np.finfo(dtype_of(a)).eps > 1e-10 for a in leaves)
    limit = (2e-2 if narrow else 1e-6) if tol is None else tol

    def flat(*some: Array) -> Array:
        outs, _ = flatten(f(*rebuild(list(some))))
        parts = [np.ravel(y) for y in outs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    check_order(flat, leaves, order, tuple(modes), limit, np.random.default_rng(seed), "f")


def check_order(
    f: Callable[..., Any], xs: list[Any], order: int, modes: tuple[str, ...], tol: float, rng: Any, name: str
) -> None:
    y = np.asarray(f(*xs))
    ts = [direction(rng, x) for x in xs]
    weight = direction(rng, y)
    dot = jvp(f, xs, ts)[1] if "fwd" in modes else None
    cts = vjp(f, *xs)[1](weight) if "rev" in modes else None
    if dot is not None and cts is not None:
        left, right = pair([weight], [dot]), pair(cts, ts)
        norms = [
            np.linalg.norm(np.ravel(c)) * np.linalg.norm(np.ravel(t)) for c, t in zip(cts, ts, strict=True)
        ]
        size = max(1.0, *map(float, norms))
        if not abs(left - right) <= 1e-3 * tol * size:
            raise CheckError(
                "check_grads",
                f"{name}: forward and reverse disagree, <ct, J t> = {left:.9g} and <J' ct, t> = "
                f"{right:.9g}{culprit(f, xs, tol)}",
            )
    truth = stepped(f, xs, ts)
    if dot is not None:
        compare(f"{name}: the derivative along a random direction, forward,", dot, truth, tol, f, xs)
    else:
        weighted = Difference(
            np.asarray(pair([weight], [truth.value])), np.asarray(np.sum(truth.error)), truth.step
        )
        what = f"{name}: a random combination of the derivatives, reverse,"
        compare(what, pair(cts or (), ts), weighted, tol, f, xs)
    if order > 1:
        gradient = grad(lambda *some: np.sum(np.real(f(*some) * weight)), tuple(range(len(xs))))
        check_symmetry(gradient, xs, tol, rng)
        inner = lambda *some: np.concatenate([np.ravel(g) for g in gradient(*some)])  # noqa: E731
        check_order(inner, xs, order - 1, modes, 10 * tol, rng, f"the gradient of {name}")


def check_symmetry(gradient: Callable[..., Any], xs: list[Any], tol: float, rng: Any) -> None:
    us, vs = [direction(rng, x) for x in xs], [direction(rng, x) for x in xs]
    left, right = pair(jvp(gradient, xs, us)[1], vs), pair(jvp(gradient, xs, vs)[1], us)
    if not abs(left - right) <= tol * max(1.0, abs(left)):
        raise CheckError(
            "check_grads", f"the Hessian is not symmetric: u'Hv = {left:.9g} and v'Hu = {right:.9g}"
        )


def direction(rng: Any, x: Array) -> Array:
    t = rng.standard_normal(shape_of(x))
    if dtype_of(x).kind == "c":
        t = t + 1j * rng.standard_normal(shape_of(x))
    return np.asarray(t, dtype_of(x))


def pair(left: Sequence[Array], right: Sequence[Array]) -> float:
    """Return Re sum(a b) over two lists of arrays."""
    return sum(float(np.sum(np.real(np.asarray(a) * b))) for a, b in zip(left, right, strict=True))


def largest(x: Array) -> float:
    return float(np.abs(x).max(initial=0))


def worst(error: np.ndarray) -> tuple[int, ...]:
    """Return the place of the largest error; NaN is larger than any."""
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
    return tuple(int(i) for i in at)


def stepped(f: Callable[..., Any], xs: list[Any], ts: list[Any]) -> Difference:
    """Return the derivative along ``ts`` without rules: by the complex step if it holds, or differences.

    The tape is that of complex arguments: of real ones, `np.real` and `np.conj` leave no trace.
    """
    if all(dtype_of(x) == np.float64 for x in xs) and not np.iscomplexobj(f(*xs)):
        try:
            level, _ = record(f, [x + 0j for x in xs])
        except TypeError:  # a function of real numbers only
            return differences(f, xs, ts)
        if all(call.prim.name in ANALYTIC for call in level.calls):
            moved = [x + 1e-30j * t for x, t in zip(xs, ts, strict=True)]
            value = np.imag(f(*moved)) / 1e-30
            return Difference(value, np.zeros_like(value), 1e-30)
    return differences(f, xs, ts)


def differences(f: Callable[..., Any], xs: Sequence[Any], ts: Sequence[Any]) -> Difference:
    """Return central differences of fourth order with the step at which two successive steps agree best."""
    size = max(1e-3, *map(largest, xs)) / max(1e-300, *map(largest, ts))
    eps = max(np.finfo(dtype_of(x)).eps for x in xs)
    steps = STEPS if eps < 1e-10 else (3e-1, 1e-1, 3e-2, 1e-2)

    def central(h: float) -> Array:
        plus, minus = (
            [x + np.asarray(s * h * t, dtype_of(x)) for x, t in zip(xs, ts, strict=True)] for s in (1, -1)
        )
        return (np.asarray(f(*plus)) - np.asarray(f(*minus))) / (2 * h)

    found = [(4 * central(h * size / 2) - central(h * size)) / 3 for h in steps]
    gaps = [np.abs(a - b) for a, b in zip(found[1:], found[:-1], strict=True)]
    best = int(np.argmin([np.max(g, initial=0) if np.all(np.isfinite(g)) else np.inf for g in gaps]))
    return Difference(np.asarray(found[best + 1]), np.asarray(gaps[best]), steps[best + 1] * size)


def compare(
    what: str, got: Array, truth: Difference, tol: float, f: Callable[..., Any], xs: list[Any]
) -> None:
    got = np.asarray(got)
    error = np.abs(got - truth.value)
    if np.all(error <= tol * max(1.0, largest(truth.value)) + 10 * truth.error):
        return
    at = worst(error)
    raise CheckError(
        "check_grads",
        f"{what} is {got[at]:.9g} in entry {at}, and differences with step {truth.step:.1g} say "
        f"{truth.value[at]:.9g}{culprit(f, xs, tol)}",
    )


def culprit(f: Callable[..., Any], xs: list[Any], tol: float) -> str:
    """Return the primitive whose own derivative is furthest from its differences, and its line."""
    level, _ = record(f, xs)
    rng = np.random.default_rng(1)
    bound = 10 * tol
    text = "; each primitive by itself agrees with differences: a kink is near, or f is not a function"
    for call in level.calls:
        alone, values = select(call.prim, call.args, call.params, call.live)
        ts = [direction(rng, v) for v in values]
        try:
            outs, dots = jvp(alone, values, ts)
            many = isinstance(outs, tuple)
            for i, dot in enumerate(dots if many else (dots,)):
                part = (lambda *a, i=i, g=alone: g(*a)[i]) if many else alone
                found = differences(part, values, ts)
                gap = np.abs(dot - found.value) - 10 * found.error
                error = np.max(np.where(np.isnan(gap), np.inf, gap), initial=0) / max(
                    1.0, largest(found.value)
                )
                if error > bound:
                    bound, text = error, f"; the rule of `{call.prim.name}` is at fault, at {call.where}"
        except (TieError, np.linalg.LinAlgError):
            continue
    return text


def check_grad(f: Callable[..., Any], my_gradient: Callable[..., Any], x: Array, tol: float = 1e-6) -> float:
    """Check a gradient derived by hand; return its largest error, or raise.

    Parameters
    ----------
    f : callable
        A scalar function of one array; it need not be differentiable by this library.
    my_gradient : callable
        Its gradient as you derived it: same shape as ``x``.
    x : array
        Where to check.
    tol : float
        Error to allow, relative to the largest entry of the gradient.

    Returns
    -------
    float
        The largest error over the entries, on the same scale.

    Raises
    ------
    CheckError
        Naming the worst entry, your value and the value by differences.

    Examples
    --------
    >>> A = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> check_grad(lambda x: x @ A @ x, lambda x: 2 * A @ x, np.array([1.0, 2.0])) < 1e-9
    True
    """
    x = np.asarray(check_inexact("check_grad", x))
    mine = np.asarray(my_gradient(x))
    if mine.shape != x.shape:
        raise CheckError(
            "check_grad", f"your gradient has shape {mine.shape}, the argument {x.shape}", "Transpose it?"
        )
    truth, steps = np.empty_like(x, dtype=np.result_type(x, float)), np.empty(x.shape)
    for at in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[at] = 1
        found = differences(f, [x], [unit])
        truth[at], steps[at] = found.value, found.step
    error = np.abs(mine - truth) / max(1.0, largest(truth))
    if not np.all(error <= tol):
        at = worst(error)
        raise CheckError(
            "check_grad",
            f"entry {at} of your gradient is {mine[at]:.9g}, and differences with "
            f"step {steps[at]:.1g} say {truth[at]:.9g}",
        )
    return float(error.max(initial=0))
