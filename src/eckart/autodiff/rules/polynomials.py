"""Polynomials by their coefficients, the highest power first, as `np.polyval` has them."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ..core import Array, Tracer, dtype_of, shape_of
from ..errors import MissingRuleError, at_line
from ..hooks import implements


@implements(np.polyval)
def polyval(p: Array, x: Array) -> Array:
    p = p if isinstance(p, Tracer) else np.asarray(p)
    return reduce(lambda y, c: y * x + c, p, np.zeros_like(x))  # Horner


def same_length(a: Array, b: Array) -> tuple[Array, Array]:
    n = max(shape_of(a)[0], shape_of(b)[0])
    a, b = (np.concatenate([np.zeros(n - shape_of(x)[0], dtype_of(x)), x]) for x in (a, b))
    return a, b


implements(np.polyadd)(lambda a, b: np.add(*same_length(a, b)))
implements(np.polysub)(lambda a, b: np.subtract(*same_length(a, b)))
implements(np.polymul)(lambda a, b: np.convolve(a, b))


@implements(np.polyder)
def polyder(p: Array, m: int = 1) -> Array:
    for _ in range(m):
        p = p[:-1] * np.arange(shape_of(p)[0] - 1, 0, -1)
    return p


@implements(np.polyint)
def polyint(p: Array, m: int = 1, k: Any = None) -> Array:
    constants = np.broadcast_to(0.0 if k is None else k, m)
    for c in constants:
        p = np.concatenate([p / np.arange(shape_of(p)[0], 0, -1), np.reshape(c, 1)])
    return p


@implements(np.vander)
def vander(x: Array, N: int | None = None, increasing: bool = False) -> Array:
    powers = np.arange(shape_of(x)[0] if N is None else N)
    return np.expand_dims(x, -1) ** (powers if increasing else powers[::-1])


@implements(np.polyfit)
def polyfit(
    x: Array, y: Array, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False
) -> Array:
    if full or cov:
        raise MissingRuleError(
            "np.polyfit", f"full= and cov= have no derivative rule{at_line()}", "Leave them out"
        )
    X = vander(x, deg + 1)
    if w is not None:
        X, y = X * w[:, None], (y.T * w).T
    size = np.sqrt(np.sum(X * X, axis=0))
    return (np.linalg.lstsq(X / size, y, rcond)[0].T / size).T


@implements(np.roots)
def roots(p: Array) -> Array:
    """Return the eigenvalues of the companion matrix; zeros at the ends are taken off by their values."""
    filled = np.flatnonzero(p)
    zeros = shape_of(p)[0] - 1 - filled[-1]
    p = p[filled[0] : filled[-1] + 1]
    n = shape_of(p)[0]
    companion = np.concatenate([-(p[1:] / p[0])[None], np.eye(n - 1, dtype=dtype_of(p))[:-1]])
    return np.concatenate([np.linalg.eigvals(companion), np.zeros(zeros, dtype_of(p))])


@implements(np.poly)
def poly(zeros: Array) -> Array:
    zeros = zeros if len(shape_of(zeros)) == 1 else np.linalg.eigvals(zeros)
    return reduce(
        lambda p, z: np.convolve(p, np.stack([np.ones_like(z), -z])), zeros, np.ones(1, dtype_of(zeros))
    )
