"""Putting arrays together and in another order: `concatenate`, `split`, `flip`, `roll`, `pad`, `diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Each, Primitive, Tracer, shape_of
from ..hooks import implements
from ..vmap import repeated
from .indexing import getitem, scatter_p
from .shape import ndim_of, norm_axes, reshape, swapaxes


def concatenate_back(i: int) -> Any:
    def back(ct: Array, *arrays: Any, axis: int) -> Array:
        start = sum(a.shape[axis] for a in arrays[:i])
        return ct[(slice(None),) * axis + (slice(start, start + arrays[i].shape[axis]),)]

    return back


def concatenate_batch(args: Sequence[Array], batched: Sequence[bool], axis: int) -> Array:
    return concatenate_p(*repeated(args, batched), axis=axis + 1)


concatenate_p: Primitive = Primitive(
    "concatenate",
    lambda *arrays, axis: np.concatenate(arrays, axis),
    transpose=Each(concatenate_back),
    joint=True,
    batch=concatenate_batch,
)


@implements(np.concatenate, np.concat)
def concatenate(
    arrays: Sequence[Array], axis: int | None = 0, dtype: Any = None, casting: Any = None
) -> Array:
    parts: list[Any] = [a if isinstance(a, Tracer) else np.asarray(a) for a in arrays]
    if axis is None:
        parts, axis = [np.ravel(a) for a in parts], 0
    return concatenate_p(*parts, axis=normalize_axis_index(axis, ndim_of(parts[0])))


@implements(np.stack)
def stack(arrays: Sequence[Array], axis: int = 0, dtype: Any = None, casting: Any = None) -> Array:
    parts: list[Any] = [a if isinstance(a, Tracer) else np.asarray(a) for a in arrays]
    return concatenate([np.expand_dims(a, axis) for a in parts], axis)


@implements(np.vstack)
def vstack(arrays: Sequence[Array], dtype: Any = None, casting: Any = None) -> Array:
    return concatenate([np.atleast_2d(a) for a in arrays], 0)


@implements(np.hstack)
def hstack(arrays: Sequence[Array], dtype: Any = None, casting: Any = None) -> Array:
    parts = [np.atleast_1d(a) for a in arrays]
    return concatenate(parts, 0 if ndim_of(parts[0]) == 1 else 1)


@implements(np.column_stack)
def column_stack(arrays: Sequence[Array]) -> Array:
    return concatenate([np.reshape(a, (-1, 1)) if ndim_of(a) < 2 else a for a in arrays], 1)


@implements(np.block)
def block(arrays: Any) -> Array:
    if not isinstance(arrays, list):
        return arrays
    if not isinstance(arrays[0], list):
        return concatenate([np.atleast_2d(a) for a in arrays], -1)
    return concatenate([block(row) for row in arrays], -2)


@implements(np.append)
def append(x: Array, values: Array, axis: int | None = None) -> Array:
    return concatenate([x, values], axis)


@implements(np.array_split, np.split)
def split(x: Array, parts: Any, axis: int = 0) -> list[Array]:
    axis = normalize_axis_index(axis, ndim_of(x))
    cuts = (
        [len(c) for c in np.array_split(np.arange(shape_of(x)[axis]), parts)]
        if isinstance(parts, int)
        else None
    )
    stops = list(np.cumsum(cuts)[:-1]) if cuts is not None else list(parts)
    ends = zip([0, *stops], [*stops, None], strict=True)
    return [getitem(x, (slice(None),) * axis + (slice(a, b),)) for a, b in ends]


implements(np.vsplit)(lambda x, parts: split(x, parts, 0))
implements(np.hsplit)(lambda x, parts: split(x, parts, 0 if ndim_of(x) == 1 else 1))


@implements(np.flip)
def flip(x: Array, axis: Any = None) -> Array:
    axes = norm_axes(axis, ndim_of(x))
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(ndim_of(x))))


implements(np.flipud)(lambda x: flip(x, 0))
implements(np.fliplr)(lambda x: flip(x, 1))


@implements(np.rot90)
def rot90(x: Array, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Array:
    for _ in range(k % 4):
        x = flip(swapaxes(x, *axes), axes[0])
    return x


@implements(np.roll)
def roll(x: Array, shift: Any, axis: Any = None) -> Array:
    if axis is None:
        return reshape(roll(np.ravel(x), shift, 0), shape_of(x))
    axes = norm_axes(axis, ndim_of(x))
    for a, s in zip(axes, np.broadcast_to(shift, len(axes)), strict=True):
        n = shape_of(x)[a]
        x = np.take(x, (np.arange(n) - int(s)) % max(n, 1), axis=a)
    return x


@implements(np.repeat)
def repeat(x: Array, repeats: Any, axis: int | None = None) -> Array:
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return np.take(x, np.repeat(np.arange(shape_of(x)[axis]), repeats), axis=axis)


@implements(np.tile)
def tile(x: Array, reps: Any) -> Array:
    reps = np.atleast_1d(reps)
    n = max(len(reps), ndim_of(x))
    reps = [1] * (n - len(reps)) + [int(r) for r in reps]
    x = reshape(x, (1,) * (n - ndim_of(x)) + shape_of(x))
    for axis, r in enumerate(reps):
        x = concatenate([x] * r, axis) if r != 1 else x
    return x


@implements(np.pad)
def pad(x: Array, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Array:
    width = np.broadcast_to(pad_width, (ndim_of(x), 2))
    if mode != "constant" or np.any(constant_values):
        places = np.pad(np.arange(x.size).reshape(shape_of(x)), width, mode=mode)  # type: ignore[call-overload]
        if mode == "constant":
            kept = np.pad(np.ones(shape_of(x), bool), width)
            return np.where(kept, pad(x, pad_width), constant_values)
        return getitem(np.ravel(x), places)
    shape = tuple(int(n + a + b) for n, (a, b) in zip(shape_of(x), width, strict=True))
    inside = tuple(slice(int(a), int(a) + n) for n, (a, _) in zip(shape_of(x), width, strict=True))
    return scatter_p(x, shape=shape, index=inside)


@implements(np.diff)
def diff(x: Array, n: int = 1, axis: int = -1) -> Array:
    axis = normalize_axis_index(axis, ndim_of(x))
    lead = (slice(None),) * axis
    for _ in range(n):
        x = getitem(x, (*lead, slice(1, None))) - getitem(x, (*lead, slice(None, -1)))
    return x
