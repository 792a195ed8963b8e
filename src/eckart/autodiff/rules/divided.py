"""Divided differences f[a, b] and f[a, b, c] of functions of one number, exact where arguments are equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core import Array
from ..errors import MissingRuleError, at_line

Scalar = Callable[..., Any]


class Spectral(NamedTuple):
    """A real function of numbers with its divided differences, all elementwise."""

    name: str
    f: Scalar
    first: Scalar  # (a, b): f[a, b]
    second: Scalar  # (a, b, c) with a <= b <= c: f[a, b, c]


# --- smooth functions ---------------------------------------------------------------------------------------

INTERVAL = {0.5 - 0.15**0.5: 5 / 18, 0.5: 4 / 9, 0.5 + 0.15**0.5: 5 / 18}  # Gauss: node and weight, degree 5
TRIANGLE = {  # Strang & Fix (1973), degree 4: the second and third barycentric coordinate, and the weight
    0.091576213509770743: 0.10995174365532187,
    0.44594849091596489: 0.22338158967801147,
}


def smooth(f: Scalar, df: Scalar, d2f: Scalar | None) -> Spectral:
    """Return a smooth function from its derivatives.

    f[a, b] is the mean of f' from a to b, and f[a, b, c] half the mean of f'' over the triangle. For close
    arguments the means, by Gauss's rules, are more exact than the quotients: see `better`.
    """

    def slope(a: Array, b: Array) -> tuple[Array, Array]:
        gap, fa, fb = a - b, f(a), f(b)
        samples = [df(b + node * gap) for node in INTERVAL]
        rounding = np.finfo(np.result_type(gap)).eps * (np.abs(fa) + np.abs(fb))
        return better(samples, list(INTERVAL.values()), 5, fa - fb, rounding, gap)

    def second(a: Array, b: Array, c: Array) -> Array:
        if d2f is None:
            what = f"second derivatives need the second derivative of f{at_line()}"
            raise MissingRuleError("eigfun", what, "Give d2f")
        corners = [(a, b, c), (b, c, a), (c, a, b)]
        samples = [d2f(x + node * (y + z - 2 * x)) / 2 for node in TRIANGLE for x, y, z in corners]
        weights = [weight for weight in TRIANGLE.values() for _ in corners]
        (up, error), (down, more) = slope(c, b), slope(b, a)
        return better(samples, weights, 4, up - down, error + more, c - a)[0]

    return Spectral("smooth", f, lambda a, b: slope(a, b)[0], second)


def better(
    samples: list[Array], weights: list[float], degree: int, rise: Array, rounding: Array, gap: Array
) -> tuple[Array, Array]:
    """Return the mean of samples of a derivative or the quotient rise / gap, what errs less, and its error.

    Samples of a smooth function that differ by a part r of their size have a mean that errs by less than
    about r^degree of their difference; the quotient errs by the rounding of the rise over the gap. No scale
    is assumed: log and sqrt vary with the size of the eigenvalues, exp does not.
    """
    spread, size = np.ptp(samples, 0), np.abs(samples).max(0)
    whole = np.where(gap == 0, 1, gap)
    by_mean = spread * (spread / np.where(size == 0, 1, size)) ** degree
    by_quotient = np.abs(rounding / whole)
    near = (gap == 0) | (by_mean <= by_quotient)
    value = np.where(near, sum(c * x for c, x in zip(weights, samples, strict=True)), rise / whole)
    return value, np.where(near, by_mean, by_quotient) + np.finfo(value.dtype).eps * np.abs(value)


# --- functions with a jump or a bend ------------------------------------------------------------------------


def shrink(name: str, slope: float, step: float) -> Spectral:
    """Return f(a) = slope a + step sign(a) where abs(a) > 1, 0 elsewhere: differences by branch, exact."""

    def branch(a: Array) -> Array:
        return np.sign(a) * (np.abs(a) > 1)

    def f(a: Array) -> Array:
        return (slope * np.abs(a) + step) * branch(a)

    def first(a: Array, b: Array) -> Array:
        same = branch(a) == branch(b)
        return np.where(same, slope * np.abs(branch(a)), (f(a) - f(b)) / np.where(same, 1, a - b))

    def second(a: Array, b: Array, c: Array) -> Array:
        same = branch(a) == branch(c)  # then so is b, and there f is straight
        return np.where(same, 0.0, (first(c, b) - first(b, a)) / np.where(same, 1, c - a))

    return Spectral(name, f, first, second)


KEEP, SIGN = shrink("low_rank", 1.0, 0.0), shrink("polar", 0.0, 1.0)
