"""Functions that change the shape of an array and no number in it: all linear, each with its transpose.

Axes are made non-negative and shapes explicit before a primitive is called, so that the primitives
(lower case with no options left open) are few, and the NumPy functions around them are one-liners.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core import Array, Primitive, convert, dtype_of, shape_of, unbroadcast, zeros
from ..errors import TracerError, at_line
from ..hooks import implements


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
    lambda x, shape: np.asarray(x).reshape(shape),
    transpose={0: lambda ct, x, shape: reshape_p(ct, shape=x.shape)},
    batch=lambda args, batched, shape: reshape_p(args[0], shape=(shape_of(args[0])[0], *shape)),
)

transpose_p: Primitive = Primitive(
    "transpose",
    lambda x, axes: x.transpose(axes),
    transpose={
        0: lambda ct, x, axes: transpose_p(ct, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)))
    },
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


# --- NumPy's functions --------------------------------------------------------------------------------


@implements(np.reshape)
def reshape(x: Array, shape: Any, *more: int, order: str = "C", copy: Any = None) -> Array:
    shape = (shape, *more) if more else shape if isinstance(shape, (tuple, list)) else (shape,)
    if order != "C":
        raise TracerError("np.reshape", f"only order='C' is known{at_line()}", "Transpose before and after")
    old = shape_of(x)
    if -1 in shape:
        rest = prod(n for n in shape if n != -1)
        shape = [prod(old) // rest if n == -1 and rest else n for n in shape]
    return x if old == tuple(shape) else reshape_p(x, shape=tuple(int(n) for n in shape))


implements(np.ravel)(lambda x, order="C": reshape(x, -1, order=order))
implements(np.shape)(shape_of)
implements(np.ndim)(ndim_of)
implements(np.size)(lambda x, axis=None: x.size if axis is None else x.shape[axis])
implements(np.result_type)(
    lambda *xs: np.result_type(*[x if isinstance(x, type) else getattr(x, "dtype", x) for x in xs])
)
implements(np.copy)(lambda x, *args, **options: x)
implements(np.broadcast_to)(lambda x, shape, subok=False: broadcast_to(x, shape))
for make in (np.zeros_like, np.ones_like, np.empty_like):
    implements(make)(lambda x, *args, make=make, **options: make(zeros(x), *args, **options))


@implements(np.full_like)
def full_like(x: Array, fill_value: Array, dtype: Any = None) -> Array:
    return broadcast_to(convert(fill_value, dtype or dtype_of(x)), shape_of(x))


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
    return transpose_p(x, axes=tuple(order))


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
