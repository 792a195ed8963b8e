"""Polynomials, whose first coefficient is that of the highest power, and convolution, their product."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ..core import Array, Tracer, dtype_of, shape_of
from ..errors import MissingRuleError, at_line
from ..hooks import implements


@implements(np.convolve)
def convolve(a: Array, v: Array, mode: str = "full") -> Array:
    """Return `np.convolve`, as a product of the windows of the longer vector with the shorter."""
    a, v = (a, v) if shape_of(a)[0] >= shape_of(v)[0] else (v, a)
    m = shape_of(v)[0]
    before = {"full": m - 1, "same": m // 2, "valid": 0}[mode]  # entries of v before the start of a
    after = {"full": m - 1, "same": (m - 1) // 2, "valid": 0}[mode]
    return np.lib.stride_tricks.sliding_window_view(np.pad(a, (before, after)), m) @ np.flip(v)


@implements(np.correlate)
def correlate(a: Array, v: Array, mode: str = "valid") -> Array:
    """Return `np.correlate`."""
    if shape_of(v)[0] > shape_of(a)[0]:
        return np.conj(np.flip(correlate(v, a, mode)))
    return convolve(a, np.conj(np.flip(v)), mode)


@implements(np.polyval)
def polyval(p: Array, x: Array) -> Array:
    """Return `np.polyval`, by Horner's rule."""
    p = p if isinstance(p, Tracer) else np.asarray(p)
    return reduce(lambda y, c: y * x + c, p, np.zeros_like(x))


@implements(np.vander)
def vander(x: Array, N: int | None = None, increasing: bool = False) -> Array:
    """Return `np.vander`."""
    powers = np.arange(shape_of(x)[0] if N is None else N)
    return np.expand_dims(x, -1) ** (powers if increasing else powers[::-1])


@implements(np.polyfit)
def polyfit(x: Array, y: Array, deg: int, rcond: Any = None, full: bool = False, w: Any = None) -> Array:
    """Return `np.polyfit`, as a least-squares problem with columns of unit length."""
    if full:
        what = f"full=True has no derivative rule{at_line()}"
        raise MissingRuleError("np.polyfit", what, "Use np.linalg.lstsq(np.vander(x, deg + 1), y)")
    X, weight = vander(x, deg + 1), 1.0 if w is None else np.expand_dims(w, -1)
    size = np.sqrt(np.sum((X * weight) ** 2, axis=0))
    right = y if w is None else (y.T * w).T
    return (np.linalg.lstsq(X * weight / size, right, rcond)[0].T / size).T


@implements(np.roots)
def roots(p: Array) -> Array:
    """Return `np.roots`, the eigenvalues of the companion matrix.

    Coefficients that are zero at either end are removed first; those at the lower end are roots at 0.
    """
    filled = np.flatnonzero(p)
    zeros = shape_of(p)[0] - 1 - filled[-1]
    p = p[filled[0] : filled[-1] + 1]
    companion = np.concatenate([-(p[1:] / p[0])[None], np.eye(shape_of(p)[0] - 1, dtype=dtype_of(p))[:-1]])
    return np.concatenate([np.linalg.eigvals(companion), np.zeros(zeros, dtype_of(p))])
