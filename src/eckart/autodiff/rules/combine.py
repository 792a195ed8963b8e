"""Functions that combine arrays: `where` chooses by a mask, `concatenate` and `stack` join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, Tracer, Transposes, dtype_of, ndim_of, shape_of, total
from ..hooks import implements
from ..vmap import repeated
from .indexing import section

# --- choosing -------------------------------------------------------------------------------------------


def where_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any]) -> Any:
    """Return each tangent where its argument is chosen; a product with the mask could give NaN * 0."""
    _, ta, tb = tangents
    chosen = None if ta is None else where_p(args[0], ta, 0.0)
    return total(chosen, None if tb is None else where_p(args[0], 0.0, tb))


where_p: Primitive = Primitive(
    "where",
    np.where,
    where_jvp,
    transpose={
        1: lambda ct, mask, a, b: where_p(mask, ct, 0.0),
        2: lambda ct, mask, a, b: where_p(mask, 0.0, ct),
    },
    shape=lambda mask, a, b: np.broadcast_shapes(shape_of(mask), shape_of(a), shape_of(b)),
    batch=True,
)


@implements(np.where)
def where(condition: Array, a: Any = None, b: Any = None) -> Any:
    """Return `np.where`."""
    if a is None:
        return np.nonzero(condition)
    if dtype_of(condition).kind in "fc":
        condition = np.not_equal(condition, 0)  # convert it to a mask, which has no tangent
    return where_p(condition, a, b)


# --- joining --------------------------------------------------------------------------------------------


def concatenate_back(i: int) -> Any:
    """Return the transpose in array i: its section of the cotangent."""

    def back(ct: Array, *arrays: Any, axis: int) -> Array:
        start = sum(a.shape[axis] for a in arrays[:i])
        return section(ct, axis, start, start + arrays[i].shape[axis])

    return back


concatenate_p: Primitive = Primitive(
    "concatenate",
    lambda *arrays, axis: np.concatenate(arrays, axis),
    transpose=Transposes(concatenate_back),
    joint=True,
    batch=lambda args, batched, axis: concatenate_p(*repeated(args, batched), axis=axis + 1),
)


@implements(np.concatenate, np.concat)
def concatenate(arrays: Sequence[Array], axis: int | None = 0, *, dtype: Any = None) -> Array:
    """Return `np.concatenate`."""
    parts: list[Any] = [a if isinstance(a, Tracer) else np.asarray(a) for a in arrays]
    if axis is None:
        parts, axis = [np.ravel(a) for a in parts], 0
    out = concatenate_p(*parts, axis=normalize_axis_index(axis, ndim_of(parts[0])))
    return out if dtype is None else out.astype(dtype)


@implements(np.stack)
def stack(arrays: Sequence[Array], axis: int = 0, *, dtype: Any = None) -> Array:
    """Return `np.stack`."""
    return concatenate([np.expand_dims(a, axis) for a in arrays], axis, dtype=dtype)
