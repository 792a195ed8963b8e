"""Statistics and interpolation of samples: quantiles, covariances, gradients, phases, partitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array, dtype_of, ndim_of, shape_of
from ..hooks import implements
from ..rules.elementwise import frozen
from ..rules.indexing import take
from ..rules.shape import norm_axes
from .sums import in_front


@implements(np.quantile)
def quantile(x: Array, q: Any, axis: Any = None, *, method: str = "linear", keepdims: bool = False) -> Array:
    """Return `np.quantile`.

    The quantile of the positions 0 ... n - 1 shows between which sorted values it lies.
    """
    q = q if isinstance(q, (int, float)) else np.asarray(q)  # a Python number does not widen the dtype
    ordered = np.sort(in_front(x, axis), axis=0)
    n, *rest = shape_of(ordered)
    position = np.quantile(np.arange(n), q, method=method)  # type: ignore[call-overload]
    low = np.floor(position).astype(int)
    dtype = np.result_type(dtype_of(x), q) if position.dtype.kind == "f" else dtype_of(x)
    part = np.reshape(position - low, (*np.shape(q), *[1] * len(rest))).astype(dtype)
    high = np.ceil(position).astype(int)  # equal to low at a whole position; the next value may be infinite
    below, above = (np.take(ordered, i, axis=0) for i in (low, high))
    value = below + part * (above - below)
    value = np.where(np.isnan(ordered[-1]), np.nan, value)  # NaN is sorted to the end
    axes = norm_axes(axis, ndim_of(x))
    return np.expand_dims(value, tuple(np.ndim(q) + a for a in axes)) if keepdims else value


@implements(np.percentile)
def percentile(x: Array, q: Any, axis: Any = None, **options: Any) -> Array:
    """Return `np.percentile`."""
    return quantile(x, q / 100 if isinstance(q, (int, float)) else np.divide(q, 100), axis, **options)


implements(np.median)(lambda x, axis=None, *, keepdims=False: quantile(x, 0.5, axis, keepdims=keepdims))


@implements(np.cov)
def cov(
    m: Array,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
) -> Array:
    """Return `np.cov`."""
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
def corrcoef(x: Array, y: Any = None, rowvar: bool = True) -> Array:
    """Return `np.corrcoef`."""
    C = cov(x, y, rowvar)
    if ndim_of(C) == 0:
        return C / C
    deviation = np.sqrt(np.real(np.diagonal(C)))
    return C / deviation[:, None] / deviation


@implements(np.gradient)
def gradient(f: Array, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Return `np.gradient`: difference quotients of neighbours, weighted by the step on the other side."""
    axes = norm_axes(axis, ndim_of(f))
    steps = spacing * len(axes) if len(spacing) == 1 else spacing or (1.0,) * len(axes)
    out = tuple(slope_along(f, a, h, edge_order) for a, h in zip(axes, steps, strict=True))
    return out[0] if len(out) == 1 else out


def slope_along(f: Array, axis: int, spacing: Any, edge_order: int) -> Array:
    """Return `np.gradient` along one axis."""
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


full_turns = frozen("full turns", lambda x, discont, period: np.unwrap(x, discont, period=period) - x)


@implements(np.unwrap)
def unwrap(p: Array, discont: Any = None, axis: int = -1, *, period: float = 2 * np.pi) -> Array:
    """Return `np.unwrap`: the phases plus whole turns, whose derivative is zero."""
    p = np.moveaxis(p, axis, -1)
    return np.moveaxis(p + full_turns(p, discont=discont, period=period), -1, axis)


@implements(np.interp)
def interp(x: Array, xp: Array, fp: Array) -> Array:
    """Return `np.interp`."""
    at = np.clip(np.searchsorted(xp, x, side="right"), 1, shape_of(xp)[0] - 1)
    x0, x1, y0, y1 = (take(values, i) for values in (xp, fp) for i in (at - 1, at))
    step = np.where(x1 == x0, 1, x1 - x0)  # if xp is a single point, x0 and x1 are the same
    return y0 + np.clip((x - x0) / step, 0, 1) * (y1 - y0)


@implements(np.partition)
def partition(x: Array, kth: Any, axis: int = -1) -> Array:
    """Return `np.partition`."""
    return np.take_along_axis(x, np.argpartition(x, kth, axis=axis), axis)
