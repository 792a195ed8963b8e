"""Reductions: sums, means, products, extremes, orders.

A product is taken by halves and a running product by doubling, so that their derivatives are products of
the other factors at any zero, to any order, and need no rule of their own. An extreme that is reached
more than once shares its cotangent evenly among the places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, concrete, dtype_of, shape_of
from ..hooks import implements
from .indexing import getitem, take, take_along_axis
from .shape import ndim_of, norm_axes

Axis = int | tuple[int, ...] | None


def shifted(prim: Any) -> Any:
    """Return the batch rule of a function with ``axes=``: behind the batch axis."""

    def batch(args: Sequence[Array], batched: Any, axes: tuple[int, ...], **params: Any) -> Array:
        return prim()(args[0], axes=tuple(a + 1 for a in axes), **params)

    return batch


def kept(x: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape with the axes reduced to length 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape_of(x)))


def sum_back(ct: Array, x: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    if type(ct) in (np.ndarray, np.float64) and ct.size == 1:
        return np.full(x.shape, ct, ct.dtype)  # faster than a view, and so is what comes after
    return np.broadcast_to(ct if keepdims else np.reshape(ct, kept(x, axes)), x.shape)


def sum_shape(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    return kept(x, axes) if keepdims else tuple(n for i, n in enumerate(shape_of(x)) if i not in axes)


sum_p: Primitive = Primitive(
    "sum", lambda x, axes, keepdims: np.add.reduce(x, axes, keepdims=keepdims),
    transpose={0: sum_back}, shape=sum_shape, batch=shifted(lambda: sum_p),
)  # fmt: skip


def extreme(fun: Any) -> Primitive:
    """Return the primitive for max or min."""

    def jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], axes: Any, keepdims: bool) -> Array:
        (x,), (t,) = args, tangents
        best = x == (y if keepdims else np.reshape(y, kept(x, axes)))
        count = np.sum(best, axis=axes, keepdims=True)
        if (concrete(count) != 1).any():
            best = best / count
        return np.sum(best * t, axis=axes, keepdims=keepdims)

    name = fun.__name__.removeprefix("a")
    prim = Primitive(name, lambda x, axes, keepdims: fun(x, axis=axes, keepdims=keepdims), jvp)
    prim.batch = shifted(lambda: prim)
    return prim


max_p, min_p = extreme(np.max), extreme(np.min)
cumsum_p: Primitive = Primitive(
    "cumsum", lambda x, axes: np.cumsum(x, axes[0]),
    transpose={0: lambda ct, x, axes: np.flip(cumsum_p(np.flip(ct, axes), axes=axes), axes)},
    batch=shifted(lambda: cumsum_p),
)  # fmt: skip

# NumPy's functions. Options can be given by name only: by position `out` stands among them.


@implements(np.sum)
def sum(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    x = x if dtype is None else x.astype(dtype)
    return sum_p(x, axes=norm_axes(axis, ndim_of(x)), keepdims=bool(keepdims))


@implements(np.max, np.amax)
def max(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return max_p(x, axes=norm_axes(axis, ndim_of(x)), keepdims=bool(keepdims))


@implements(np.min, np.amin)
def min(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return min_p(x, axes=norm_axes(axis, ndim_of(x)), keepdims=bool(keepdims))


@implements(np.ptp)
def ptp(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims)


def count(x: Array, axis: Axis) -> int:
    shape = shape_of(x)
    return math.prod(shape[a] for a in norm_axes(axis, len(shape)))


@implements(np.mean)
def mean(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    return sum(x, axis, dtype=dtype, keepdims=keepdims) / count(x, axis)


@implements(np.average)
def average(x: Array, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Array:
    if weights is None:
        return mean(x, axis, keepdims=keepdims)
    if isinstance(axis, int) and ndim_of(weights) == 1:
        weights = np.reshape(weights, [-1 if i == axis % ndim_of(x) else 1 for i in range(ndim_of(x))])
    weights = np.broadcast_to(weights, shape_of(x))
    return np.sum(x * weights, axis=axis, keepdims=keepdims) / np.sum(weights, axis=axis, keepdims=keepdims)


@implements(np.var)
def var(x: Array, axis: Axis = None, *, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Array:
    centred = x - mean(x, axis, dtype=dtype, keepdims=True)
    square, n = np.real(centred * np.conj(centred)), count(x, axis)
    return np.sum(square, axis=axis, keepdims=keepdims) / (n - ddof if n > ddof else 0)


@implements(np.std)
def std(x: Array, axis: Axis = None, **options: Any) -> Array:
    return np.sqrt(var(x, axis, **options))


@implements(np.prod)
def prod(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    x = x if dtype is None else x.astype(dtype)
    axes, shape = norm_axes(axis, ndim_of(x)), shape_of(x)
    final, n = sum_shape(x, axes, bool(keepdims)), count(x, axis)
    if n == 0:
        return np.ones(final, dtype_of(x))
    rest = [i for i in range(len(shape)) if i not in axes]
    x = np.reshape(np.transpose(x, (*axes, *rest)), (n, *[shape[i] for i in rest]))
    while n > 1:
        half = n // 2
        odd = [getitem(x, slice(2 * half, n))] if n % 2 else []
        x = np.concatenate([getitem(x, slice(half)) * getitem(x, slice(half, 2 * half)), *odd])
        n = shape_of(x)[0]
    return np.reshape(x, final)


@implements(np.cumsum)
def cumsum(x: Array, axis: int | None = None, dtype: Any = None) -> Array:
    x = x if dtype is None else x.astype(dtype)
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return cumsum_p(x, axes=(normalize_axis_index(axis, ndim_of(x)),))


@implements(np.cumprod)
def cumprod(x: Array, axis: int | None = None, dtype: Any = None) -> Array:
    x = x if dtype is None else x.astype(dtype)
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, ndim_of(x)))
    lead, n, step = (slice(None),) * axis, shape_of(x)[axis], 1
    while step < n:
        done = getitem(x, (*lead, slice(step)))
        pairs = getitem(x, (*lead, slice(step, n))) * getitem(x, (*lead, slice(n - step)))
        x, step = np.concatenate([done, pairs], axis), 2 * step
    return x


# --- orders -----------------------------------------------------------------------------------------------


def frozen(name: str, fun: Any) -> Primitive:
    """Return a primitive of derivative zero of one array, which takes stacks."""
    return Primitive(name, fun, lambda *args, **params: None, batch=True)


stop_gradient = frozen("stop_gradient", lambda x: x)


def plain(function: Any) -> Primitive:
    """Return a primitive of derivative zero: what it decides is decided by the values at hand."""
    name = function.__name__
    return Primitive(name, lambda *args, **options: function(*args, **options), lambda *a, **options: None)


for function in (np.argmax, np.argmin, np.argsort, np.all, np.any, np.isclose, np.allclose, np.array_equal,
                 np.nonzero, np.argwhere, np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize,
                 np.round, np.isin, np.argpartition, np.floor_divide, np.linalg.matrix_rank,
                 np.isrealobj, np.array_repr, np.array_str):  # fmt: skip
    implements(function)(plain(function))


@implements(np.sort)
def sort(x: Array, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Array:
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return take_along_axis(x, np.argsort(x, axis=axis, kind="stable"), axis)


@implements(np.partition)
def partition(x: Array, kth: Any, axis: int = -1) -> Array:
    return take_along_axis(x, np.argpartition(x, kth, axis=axis), axis)


@implements(np.trapezoid)
def trapezoid(y: Array, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Array:
    y = np.moveaxis(y, axis, -1)
    step = dx if x is None else np.diff(x) if ndim_of(x) == 1 else np.diff(np.moveaxis(x, axis, -1))
    return (
        np.sum((getitem(y, (..., slice(1, None))) + getitem(y, (..., slice(None, -1)))) * step, axis=-1) / 2
    )


@implements(np.interp)
def interp(x: Array, xp: Array, fp: Array) -> Array:
    at = np.clip(np.searchsorted(xp, x, side="right"), 1, shape_of(xp)[0] - 1)
    x0, x1, y0, y1 = take(xp, at - 1), take(xp, at), take(fp, at - 1), take(fp, at)
    share = np.clip((x - x0) / (x1 - x0), 0, 1)
    return y0 + share * (y1 - y0)
