"""Indexing: everything that picks entries by number, and its transposes, which add at those places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, Tracer, concrete, dtype_of, shape_of
from ..errors import ArgumentError, at_line
from ..hooks import implements
from ..vmap import repeated
from .shape import ndim_of, norm_axes

Index = tuple[Any, ...]  # whole numbers, slices, None, arrays of whole numbers; one for each axis


def batch_place(index: Index) -> int:
    """Return where a batch axis stands after indexing: NumPy puts the axes of arrays apart before it."""
    kinds = [isinstance(i, (np.ndarray, int, np.integer)) for i in index]
    first, count = kinds.index(True) if True in kinds else 0, sum(kinds)
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    return max(a.ndim for a in arrays) if arrays and not all(kinds[first : first + count]) else 0


def getitem_batch(args: Sequence[Array], batched: Any, index: Index) -> Array:
    return np.moveaxis(getitem_p(args[0], index=(slice(None), *index)), batch_place(index), 0)


getitem_p: Primitive = Primitive(
    "getitem",
    lambda x, index: x[index],
    transpose={0: lambda ct, x, index: scatter_p(ct, shape=x.shape, index=index)},
    batch=getitem_batch,
)


def scatter(ct: np.ndarray, shape: tuple[int, ...], index: Index) -> Array:
    """Return zeros of ``shape`` with ``ct`` added at ``index``; an entry indexed twice gets both."""
    if len(shape) == len(index) == 1 and isinstance(index[0], np.ndarray) and ct.dtype == float and shape[0]:
        return np.bincount(index[0].ravel() % shape[0], ct.ravel(), shape[0])  # much faster than add.at
    out = np.zeros(shape, dtype_of(ct))
    if any(isinstance(i, np.ndarray) for i in index):
        np.add.at(out, index, ct)
    else:
        out[index] = ct
    return out


def scatter_batch(args: Sequence[Array], batched: Any, shape: tuple[int, ...], index: Index) -> Array:
    g = np.moveaxis(args[0], 0, batch_place(index))
    return scatter_p(g, shape=(shape_of(args[0])[0], *shape), index=(slice(None), *index))


scatter_p: Primitive = Primitive(
    "scatter",
    scatter,
    transpose={0: lambda ct, g, shape, index: getitem_p(ct, index=index)},
    shape=lambda ct, shape, index: shape,
    batch=scatter_batch,
)


def getitem(x: Array, index: Any) -> Array:
    """Return ``x[index]``, with every kind of index that NumPy has, made explicit."""
    parts: list[Any] = []
    for part in index if type(index) is tuple else (index,):
        part = np.asarray(part) if isinstance(part, (list, np.ndarray)) else part
        if isinstance(part, np.ndarray) and part.dtype == bool:
            parts.extend(np.nonzero(part))  # a mask of k axes is k arrays of integers
        elif isinstance(part, Tracer) and part.dtype.kind not in "iu":
            raise ArgumentError(
                "getitem",
                f"an array of dtype {part.dtype} that is traced cannot be an index{at_line()}",
                "Use np.where, or np.argsort, which returns integers",
            )
        else:
            parts.append(part)
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        used = sum(p is not None for p in parts) - 1
        parts[at : at + 1] = [slice(None)] * (ndim_of(x) - used)
    traced = [p for p in parts if isinstance(p, Tracer)]
    if traced:
        return gather_p(x, *traced, index=tuple(HOLE if isinstance(p, Tracer) else p for p in parts))
    return getitem_p(x, index=tuple(parts))


traced_array: Any = Tracer
traced_array.__getitem__ = getitem


def along(axis: int, *index: Any) -> tuple[Any, ...]:
    """Return the index that takes ``slice(*index)`` of one axis."""
    return (*(slice(None),) * axis, slice(*index))


# --- under vmap: each example has its own index -----------------------------------------------------------

HOLE = object()  # the place of an index that is an argument


def filled(index: Index, traced: Sequence[Any]) -> Index:
    rest = iter(traced)
    whole = (next(rest) if p is HOLE else p for p in index)
    return tuple(np.asarray(p) if isinstance(p, np.generic) else p for p in whole)


def each_its_own(prim: Any) -> Any:
    """Return the batch rule: the example's number is one more index; with slices, which would move, loop."""

    def batch(args: Sequence[Array], batched: Sequence[bool], index: Index, **shape: Any) -> Array:
        x, *at = repeated(args, batched)
        size = shape_of(x)[0]
        if any(p is None or isinstance(p, slice) for p in index):
            return np.stack([prim()(x[i], *[p[i] for p in at], index=index, **shape) for i in range(size)])
        rank = max([ndim_of(p) for p in at] + [np.ndim(p) + 1 for p in index if p is not HOLE])
        at = [np.reshape(p, (size, *[1] * (rank - ndim_of(p)), *shape_of(p)[1:])) for p in at]
        examples = np.arange(size).reshape(-1, *[1] * (rank - 1))
        return prim()(x, *at, index=(examples, *index), **{k: (size, *n) for k, n in shape.items()})

    return batch


