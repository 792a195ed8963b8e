"""Indexing: functions that pick entries by their position, and their transpose, which adds there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, Tracer, dtype_of, ndim_of, shape_of
from ..errors import ArgumentError, at_line
from ..hooks import implement_with, implements
from ..vmap import align, repeated
from .shape import norm_axes

Index = tuple[Any, ...]  # integers, slices, None, Ellipsis, arrays of integers, and `HOLE`
HOLE = object()  # stands for a traced index, which is an argument: under vmap it differs by example


def filled(index: Index, at: Sequence[Any]) -> Index:
    """Return the index with its holes replaced by the arguments ``at``."""
    rest = iter(at)
    return tuple(next(rest) if p is HOLE else p for p in index) if at else index


def scatter(ct: np.ndarray, shape: tuple[int, ...], index: Index) -> Array:
    """Return zeros of ``shape`` with ``ct`` added at ``index``; repeated indices accumulate."""
    if len(shape) == len(index) == 1 and isinstance(index[0], np.ndarray) and ct.dtype == float and shape[0]:
        at = np.asarray(index[0], int).ravel() % shape[0]
        return np.bincount(at, ct.ravel(), shape[0])  # much faster than np.add.at
    out = np.zeros(shape, dtype_of(ct))
    if any(isinstance(i, np.ndarray) for i in index):
        np.add.at(out, index, ct)
    else:
        out[index] = ct
    return out


def batch_place(index: Index) -> int:
    """Return the position of the batch axis after indexing.

    If the index has arrays that are not next to each other, NumPy puts their axes first, before the batch
    axis.
    """
    places = [k for k, i in enumerate(index) if isinstance(i, (np.ndarray, int, np.integer))]
    ranks = [i.ndim for i in index if isinstance(i, np.ndarray)]
    separated = bool(places) and places[-1] - places[0] >= len(places)
    return max(ranks) if ranks and separated else 0


def index_per_example(
    prim: Primitive, args: Sequence[Array], batched: Sequence[bool], index: Index, **shape: Any
) -> Array:
    """Return the batch where each example has its own index: the number of the example is one more index.

    With slices, whose axes NumPy would move, the examples are indexed in a loop. ``shape`` is the shape of
    the result, passed to the primitive that adds.
    """
    x, *at = repeated(args, batched)
    size = shape_of(x)[0]
    if any(p is None or p is Ellipsis or isinstance(p, slice) for p in index):
        return np.stack([prim(x[i], *[a[i] for a in at], index=index, **shape) for i in range(size)])
    parts = align(filled(index, at), [p is HOLE for p in index])
    number = np.arange(size).reshape(-1, *[1] * (max(map(ndim_of, parts)) - 1))
    whole = (number, *[HOLE] * len(parts))
    return prim(x, *parts, index=whole, **{name: (size, *n) for name, n in shape.items()})


def pick_and_add(pick: str, add: str) -> tuple[Primitive, Primitive]:
    """Return the primitive of ``x[index]`` and the one that adds there, each the transpose of the other."""

    def pick_batch(args: Sequence[Array], batched: Sequence[bool], index: Index) -> Array:
        if len(args) > 1:
            return index_per_example(picks, args, batched, index)
        return np.moveaxis(picks(args[0], index=(slice(None), *index)), batch_place(index), 0)

    def add_batch(args: Sequence[Array], batched: Sequence[bool], shape: Any, index: Index) -> Array:
        if len(args) > 1:
            return index_per_example(adds, args, batched, index, shape=shape)
        g = np.moveaxis(args[0], 0, batch_place(index))
        return adds(g, shape=(shape_of(args[0])[0], *shape), index=(slice(None), *index))

    picks = Primitive(
        pick,
        lambda x, *at, index: np.asarray(x)[filled(index, at)],
        transpose={0: lambda ct, x, *at, index: adds(ct, *at, shape=x.shape, index=index)},
        batch=pick_batch,
    )
    adds = Primitive(
        add,
        lambda g, *at, shape, index: scatter(g, shape, filled(index, at)),
        transpose={0: lambda ct, g, *at, shape, index: picks(ct, *at, index=index)},
        shape=lambda g, *at, shape, index: shape,
        batch=add_batch,
    )
    return picks, adds


getitem_p, scatter_p = pick_and_add("getitem", "scatter")
gather_p, spill_p = pick_and_add("gather", "spill")  # with indices among the arguments


def getitem(x: Array, index: Any) -> Array:
    """Return ``x[index]`` for every kind of index that NumPy accepts."""
    parts: list[Any] = []
    masked = False
    for part in index if type(index) is tuple else (index,):
        part = np.asarray(part, None if part else int) if isinstance(part, (list, tuple, range)) else part
        if isinstance(part, np.ndarray) and part.dtype == bool:
            masked = True
            parts.extend(np.nonzero(part))  # a mask of k axes becomes k arrays of integers
        elif isinstance(part, Tracer) and part.dtype.kind not in "iu":
            what = f"a traced array of dtype {part.dtype} cannot be an index{at_line()}"
            raise ArgumentError("getitem", what, "Use np.where, or np.argsort, which returns integers")
        else:
            parts.append(part)
    traced = [p for p in parts if isinstance(p, Tracer)]
    if traced:
        return gather_p(x, *traced, index=tuple(HOLE if isinstance(p, Tracer) else p for p in parts))
    if masked:
        np.empty(shape_of(x), bool)[index]  # lets NumPy refuse a mask of the wrong shape
    return getitem_p(x, index=tuple(parts))


traced_array: Any = Tracer
traced_array.__getitem__ = getitem

# --- NumPy's functions ------------------------------------------------------------------------------------


def at_axis(axis: int, part: Any) -> tuple[Any, ...]:
    """Return the index that takes ``part`` of one axis."""
    return (*(slice(None),) * axis, part)


def section(x: Array, axis: int, *bounds: int | None) -> Array:
    """Return ``slice(*bounds)`` of one axis."""
    return getitem(x, at_axis(normalize_axis_index(axis, ndim_of(x)), slice(*bounds)))


@implements(np.take)
def take(x: Array, indices: Any, axis: int | None = None, mode: str = "raise") -> Array:
    """Return `np.take`."""
    at: Any = indices if isinstance(indices, Tracer) else np.asarray(indices) * 1  # booleans become 0 and 1
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, ndim_of(x)))
    n = shape_of(x)[axis]
    if mode == "wrap":
        at = at % n
    elif mode == "clip":
        at = np.clip(at, 0, n - 1)
    return getitem(x, at_axis(axis, at))


@implements(np.take_along_axis)
def take_along_axis(x: Array, indices: Any, axis: int | None = -1) -> Array:
    """Return `np.take_along_axis`."""
    x, indices, axis = (x, indices, axis) if axis is not None else (np.ravel(x), np.ravel(indices), 0)
    index: list[Any] = list(np.ogrid[tuple(slice(n) for n in shape_of(x))])
    index[axis] = indices
    return getitem(x, tuple(index))


implements(np.compress)(lambda condition, x, axis=None: take(x, np.flatnonzero(condition), axis))
implements(np.extract)(lambda condition, x: take(x, np.flatnonzero(condition)))


@implements(np.flip)
def flip(x: Array, axis: Any = None) -> Array:
    """Return `np.flip`."""
    axes = norm_axes(axis, ndim_of(x))
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(ndim_of(x))))


def moved(function: Any, x: Array, *args: Any, **options: Any) -> Array:
    """Return ``function(x)`` for a function that only moves entries.

    Called on the positions 0, 1, 2, ... it returns the index of the result.
    """
    numbers = np.arange(x.size).reshape(shape_of(x))
    return getitem(np.ravel(x), function(numbers, *args, **options))


implement_with(moved, np.roll, np.rot90, np.tile, np.repeat, np.resize, np.delete)
implement_with(moved, np.flipud, np.fliplr)
implement_with(moved, np.diagonal, np.linalg.diagonal, np.fft.fftshift, np.fft.ifftshift)
implement_with(moved, np.lib.stride_tricks.sliding_window_view)
