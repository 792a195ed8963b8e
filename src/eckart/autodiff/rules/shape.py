"""Functions that move numbers and do not change them: all linear, each with its transpose.

Axes are made non-negative and shapes explicit before a primitive is called, so that the primitives
(lower case with no options left open) are few, and the NumPy functions around them are one-liners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..core import Array, Each, Primitive, Tracer, concrete, convert, dtype_of, shape_of, unbroadcast, zeros
from ..errors import ArgumentError, TracerError, at_line
from ..hooks import UFUNCS, implements
from ..vmap import align
from .elementwise import magnitude


def norm_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes as non-negative numbers; None is all of them."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    return normalize_axis_tuple(axis, ndim)


def ndim_of(x: Array) -> int:
    return len(shape_of(x))


# --- primitives ---------------------------------------------------------------------------------------

reshape_p: Primitive = Primitive(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    transpose={0: lambda ct, x, shape: reshape_p(ct, shape=x.shape)},
    batch=lambda args, batched, shape: reshape_p(args[0], shape=(shape_of(args[0])[0], *shape)),
)

transpose_p: Primitive = Primitive(
    "transpose",
    lambda x, axes: np.transpose(x, axes),
    transpose={0: lambda ct, x, axes: transpose_p(ct, axes=tuple(int(i) for i in np.argsort(axes)))},
    batch=lambda args, batched, axes: transpose_p(args[0], axes=(0, *(a + 1 for a in axes))),
)


def broadcast_back(ct: Array, x: Any, shape: tuple[int, ...]) -> Array:
    return unbroadcast(ct, x.shape)


def broadcast_batch(args: Sequence[Array], batched: Any, shape: tuple[int, ...]) -> Array:
    size, *rest = shape_of(args[0])
    x = reshape_p(args[0], shape=(size, *(1,) * (len(shape) - len(rest)), *rest))
    return broadcast_p(x, shape=(size, *shape))


broadcast_p: Primitive = Primitive(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    transpose={0: broadcast_back},
    batch=broadcast_batch,
)


def concatenate_back(i: int) -> Any:
    def back(ct: Array, *arrays: Any, axis: int) -> Array:
        start = sum(a.shape[axis] for a in arrays[:i])
        return ct[(slice(None),) * axis + (slice(start, start + arrays[i].shape[axis]),)]

    return back


def concatenate_batch(args: Sequence[Array], batched: Sequence[bool], axis: int) -> Array:
    size = next(shape_of(a)[0] for a, b in zip(args, batched, strict=True) if b)
    wide = [a if b else np.broadcast_to(a, (size, *shape_of(a))) for a, b in zip(args, batched, strict=True)]
    return concatenate_p(*wide, axis=axis + 1)


concatenate_p: Primitive = Primitive(
    "concatenate",
    lambda *arrays, axis: np.concatenate(arrays, axis),
    transpose=Each(concatenate_back),
    joint=True,
    batch=concatenate_batch,
)


def getitem_batch(args: Sequence[Array], batched: Any, index: tuple[Any, ...]) -> Array:
    out = getitem_p(args[0], index=(slice(None), *index))
    kinds = [isinstance(i, (np.ndarray, int, np.integer)) for i in index]
    first, count = kinds.index(True) if True in kinds else 0, sum(kinds)
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    if arrays and not all(kinds[first : first + count]):  # NumPy puts the indexed axes before the batch
        return np.moveaxis(out, max(a.ndim for a in arrays), 0)
    return out


getitem_p: Primitive = Primitive(
    "getitem",
    lambda x, index: x[index],
    transpose={0: lambda ct, x, index: scatter_p(ct, shape=x.shape, index=index)},
    batch=getitem_batch,
)


def scatter(ct: np.ndarray, shape: tuple[int, ...], index: tuple[Any, ...]) -> Array:
    """Return zeros of ``shape`` with ``ct`` added at ``index``; an entry indexed twice gets both."""
    out = np.zeros(shape, dtype_of(ct))
    if any(isinstance(i, np.ndarray) for i in index):
        np.add.at(out, index, ct)
    else:
        out[index] = ct
    return out


scatter_p: Primitive = Primitive(
    "scatter",
    scatter,
    transpose={0: lambda ct, g, shape, index: getitem_p(ct, index=index)},
    shape=lambda ct, shape, index: shape,
    batch=None,
)


def scatter_batch(args: Sequence[Array], batched: Any, shape: tuple[int, ...], index: Any) -> Array:
    g = args[0]
    kinds = [isinstance(i, (np.ndarray, int, np.integer)) for i in index]
    first, count = kinds.index(True) if True in kinds else 0, sum(kinds)
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    if arrays and not all(kinds[first : first + count]):
        g = np.moveaxis(g, 0, max(a.ndim for a in arrays))
    return scatter_p(g, shape=(shape_of(args[0])[0], *shape), index=(slice(None), *index))


scatter_p.batch = scatter_batch


def where_batch(args: Sequence[Array], batched: Sequence[bool]) -> Array:
    return where_p(*align(args, batched))


where_p: Primitive = (
    Primitive(  # where(mask, 0, b) and where(mask, a, 0): not a product, so that NaN * 0 cannot arise
        "where",
        lambda mask, a, b: np.where(mask, a, b),
        jvp=lambda y, args, tangents: where_jvp(y, args, tangents),
        transpose={
            1: lambda ct, mask, a, b: where_p(mask, ct, 0.0),
            2: lambda ct, mask, a, b: where_p(mask, 0.0, ct),
        },
        shape=lambda mask, a, b: np.broadcast_shapes(shape_of(mask), shape_of(a), shape_of(b)),
        batch=where_batch,
    )
)


def where_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any]) -> Any:
    _, ta, tb = tangents
    left = None if ta is None else where_p(args[0], ta, 0.0)
    right = None if tb is None else where_p(args[0], 0.0, tb)
    return right if left is None else left if right is None else left + right


astype_p: Primitive = Primitive(
    "astype", lambda x, dtype: convert(x, dtype), transpose={0: lambda ct, x, dtype: ct},
    batch=lambda args, batched, dtype: astype_p(args[0], dtype=dtype),
)  # fmt: skip
real_p: Primitive = Primitive(
    "real", np.real, transpose={0: lambda ct, x: ct}, batch=lambda args, batched: real_p(args[0])
)
imag_p: Primitive = Primitive(
    "imag", np.imag, transpose={0: lambda ct, x: ct * -1j}, batch=lambda args, batched: imag_p(args[0])
)
conj_p: Primitive = Primitive(
    "conj", np.conj, transpose={0: lambda ct, x: conj_p(ct)}, batch=lambda args, batched: conj_p(args[0])
)
complex_abs_p: Primitive = Primitive(
    "absolute", np.abs, jvp=lambda y, args, tangents: np.real(np.conj(np.sign(args[0])) * tangents[0]),
    batch=lambda args, batched: complex_abs_p(args[0]),
)  # fmt: skip
complex_sign_p: Primitive = Primitive(
    "complex sign",
    np.sign,
    jvp=lambda y, args, tangents: 1j * np.imag(np.conj(y) * tangents[0]) * y / np.abs(args[0]),
    batch=lambda args, batched: complex_sign_p(args[0]),
)


def is_complex(x: Array) -> bool:
    return dtype_of(x).kind == "c"


real_sign = UFUNCS[np.sign]
UFUNCS[np.absolute] = lambda x: complex_abs_p(x) if is_complex(x) else magnitude(x)
UFUNCS[np.sign] = lambda x: complex_sign_p(x) if is_complex(x) else real_sign(x)
UFUNCS[np.conjugate] = lambda x: conj_p(x) if is_complex(x) else x
implements(np.real)(lambda x: real_p(x) if is_complex(x) else x)
implements(np.imag)(lambda x: imag_p(x) if is_complex(x) else zeros(x))


@implements(np.angle)
def angle(z: Array, deg: bool = False) -> Array:
    return np.arctan2(np.imag(z), np.real(z)) * (180 / np.pi if deg else 1.0)


@implements(np.astype)
def astype(x: Array, dtype: Any, *args: Any, **options: Any) -> Array:
    dtype = np.dtype(dtype)
    if dtype.kind not in "fc":
        return (
            np.asarray(x.value).astype(dtype) if not isinstance(x.value, Tracer) else astype(x.value, dtype)
        )
    return x if dtype == x.dtype else astype_p(x, dtype=dtype)


# --- NumPy's functions --------------------------------------------------------------------------------


@implements(np.reshape)
def reshape(x: Array, shape: Any, *more: int, order: str = "C", copy: Any = None) -> Array:
    shape = (shape, *more) if more else shape if isinstance(shape, (tuple, list)) else (shape,)
    if order != "C":
        raise TracerError("np.reshape", f"only order='C' is known{at_line()}", "Transpose before and after")
    old, size = shape_of(x), int(np.prod(shape_of(x), dtype=int))
    if -1 in shape:
        rest = int(np.prod([n for n in shape if n != -1], dtype=int))
        shape = [size // rest if n == -1 and rest else n for n in shape]
    return x if old == tuple(shape) else reshape_p(x, shape=tuple(int(n) for n in shape))


implements(np.ravel)(lambda x, order="C": reshape(x, -1, order=order))
implements(np.shape)(shape_of)
implements(np.ndim)(ndim_of)
implements(np.size)(lambda x, axis=None: x.size if axis is None else x.shape[axis])
implements(np.iscomplexobj)(is_complex)
implements(np.isrealobj)(lambda x: not is_complex(x))
implements(np.result_type)(lambda *xs: np.result_type(*[getattr(x, "dtype", x) for x in xs]))
implements(np.copy)(lambda x, *args, **options: x)
implements(np.broadcast_to)(lambda x, shape, subok=False: broadcast_to(x, shape))
for make in (np.zeros_like, np.ones_like, np.empty_like, np.full_like):
    implements(make)(lambda x, *args, make=make, **options: make(zeros(x), *args, **options))


def broadcast_to(x: Array, shape: Any) -> Array:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return x if shape_of(x) == shape else broadcast_p(x, shape=shape)


@implements(np.broadcast_arrays)
def broadcast_arrays(*arrays: Array) -> tuple[Array, ...]:
    shape = np.broadcast_shapes(*[shape_of(a) for a in arrays])
    return tuple(np.broadcast_to(a, shape) for a in arrays)


@implements(np.transpose, np.permute_dims)
def transpose(x: Array, axes: Any = None, *more: int) -> Array:
    axes = (axes, *more) if more else axes
    n = ndim_of(x)
    order = tuple(range(n))[::-1] if axes is None else normalize_axis_tuple(axes, n)
    return x if order == tuple(range(n)) else transpose_p(x, axes=order)


@implements(np.swapaxes)
def swapaxes(x: Array, axis1: int, axis2: int) -> Array:
    order = list(range(ndim_of(x)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


implements(np.matrix_transpose, np.linalg.matrix_transpose)(lambda x: swapaxes(x, -1, -2))


@implements(np.moveaxis)
def moveaxis(x: Array, source: Any, destination: Any) -> Array:
    n = ndim_of(x)
    source, destination = normalize_axis_tuple(source, n), normalize_axis_tuple(destination, n)
    order = [i for i in range(n) if i not in source]
    for to, at in sorted(zip(destination, source, strict=True)):
        order.insert(to, at)
    return transpose(x, order)


@implements(np.expand_dims)
def expand_dims(x: Array, axis: Any) -> Array:
    axes = normalize_axis_tuple(axis, ndim_of(x) + len(np.atleast_1d(axis)))
    old = iter(shape_of(x))
    return reshape(x, [1 if i in axes else next(old) for i in range(ndim_of(x) + len(axes))])


@implements(np.squeeze)
def squeeze(x: Array, axis: Any = None) -> Array:
    shape = shape_of(x)
    drop = [i for i, n in enumerate(shape) if n == 1] if axis is None else norm_axes(axis, len(shape))
    return reshape(x, [n for i, n in enumerate(shape) if i not in drop])


implements(np.atleast_1d)(lambda x: reshape(x, 1) if ndim_of(x) == 0 else x)
implements(np.atleast_2d)(lambda x: x if ndim_of(x) > 1 else reshape(x, (1, -1)))


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
    if traced:  # under vmap: each example has its own index
        return gather_p(x, *traced, index=tuple(HOLE if isinstance(p, Tracer) else p for p in parts))
    return getitem_p(x, index=tuple(parts))


HOLE = object()  # the place of an index that is an argument


def filled(index: tuple[Any, ...], traced: Sequence[Any]) -> tuple[Any, ...]:
    rest = iter(traced)
    return tuple(next(rest) if p is HOLE else p for p in index)


gather_p: Primitive = Primitive(
    "gather", lambda x, *at, index: x[filled(index, at)],
    transpose={0: lambda ct, x, *at, index: spill_p(ct, *at, shape=x.shape, index=index)},
    shape=lambda x, *at, index: np.empty(shape_of(x), bool)[filled(index, [concrete(a) for a in at])].shape,
)  # fmt: skip
spill_p: Primitive = Primitive(
    "spill",
    lambda g, *at, shape, index: scatter(
        g, shape, tuple(np.asarray(p) if isinstance(p, np.generic) else p for p in filled(index, at))
    ),
    transpose={0: lambda ct, g, *at, shape, index: gather_p(ct, *at, index=index)},
    shape=lambda g, *at, shape, index: shape,
)


@implements(np.take)
def take(x: Array, indices: Any, axis: int | None = None, mode: str = "raise") -> Array:
    at = indices if isinstance(indices, Tracer) else np.asarray(indices)
    if axis is None:
        return getitem(np.ravel(x), at)
    return getitem(x, (slice(None),) * normalize_axis_index(axis, ndim_of(x)) + (at,))


@implements(np.take_along_axis)
def take_along_axis(x: Array, indices: Any, axis: int | None = -1) -> Array:
    if axis is None:
        return getitem(np.ravel(x), indices)
    axis = normalize_axis_index(axis, ndim_of(x))
    return along_p(x, indices, axis=axis)


def along(x: np.ndarray, indices: np.ndarray, axis: int) -> Array:
    return np.take_along_axis(x, indices, axis)


def along_back(ct: Array, x: Any, indices: np.ndarray, axis: int) -> Array:
    return spread_p(ct, indices, axis=axis, size=x.shape[axis])


def spread(ct: np.ndarray, indices: np.ndarray, axis: int, size: int) -> Array:
    """Return zeros with ``ct`` added at ``indices`` along the axis: the transpose of take_along_axis."""
    out = np.zeros((*ct.shape[:axis], size, *ct.shape[axis + 1 :]), ct.dtype)
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    np.add.at(out, tuple(grid), ct)
    return out


def along_batch(prim: Any) -> Any:
    def batch(args: Sequence[Array], batched: Sequence[bool], axis: int, **more: Any) -> Array:
        size = next(shape_of(a)[0] for a, b in zip(args, batched, strict=True) if b)
        wide = [
            a if b else np.broadcast_to(a, (size, *shape_of(a))) for a, b in zip(args, batched, strict=True)
        ]
        return prim(*wide, axis=axis + 1, **more)

    return batch


along_p: Primitive = Primitive(
    "take_along_axis", along, transpose={0: along_back},
    shape=lambda x, indices, axis: (*shape_of(x)[:axis], shape_of(indices)[axis], *shape_of(x)[axis + 1 :]),
)  # fmt: skip
spread_p: Primitive = Primitive(
    "spread_along_axis", spread,
    transpose={0: lambda ct, g, indices, axis, size: along_p(ct, indices, axis=axis)},
    shape=lambda g, indices, axis, size: (*shape_of(g)[:axis], size, *shape_of(g)[axis + 1 :]),
)  # fmt: skip
along_p.batch, spread_p.batch = along_batch(along_p), along_batch(spread_p)


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


@implements(np.where)
def where(condition: Array, a: Any = None, b: Any = None) -> Any:
    if a is None:
        return np.nonzero(condition)
    if isinstance(condition, Tracer) and condition.dtype.kind in "fc":
        condition = np.not_equal(condition, np.zeros(()))  # type: ignore[call-overload]
    return where_p(condition, a, b)


@implements(np.clip)
def clip(x: Array, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Array:
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def triangle(x: Array, k: int) -> Array:
    m, n = shape_of(x)[-2:]
    return np.tri(m, n, k, dtype=bool)


@implements(np.tril)
def tril(x: Array, k: int = 0) -> Array:
    return where_p(triangle(x, k), x, 0.0)


@implements(np.triu)
def triu(x: Array, k: int = 0) -> Array:
    return where_p(triangle(x, k - 1), 0.0, x)


@implements(np.diagonal, np.linalg.diagonal)
def diagonal(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    m, n = shape_of(x)[-2:]
    count = np.arange(max(0, min(m + min(offset, 0), n - max(offset, 0))))
    lead = (slice(None),) * (ndim_of(x) - 2)
    return getitem(x, (*lead, count + max(-offset, 0), count + max(offset, 0)))


@implements(np.diag)
def diag(x: Array, k: int = 0) -> Array:
    if ndim_of(x) == 2:
        return diagonal(x, k)
    n = shape_of(x)[0] + abs(k)
    count = np.arange(shape_of(x)[0])
    return scatter_p(x, shape=(n, n), index=(count + max(-k, 0), count + max(k, 0)))


@implements(np.diff)
def diff(x: Array, n: int = 1, axis: int = -1) -> Array:
    axis = normalize_axis_index(axis, ndim_of(x))
    lead = (slice(None),) * axis
    for _ in range(n):
        x = getitem(x, (*lead, slice(1, None))) - getitem(x, (*lead, slice(None, -1)))
    return x


def install() -> None:
    """Make indexing of `Tracer` the function above."""
    cls: Any = Tracer
    cls.__getitem__ = getitem