gather_p: Primitive = Primitive(
    "gather",
    lambda x, *at, index: x[filled(index, at)],
    transpose={0: lambda ct, x, *at, index: spill_p(ct, *at, shape=x.shape, index=index)},
    shape=lambda x, *at, index: np.empty(shape_of(x), bool)[filled(index, [concrete(a) for a in at])].shape,
    batch=each_its_own(lambda: gather_p),
)
spill_p: Primitive = Primitive(
    "spill",
    lambda g, *at, shape, index: scatter(g, shape, filled(index, at)),
    transpose={0: lambda ct, g, *at, shape, index: gather_p(ct, *at, index=index)},
    shape=lambda g, *at, shape, index: shape,
    batch=each_its_own(lambda: spill_p),
)

# --- NumPy's functions ------------------------------------------------------------------------------------


@implements(np.take)
def take(x: Array, indices: Any, axis: int | None = None, mode: str = "raise") -> Array:
    at: Any = indices if isinstance(indices, Tracer) else np.asarray(indices)
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, ndim_of(x)))
    n = shape_of(x)[axis]
    at = at % n if mode == "wrap" else np.clip(at, 0, n - 1) if mode == "clip" else at
    return getitem(x, (slice(None),) * axis + (at,))


@implements(np.take_along_axis)
def take_along_axis(x: Array, indices: Any, axis: int | None = -1) -> Array:
    x, indices, axis = (x, indices, axis) if axis is not None else (np.ravel(x), np.ravel(indices), 0)
    index: list[Any] = list(np.ogrid[tuple(slice(n) for n in shape_of(x))])
    index[axis] = indices
    return getitem(x, tuple(index))


def moved(*functions: Any, at: int = 0) -> None:
    """Enter functions that only move entries: what they do to 0, 1, 2, ... says which entry goes where.

    The array is argument number ``at``.
    """

    def enter(function: Any) -> None:
        @implements(function)
        def rule(*args: Any, **options: Any) -> Array:
            x = args[at]
            numbers = np.arange(x.size).reshape(shape_of(x))
            return getitem(np.ravel(x), function(*args[:at], numbers, *args[at + 1 :], **options))

    for function in functions:
        enter(function)


moved(np.roll, np.rot90, np.tile, np.repeat, np.resize, np.delete, np.flipud, np.fliplr, np.diagonal)
moved(np.linalg.diagonal, np.fft.fftshift, np.fft.ifftshift, np.lib.stride_tricks.sliding_window_view)
moved(np.compress, np.extract, at=1)  # behind a condition


@implements(np.flip)
def flip(x: Array, axis: Any = None) -> Array:
    axes = norm_axes(axis, ndim_of(x))
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(ndim_of(x))))
