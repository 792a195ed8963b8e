"""Putting arrays together and in another order: `concatenate`, `split`, `flip`, `roll`, `pad`, `diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Each, Primitive, Tracer, dtype_of, shape_of, zeros
from ..errors import MissingRuleError, at_line
from ..hooks import implements
from ..vmap import repeated
from .indexing import getitem, scatter_p
from .shape import ndim_of, norm_axes, reshape


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
    out = concatenate_p(*parts, axis=normalize_axis_index(axis, ndim_of(parts[0])))
    return out if dtype is None else out.astype(dtype)


@implements(np.stack)
def stack(arrays: Sequence[Array], axis: int = 0, dtype: Any = None, casting: Any = None) -> Array:
    parts: list[Any] = [a if isinstance(a, Tracer) else np.asarray(a) for a in arrays]
    return concatenate([np.expand_dims(a, axis) for a in parts], axis, dtype)


@implements(np.vstack)
def vstack(arrays: Sequence[Array], dtype: Any = None, casting: Any = None) -> Array:
    return concatenate([np.atleast_2d(a) for a in arrays], 0, dtype)


@implements(np.hstack)
def hstack(arrays: Sequence[Array], dtype: Any = None, casting: Any = None) -> Array:
    parts = [np.atleast_1d(a) for a in arrays]
    return concatenate(parts, 0 if ndim_of(parts[0]) == 1 else 1, dtype)


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


def atleast_3d(x: Array) -> Array:
    shape = shape_of(x)
    return reshape(x, (1, *shape, 1) if len(shape) == 1 else (*shape, *(1,) * (3 - len(shape))))


implements(np.atleast_3d)(atleast_3d)
implements(np.dstack)(lambda arrays: concatenate([atleast_3d(a) for a in arrays], 2))
implements(np.append)(lambda x, values, axis=None: concatenate([x, values], axis))
implements(np.unstack)(lambda x, axis=0: tuple(np.moveaxis(x, axis, 0)))


def cut(function: Any) -> None:
    """Enter `np.split` or its like: what it does to 0, 1, 2, ... says where to cut."""

    def rule(x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
        axis = normalize_axis_index(axis, ndim_of(x))
        runs = function(np.arange(shape_of(x)[axis]), indices_or_sections)
        ends = np.cumsum([len(run) for run in runs])
        return [
            getitem(x, (slice(None),) * axis + (slice(e - len(r), e),))
            for e, r in zip(ends, runs, strict=True)
        ]

    implements(function)(rule)


cut(np.split)
cut(np.array_split)
implements(np.vsplit)(lambda x, parts: np.split(x, parts, 0))
implements(np.hsplit)(lambda x, parts: np.split(x, parts, 0 if ndim_of(x) == 1 else 1))
implements(np.dsplit)(lambda x, parts: np.split(x, parts, 2))


def moved(function: Any) -> None:
    """Enter a function that only moves entries: what it does to 0, 1, 2, ... says which entry goes where."""

    def rule(x: Array, *args: Any, **options: Any) -> Array:
        places = function(np.arange(x.size).reshape(shape_of(x)), *args, **options)
        return getitem(np.ravel(x), places)

    implements(function)(rule)


for function in (np.roll, np.rot90, np.repeat, np.tile, np.resize, np.delete, np.rollaxis, np.flipud,
                 np.fliplr, np.fft.fftshift, np.fft.ifftshift,
                 np.lib.stride_tricks.sliding_window_view):  # fmt: skip
    moved(function)


@implements(np.flip)
def flip(x: Array, axis: Any = None) -> Array:
    axes = norm_axes(axis, ndim_of(x))
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(ndim_of(x))))


@implements(np.pad)
def pad(x: Array, pad_width: Any, mode: Any = "constant", **options: Any) -> Array:
    if mode == "constant":
        width = np.broadcast_to(pad_width, (ndim_of(x), 2))
        inside = tuple(slice(int(a), int(a) + n) for n, (a, _) in zip(shape_of(x), width, strict=True))
        around = np.pad(zeros(x), pad_width, mode, **options)
        inner = scatter_p(x, shape=around.shape, index=inside)
        return inner + around if np.any(around) else inner
    if mode not in ("edge", "reflect", "symmetric", "wrap") or options.get("reflect_type", "even") != "even":
        raise MissingRuleError(
            "np.pad",
            f"mode={mode!r} {options or ''} has no derivative rule (shape {shape_of(x)}){at_line()}",
            "Write np.concatenate, or another mode",
        )
    return getitem(np.ravel(x), np.pad(np.arange(x.size).reshape(shape_of(x)), pad_width, mode, **options))


@implements(np.diff)
def diff(x: Array, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Array:
    axis = normalize_axis_index(axis, ndim_of(x))
    lead = (slice(None),) * axis
    one = [1 if i == axis else k for i, k in enumerate(shape_of(x))]
    ends = [e if e is None or ndim_of(e) else np.broadcast_to(e, one) for e in (prepend, append)]
    if prepend is not None or append is not None:
        x = concatenate([part for part in (ends[0], x, ends[1]) if part is not None], axis)
    for _ in range(n):
        x = getitem(x, (*lead, slice(1, None))) - getitem(x, (*lead, slice(None, -1)))
    return x


@implements(np.linspace)
def linspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0,
) -> Any:  # fmt: skip
    gap = stop - start
    part = np.linspace(0.0, 1.0, num, endpoint, dtype=dtype_of(gap)).reshape(-1, *[1] * ndim_of(gap))
    out = np.moveaxis(start + part * gap, 0, axis)
    out = out if dtype is None else out.astype(dtype)
    return (out, gap / max(num - endpoint, 1)) if retstep else out
