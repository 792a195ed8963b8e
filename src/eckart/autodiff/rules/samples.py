"""Arrays as samples: quantiles, covariances, difference quotients, correlations, polynomials."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ..core import Array, Tracer, dtype_of, shape_of
from ..hooks import implements
from .products import convolve
from .reduce import frozen, plain
from .shape import ndim_of, norm_axes


@implements(np.quantile)
def quantile(
    x: Array, q: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Array:  # fmt: skip
    """Return `np.quantile`: that of the places 0 ... n - 1 says which sorted values it lies between."""
    q = q if isinstance(q, (int, float)) else np.asarray(q)  # a Python number widens no dtype
    axes = norm_axes(axis, ndim_of(x))
    kept = [i for i in range(ndim_of(x)) if i not in axes]
    n = int(np.prod([shape_of(x)[a] for a in axes], dtype=int))
    rows = np.reshape(np.transpose(x, (*axes, *kept)), (n, *[shape_of(x)[i] for i in kept]))
    ordered = np.sort(rows, axis=0)
    place = np.quantile(np.arange(n), q, method=method)  # type: ignore[call-overload]
    low = np.floor(place).astype(int)
    part = np.reshape(place - low, (*np.shape(q), *[1] * len(kept))).astype(np.result_type(dtype_of(x), q))
    below, above = (np.take(ordered, i, axis=0) for i in (low, np.minimum(low + 1, n - 1)))
    value = below + part * (above - below)
    value = np.where(np.isnan(ordered[-1]), np.nan, value)  # NaN is sorted to the end
    return np.expand_dims(value, tuple(np.ndim(q) + a for a in axes)) if keepdims else value


@implements(np.percentile)
def percentile(x: Array, q: Any, *args: Any, **options: Any) -> Array:
    return quantile(x, q / 100 if isinstance(q, (int, float)) else np.divide(q, 100), *args, **options)


implements(np.median)(lambda x, axis=None, *args, **options: quantile(x, 0.5, axis, *args, **options))


@implements(np.cov)
def cov(
    m: Array, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Array:  # fmt: skip
    rows = [np.atleast_2d(x) for x in (m, y) if x is not None]
    X = np.concatenate([x if rowvar or shape_of(x)[0] == 1 else x.T for x in rows])
    repeats, weights = (1 if w is None else np.asarray(w, float) for w in (fweights, aweights))
    w = np.broadcast_to(repeats * weights, shape_of(X)[1:])
    ddof = int(not bias) if ddof is None else ddof
    total = np.sum(w)
    X = X - np.sum(X * w, axis=1, keepdims=True) / total
    count = total - ddof * (np.sum(w * weights) / total)
    return np.squeeze((X * w) @ np.conj(X).T / count)


@implements(np.corrcoef)
def corrcoef(x: Array, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Array:
    C = cov(x, y, rowvar)
    if ndim_of(C) == 0:
        return C / C
    deviation = np.sqrt(np.real(np.diagonal(C)))
    return C / deviation[:, None] / deviation


@implements(np.gradient)
def gradient(f: Array, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Return `np.gradient`: the quotients of neighbours, weighted by the step on the other side."""
    axes = norm_axes(axis, ndim_of(f))
    steps = spacing * len(axes) if len(spacing) == 1 else spacing or (1.0,) * len(axes)
    out = tuple(slope_along(f, a, h, edge_order) for a, h in zip(axes, steps, strict=True))
    return out[0] if len(out) == 1 else out


def slope_along(f: Array, axis: int, spacing: Any, edge_order: int) -> Array:
    f = np.moveaxis(f, axis, -1)
    steps = np.diff(spacing) if ndim_of(spacing) else spacing * np.ones(shape_of(f)[-1] - 1, dtype_of(f))
    q = np.diff(f) / steps
    before, after = steps[:-1], steps[1:]
    bend = np.diff(q) / (before + after)
    inner = q[..., :-1] + bend * before
    first, last = q[..., :1], q[..., -1:]
    if edge_order == 2:
        first, last = first - bend[..., :1] * steps[:1], last + bend[..., -1:] * steps[-1:]
    return np.moveaxis(np.concatenate([first, inner, last], axis=-1, dtype=dtype_of(f)), -1, axis)


@implements(np.correlate)
def correlate(a: Array, v: Array, mode: str = "valid") -> Array:
    if shape_of(v)[0] > shape_of(a)[0]:
        return np.conj(np.flip(correlate(v, a, mode)))
    return convolve(a, np.conj(np.flip(v)), mode)


turns = frozen("turns", lambda x, discont, period: np.unwrap(x, discont, period=period) - x)


@implements(np.unwrap)
def unwrap(p: Array, discont: Any = None, axis: int = -1, *, period: float = 2 * np.pi) -> Array:
    p = np.moveaxis(p, axis, -1)
    return np.moveaxis(p + turns(p, discont=discont, period=period), -1, axis)


implements(np.cumulative_sum)(lambda x, /, *, axis=0, dtype=None: np.cumsum(x, axis, dtype=dtype))
implements(np.cumulative_prod)(lambda x, /, *, axis=0, dtype=None: np.cumprod(x, axis, dtype=dtype))

# --- polynomials, the highest power first -------------------------------------------------------------------


@implements(np.polyval)
def polyval(p: Array, x: Array) -> Array:
    p = p if isinstance(p, Tracer) else np.asarray(p)
    return reduce(lambda y, c: y * x + c, p, np.zeros_like(x))  # Horner


@implements(np.vander)
def vander(x: Array, N: int | None = None, increasing: bool = False) -> Array:
    powers = np.arange(shape_of(x)[0] if N is None else N)
    return np.expand_dims(x, -1) ** (powers if increasing else powers[::-1])


@implements(np.polyfit)
def polyfit(x: Array, y: Array, deg: int, rcond: Any = None, full: bool = False, w: Any = None) -> Array:
    X, weight = vander(x, deg + 1), 1.0 if w is None else np.expand_dims(w, -1)
    size = np.sqrt(np.sum((X * weight) ** 2, axis=0))
    right = y if w is None else (y.T * w).T
    return (np.linalg.lstsq(X * weight / size, right, rcond)[0].T / size).T


@implements(np.roots)
def roots(p: Array) -> Array:
    """Return the eigenvalues of the companion matrix; zeros at the ends are taken off by their values."""
    filled = np.flatnonzero(p)
    zeros = shape_of(p)[0] - 1 - filled[-1]
    p = p[filled[0] : filled[-1] + 1]
    companion = np.concatenate([-(p[1:] / p[0])[None], np.eye(shape_of(p)[0] - 1, dtype=dtype_of(p))[:-1]])
    return np.concatenate([np.linalg.eigvals(companion), np.zeros(zeros, dtype_of(p))])


# --- what is decided by the values at hand, and has derivative 0 --------------------------------------------

for function in (np.around, np.isreal, np.iscomplex, np.isposinf, np.isneginf, np.array_equiv, np.lexsort,
                 np.nanargmax, np.nanargmin, np.diag_indices_from, np.tril_indices_from,
                 np.triu_indices_from, np.common_type):  # fmt: skip
    implements(function)(plain(function))
