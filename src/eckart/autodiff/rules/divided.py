"""Divided differences f[a, b] and f[a, b, c] of functions of one number, exact where arguments are equal.

Values are rows (..., 1, n), and ``cut``, a parameter of the function, is (..., 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core import Array
from ..errors import MissingRuleError, at_line
from .products import swap

Scalar = Callable[..., Any]


class Spectral(NamedTuple):
    """A function of one real number with its divided differences."""

    name: str
    f: Scalar  # (w, cut): f(w), a row
    first: Scalar  # (v, w, cut): f[v_i, w_j], a matrix
    second: Scalar  # (w, cut): f[w_i, w_k, w_j], (..., n, n, n)


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

    def second(w: Array, cut: Array) -> Array:
        if d2f is None:
            raise MissingRuleError(
                "eigfun", f"second derivatives need the second derivative of f{at_line()}", "Give d2f"
            )
        low, middle, high = triples(w)
        samples = [
            d2f(x + node * (y + z - 2 * x)) / 2
            for node in TRIANGLE
            for x, y, z in ((low, middle, high), (middle, high, low), (high, low, middle))
        ]
        (up, error), (down, more) = slope(high, middle), slope(middle, low)
        weights = [weight for weight in TRIANGLE.values() for _ in range(3)]
        return better(samples, weights, 4, up - down, error + more, high - low)[0]

    return Spectral("smooth", lambda w, cut: f(w), lambda v, w, cut: slope(swap(v), w)[0], second)


INTERVAL = {0.5 - 0.15**0.5: 5 / 18, 0.5: 4 / 9, 0.5 + 0.15**0.5: 5 / 18}  # Gauss: node and weight, degree 5
TRIANGLE = {  # Strang & Fix (1973), degree 4: the second and third barycentric coordinate, and the weight
    0.091576213509770743: 0.10995174365532187,
    0.44594849091596489: 0.22338158967801147,
}


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


def triples(w: Array) -> Array:
    """Return w_i, w_k, w_j over all triples, in order of size: (3, ..., n, n, n)."""
    w = w[..., 0, :]
    three = np.broadcast_arrays(w[..., :, None, None], w[..., None, :, None], w[..., None, None, :])
    return np.sort(np.stack(three), axis=0)


def shrink(name: str, slope: float, step: float) -> Spectral:
    """Return f(w) = slope w + step sign(w) where abs(w) > cut, 0 elsewhere: differences by branch, exact."""

    def branch(w: Array, cut: Array) -> Array:
        return np.sign(w) * (np.abs(w) > cut)

    def f(w: Array, cut: Array) -> Array:
        return (slope * np.abs(w) + step) * branch(w, cut)

    def first(v: Array, w: Array, cut: Array) -> Array:
        return between(swap(v), w, cut)

    def between(a: Array, b: Array, cut: Array) -> Array:
        here, there = branch(a, cut), branch(b, cut)
        same = here == there
        return np.where(same, slope * np.abs(here), (f(a, cut) - f(b, cut)) / np.where(same, 1, a - b))

    def second(w: Array, cut: Array) -> Array:
        (low, middle, high), cut = triples(w), cut[..., None]
        same = branch(low, cut) == branch(high, cut)  # then so is the middle, and there f is straight
        rise = between(high, middle, cut) - between(middle, low, cut)
        return np.where(same, 0.0, rise / np.where(same, 1, high - low))

    return Spectral(name, f, first, second)


KEEP, SIGN = shrink("low rank", 1.0, 0.0), shrink("polar", 0.0, 1.0)
