"""Reductions: sums, means, running sums, maxima and minima, sorting.

Where a maximum or minimum is attained more than once, its cotangent is shared evenly among the positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, concrete, ndim_of, shape_of
from ..hooks import implements
from .elementwise import frozen
from .shape import norm_axes

Axis = int | tuple[int, ...] | None


def along_axes(name: str, fun: Callable[..., Any], jvp: Any = None, **rules: Any) -> Primitive:
    """Return a primitive with a parameter ``axes``, which its batch rule shifts by one."""

    def batch(args: Sequence[Array], batched: Any, axes: tuple[int, ...], **params: Any) -> Array:
        return prim(args[0], axes=tuple(a + 1 for a in axes), **params)

    prim = Primitive(name, fun, jvp, batch=batch, **rules)
    return prim


def kept(x: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of ``x`` with length 1 for the given axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape_of(x)))


def reduced(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """Return the shape of a reduction of ``x`` over the given axes."""
    return kept(x, axes) if keepdims else tuple(n for i, n in enumerate(shape_of(x)) if i not in axes)


def count(x: Array, axis: Axis) -> int:
    """Return how many entries are combined into one by a reduction along ``axis``."""
    return math.prod(shape_of(x)[a] for a in norm_axes(axis, ndim_of(x)))


# --- sums -------------------------------------------------------------------------------------------------
# Options are keyword-only, because NumPy's positional parameters include `out`.


def sum_back(ct: Array, x: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    """Return the cotangent, broadcast to the shape of ``x``."""
    if type(ct) in (np.ndarray, np.float64) and ct.size == 1:
        out = np.empty(x.shape, ct.dtype)
        out[...] = ct  # faster than a broadcast view, and so are the operations that follow
        return out
    return np.broadcast_to(ct if keepdims else np.reshape(ct, kept(x, axes)), x.shape)


sum_p = along_axes(
    "sum",
    lambda x, axes, keepdims: np.add.reduce(x, axes, keepdims=keepdims),
    transpose={0: sum_back},
    shape=reduced,
)
cumsum_p: Primitive = along_axes(
    "cumsum",
    lambda x, axes: np.cumsum(x, axes[0]),
    transpose={0: lambda ct, x, axes: np.flip(cumsum_p(np.flip(ct, axes), axes=axes), axes)},
)


@implements(np.sum)
def sum(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """Return `np.sum`."""
    x = x if dtype is None else x.astype(dtype)
    return sum_p(x, axes=norm_axes(axis, ndim_of(x)), keepdims=bool(keepdims))


@implements(np.mean)
def mean(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """Return `np.mean`."""
    return sum(x, axis, dtype=dtype, keepdims=keepdims) / count(x, axis)


def running(x: Array, axis: int | None, dtype: Any) -> tuple[Array, int]:
    """Return the array and the axis of a running sum or product; without an axis, the flattened array."""
    x = x if dtype is None else x.astype(dtype)
    return (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, ndim_of(x)))


@implements(np.cumsum)
def cumsum(x: Array, axis: int | None = None, *, dtype: Any = None) -> Array:
    """Return `np.cumsum`."""
    x, axis = running(x, axis, dtype)
    return cumsum_p(x, axes=(axis,))


# --- maxima, minima and sorting ---------------------------------------------------------------------------


def extreme_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], axes: Any, keepdims: bool) -> Array:
    """Return the mean of the tangents at the positions where the maximum or minimum is attained."""
    best = args[0] == (y if keepdims else np.reshape(y, kept(args[0], axes)))
    ties = np.sum(best, axis=axes, keepdims=True)
    if (concrete(ties) != 1).any():
        best = best / ties
    return np.sum(best * tangents[0], axis=axes, keepdims=keepdims)


def extreme(function: Any) -> Callable[..., Array]:
    """Return the rule of `np.max` or `np.min`."""
    prim = along_axes(
        function.__name__, lambda x, axes, keepdims: function(x, axes, keepdims=keepdims), extreme_jvp
    )

    def rule(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
        return prim(x, axes=norm_axes(axis, ndim_of(x)), keepdims=bool(keepdims))

    return rule


implements(np.max, np.amax)(extreme(np.max))
implements(np.min, np.amin)(extreme(np.min))


for function in (  # their results are positions, decisions or rounded values, whose derivative is zero
    np.argmax,
    np.argmin,
    np.argsort,
    np.argpartition,
    np.nanargmax,
    np.nanargmin,
    np.lexsort,
    np.searchsorted,
    np.digitize,
    np.nonzero,
    np.argwhere,
    np.flatnonzero,
    np.count_nonzero,
    np.all,
    np.any,
    np.isclose,
    np.allclose,
    np.array_equal,
    np.array_equiv,
    np.isin,
    np.isreal,
    np.iscomplex,
    np.isposinf,
    np.isneginf,
    np.isrealobj,
    np.round,
    np.around,
    np.linalg.matrix_rank,
    np.common_type,
    np.diag_indices_from,
    np.tril_indices_from,
    np.triu_indices_from,
    np.array_repr,
    np.array_str,
):
    implements(function)(frozen(function.__name__, function, batch=None))


@implements(np.sort)
def sort(x: Array, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Array:
    """Return `np.sort`."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return np.take_along_axis(x, np.argsort(x, axis=axis, kind="stable"), axis)
