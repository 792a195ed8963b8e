"""Checks of derivatives, in order of increasing cost; a failure shows the entry, the primitive and the line.

1. The dot-product test <ct, J t> = <J' ct, t> compares the two modes up to rounding and needs no step.
2. The complex step Im f(x + i h t) / h compares with the function up to rounding, where every primitive on
   the tape is analytic (Squire & Trapp, SIAM Review 40, 1998); abs, norm, eigh, svd, cholesky, qr are not.
3. Central differences of fourth order with several steps compare with the function up to about 1e-9.
4. The Hessian must be symmetric, and the gradient as a function must pass the same checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..api import grad, jvp, vjp
from ..core import Array, Function, check_inexact, convert, dtype_of, shape_of
from ..errors import ArgumentError, CheckError, TieError
from ..jacobians import basis
from ..tree import flatten
from .wengert import record

STEPS, NARROW_STEPS = (1e-2, 1e-3, 1e-4, 1e-5), (3e-1, 1e-1, 3e-2, 1e-2)  # relative to the argument's size
ANALYTIC = frozenset(
    {
        "add",
        "subtract",
        "multiply",
        "divide",
        "negative",
        "positive",
        "power",
        "sin",
        "cos",
        "tan",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "square",
        "reciprocal",
        "sinh",
        "cosh",
        "tanh",
        "arcsin",
        "arccos",
        "arctan",
        "arcsinh",
        "arccosh",
        "arctanh",
        "expit",
        "matmul",
        "einsum",
        "sum",
        "cumsum",
        "reshape",
        "transpose",
        "broadcast_to",
        "concatenate",
        "getitem",
        "scatter",
        "gather",
        "fft.fft",
        "linalg.inv",
        "linalg.solve",
        "linalg.det",
        "scipy.linalg.expm",
        "scipy.linalg.solve_triangular",
    }
)


class Difference(NamedTuple):
    """A derivative by differences: the estimate, an estimate of its error, and the step."""

    value: Any
    error: Any
    step: Any


def check_grads(
    f: Function,
    x: Any,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    tol: float | None = None,
    seed: int = 0,
) -> None:
    """Check the derivatives of ``f`` against each other and against differences.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays, written in NumPy, that returns the same.
    x : array or tuple of arguments
        The point to check at, of a floating-point dtype; a tuple holds one entry for each argument.
    order : int, default 2
        The highest order of derivatives to check: 1 for first derivatives, 2 also for second ones.
    modes : sequence of {"fwd", "rev"}, default ("fwd", "rev")
        The modes to check.
    tol : float, optional
        The relative error to allow. The default is 1e-6, and 2e-2 in float32.
    seed : int, default 0
        The seed of the random directions.

    Raises
    ------
    CheckError
        If a derivative is wrong. The message shows the worst entry, both values, the step, and the primitive
        and line at fault.
    ArgumentError
        If ``x`` cannot be differentiated, or a mode is unknown.

    Notes
    -----
    The cost is about 20 evaluations of ``f`` for order 1, and as many of its gradient for each further order.
    Derivatives are compared along random directions, which reveals an error in any entry. An error below
    ``tol`` is accepted.

    Examples
    --------
    >>> check_grads(lambda x: np.sin(x) * x, np.array([1.0, 2.0]))
    """
    leaves, rebuild = flatten(x if isinstance(x, tuple) else (x,))
    leaves = [check_inexact("check_grads", a) for a in leaves]
    if not modes or set(modes) - {"fwd", "rev"}:
        what = f'modes must contain "fwd", "rev" or both, not {tuple(modes)}'
        raise ArgumentError("check_grads", what, 'Use modes=("fwd", "rev")')
    rng = np.random.default_rng(seed)

    def check(f: Function, order: int, tol: float, name: str) -> None:
        problem = disagreement(f, leaves, modes, tol, rng)
        if problem:
            raise CheckError("check_grads", f"{name}: {problem}{culprit(f, leaves, modes, tol)}")
        if order > 1:
            (weight,) = directions(rng, [f(*leaves)])
            gradient = grad(lambda *some: np.sum(np.real(f(*some) * weight)), tuple(range(len(leaves))))
            us, vs = directions(rng, leaves), directions(rng, leaves)
            left, right = pair(jvp(gradient, leaves, us)[1], vs), pair(jvp(gradient, leaves, vs)[1], us)
            if not abs(left - right) <= tol * max(1.0, abs(left)):
                what = f"the Hessian is not symmetric: u'Hv = {left:.9g} and v'Hu = {right:.9g}"
                raise CheckError("check_grads", what)
            check(flat(gradient), order - 1, 10 * tol, f"the gradient of {name}")

    limit = tol
    if limit is None:
        limit = 2e-2 if is_narrow(leaves) else 1e-6
    check(flat(lambda *some: f(*rebuild(list(some)))), order, limit, "f")


def flat(f: Function) -> Function:
    """Return ``f`` with all its results in one vector."""
    return lambda *xs: np.concatenate([np.ravel(y) for y in flatten(f(*xs))[0]])


def is_narrow(xs: Sequence[Array]) -> bool:
    """Return whether an array has a dtype narrower than float64."""
    return any(np.finfo(dtype_of(x)).eps > 1e-10 for x in xs)


def disagreement(f: Function, xs: Sequence[Any], modes: Sequence[str], tol: float, rng: Any) -> str:
    """Return the first error in the first derivatives of ``f``, which returns a vector; "" if all agree."""
    ts, (weight,) = directions(rng, xs), directions(rng, [f(*xs)])
    dot = jvp(f, xs, ts)[1] if "fwd" in modes else None
    cts = vjp(f, *xs)[1](weight) if "rev" in modes else ()
    if dot is not None and cts:
        left, right = pair([weight], [dot]), pair(cts, ts)
        sizes = [float(np.linalg.norm(c) * np.linalg.norm(t)) for c, t in zip(cts, ts, strict=True)]
        if not abs(left - right) <= 1e-3 * tol * max(1.0, *sizes):
            return f"forward and reverse disagree, <ct, J t> = {left:.9g} and <J' ct, t> = {right:.9g}"
    truth = stepped(f, xs, ts)
    if dot is not None:
        return compare("the derivative along a random direction, forward,", dot, truth, tol)
    weighted = Difference(pair([weight], [truth.value]), np.sum(truth.error), truth.step)
    return compare("a random combination of the derivatives, reverse,", pair(cts, ts), weighted, tol)


def directions(rng: Any, xs: Sequence[Array]) -> list[Array]:
    """Return random arrays of the shapes and dtypes of ``xs``."""
    return [convert(rng.standard_normal((*shape_of(x), 2)) @ [1, 1j], dtype_of(x)) for x in xs]


def pair(left: Sequence[Array], right: Sequence[Array]) -> float:
    """Return Re sum(a b) over two lists of arrays."""
    return sum(float(np.sum(np.real(np.multiply(a, b)))) for a, b in zip(left, right, strict=True))


def largest(x: Array) -> float:
    """Return the largest absolute value; 0 for an empty array."""
    return float(np.max(np.abs(x), initial=0))


def stepped(f: Function, xs: Sequence[Any], ts: Sequence[Any]) -> Difference:
    """Return the derivative along ``ts`` without rules: by the complex step if valid, or by differences.

    Whether it is valid shows in a recording with complex arguments, because `np.real` and `np.conj` leave no
    trace on real ones.
    """
    if all(dtype_of(x) == np.float64 for x in xs) and not np.iscomplexobj(f(*xs)):
        with suppress(TypeError):  # some functions accept real numbers only
            level, _ = record(f, [x + 0j for x in xs])
            if all(call.prim.name in ANALYTIC for call in level.calls):
                moved = [x + 1e-30j * t for x, t in zip(xs, ts, strict=True)]
                return Difference(np.imag(f(*moved)) / 1e-30, 0.0, 1e-30)
    return differences(f, xs, ts)


def differences(f: Function, xs: Sequence[Any], ts: Sequence[Any]) -> Difference:
    """Return central differences of fourth order, with the step where two successive steps agree best."""
    size = max(1e-3, *map(largest, xs)) / max(1e-300, *map(largest, ts))
    steps = [size * h for h in (NARROW_STEPS if is_narrow(xs) else STEPS)]

    def at(h: float) -> Array:
        moved = [x + np.asarray(h * t, dtype_of(x)) for x, t in zip(xs, ts, strict=True)]
        return np.multiply(f(*moved), 1.0)  # NumPy cannot subtract booleans

    def central(h: float) -> Array:
        return (at(h) - at(-h)) / (2 * h)

    estimates = np.array([(4 * central(h / 2) - central(h)) / 3 for h in steps])  # (steps, *out)
    gaps = np.abs(np.diff(estimates, axis=0))
    widest = np.max(gaps.reshape(len(gaps), -1), axis=1, initial=0)
    best = int(np.argmin(np.where(np.isfinite(widest), widest, np.inf)))
    return Difference(estimates[best + 1], gaps[best], steps[best + 1])


def compare(name: str, derivative: Array, truth: Difference, tol: float) -> str:
    """Return a description of the entry where a derivative is furthest from the truth; "" if all agree."""
    derivative, value = np.asarray(derivative), np.asarray(truth.value)
    error = np.abs(derivative - value)
    if np.all(error <= tol * max(1.0, largest(value)) + 10 * truth.error):
        return ""
    at = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))  # argmax prefers NaN
    step = np.broadcast_to(truth.step, error.shape)[at]
    return (
        f"entry {at} of {name} is {derivative[at]:.9g}, "
        f"but differences with step {step:.1g} give {value[at]:.9g}"
    )


def culprit(f: Function, xs: Sequence[Any], modes: Sequence[str], tol: float) -> str:
    """Return the first primitive whose own derivative fails the same check, and its line."""
    for call in record(f, xs)[0].calls:
        with suppress(TieError, np.linalg.LinAlgError):
            if call.xs and disagreement(flat(call.f), call.xs, modes, 10 * tol, np.random.default_rng(1)):
                return f"; the rule of `{call.prim.name}` is at fault, at {call.where}"
    return (
        "; each primitive alone agrees with differences, so f has a kink nearby or does not return the same "
        "result for the same arguments"
    )


def check_grad(f: Function, my_gradient: Function, x: Array, tol: float = 1e-6) -> float:
    """Check a gradient derived by hand and return its largest error.

    Parameters
    ----------
    f : callable
        A scalar function of one array. It need not be written in functions that have a derivative rule.
    my_gradient : callable
        A function of ``x`` that returns the gradient derived by hand, of the shape of ``x``.
    x : array
        The point to check at, of any shape and a floating-point dtype.
    tol : float, default 1e-6
        The error to allow, relative to the largest entry of the gradient (or to 1, if that is larger).

    Returns
    -------
    float
        The largest error over all entries, on the same scale.

    Raises
    ------
    CheckError
        If the gradient is wrong. The message shows the worst entry, its value in ``my_gradient`` and its
        value by differences.
    ArgumentError
        If ``x`` cannot be differentiated.

    Notes
    -----
    The cost is 16 evaluations of ``f`` for each entry of ``x``. The differences are accurate to about 1e-9.

    Examples
    --------
    >>> A = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> check_grad(lambda x: x @ A @ x, lambda x: 2 * A @ x, np.array([1.0, 2.0])) < 1e-9
    True
    """
    x = np.asarray(check_inexact("check_grad", x))
    mine = np.asarray(my_gradient(x))
    if mine.shape != x.shape:
        what = f"your gradient has shape {mine.shape}, but the argument has shape {x.shape}"
        raise CheckError("check_grad", what, "Return an array of the shape of the argument")
    entries = [differences(f, [x], [unit]) for unit in basis(x)]
    value = np.reshape([entry.value for entry in entries], x.shape)
    step = np.reshape([entry.step for entry in entries], x.shape)
    problem = compare("your gradient", mine, Difference(value, 0.0, step), tol)
    if problem:
        raise CheckError("check_grad", problem)
    return largest(mine - value) / max(1.0, largest(value))
