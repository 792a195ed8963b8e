"""Functions that change the shape of an array or the order of its axes: three linear primitives.

The rules find the new shape, or the new order of the axes, by calling the NumPy function on an empty array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core import Array, Primitive, ndim_of, shape_of, unbroadcast, zeros
from ..errors import TracerError, at_line
from ..hooks import implement_with, implements

reshape_p: Primitive = Primitive(
    "reshape",
    lambda x, shape: np.asarray(x).reshape(shape),
    transpose={0: lambda ct, x, shape: reshape_p(ct, shape=x.shape)},
    batch=lambda args, batched, shape: reshape_p(args[0], shape=(shape_of(args[0])[0], *shape)),
)
transpose_p: Primitive = Primitive(
    "transpose",
    lambda x, axes: x.transpose(axes),
    transpose={0: lambda ct, x, axes: transpose_p(ct, axes=tuple(np.argsort(axes).tolist()))},
    batch=lambda args, batched, axes: transpose_p(args[0], axes=(0, *(a + 1 for a in axes))),
)
broadcast_p: Primitive = Primitive(
    "broadcast_to",
    np.broadcast_to,
    transpose={0: lambda ct, x, shape: unbroadcast(ct, x.shape)},
    batch=lambda args, batched, shape: broadcast_batch(args[0], shape),
)


def broadcast_batch(x: Array, shape: tuple[int, ...]) -> Array:
    """Return each example of a batch broadcast to ``shape``."""
    size, *rest = shape_of(x)
    x = reshape(x, (size, *(1,) * (len(shape) - len(rest)), *rest))
    return broadcast_p(x, shape=(size, *shape))


def norm_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes as non-negative numbers; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    return normalize_axis_tuple(axis, ndim)


# --- the shape and the order of the axes ----------------------------------------------------------------


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """Return ``x`` reshaped; ``shape`` may not contain -1."""
    return x if shape_of(x) == shape else reshape_p(x, shape=shape)


def reshaped(function: Any, x: Array, *args: Any, order: str = "C", **options: Any) -> Array:
    """Return ``function(x)`` for a function that changes the shape and keeps the order of the entries."""
    if order != "C":
        what = f"only order='C' has a derivative rule, not order={order!r}{at_line()}"
        raise TracerError(f"np.{function.__name__}", what, "Use np.reshape(x.T, shape[::-1]).T")
    return reshape(x, function(np.empty(shape_of(x), bool), *args, **options).shape)


def reordered(function: Any, x: Array, *args: Any, **options: Any) -> Array:
    """Return ``function(x)`` for a function that changes the order of the axes.

    It is called on an array whose axis i has length i + 1, so that the resulting shape shows the order.
    """
    axes = tuple(range(ndim_of(x)))
    order = tuple(n - 1 for n in function(np.empty([i + 1 for i in axes], bool), *args, **options).shape)
    return x if order == axes else transpose_p(x, axes=order)


implements(np.ravel)(lambda x, order="C": reshaped(np.ravel, x, order=order))
implement_with(reshaped, np.expand_dims, np.squeeze, np.atleast_1d, np.atleast_2d, np.atleast_3d)
implement_with(reordered, np.swapaxes, np.moveaxis, np.rollaxis)
implement_with(reordered, np.matrix_transpose, np.linalg.matrix_transpose)
# these two are also methods, which accept the shape or the order as separate arguments
implements(np.reshape)(lambda x, *shape, order="C": reshaped(np.ndarray.reshape, x, *shape, order=order))
implements(np.transpose, np.permute_dims)(lambda x, *axes: reordered(np.ndarray.transpose, x, *axes))


@implements(np.broadcast_to)
def broadcast_to(x: Array, shape: Any, subok: bool = False) -> Array:
    """Return `np.broadcast_to`."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return x if shape_of(x) == shape else broadcast_p(x, shape=shape)


# --- shapes, dtypes and arrays of constants -------------------------------------------------------------


def constant_like(function: Any, x: Array, *args: Any, **options: Any) -> Any:
    """Return ``function(x)`` for a function that uses only the shape and dtype of ``x``."""
    return function(zeros(x), *args, **options)


implement_with(constant_like, np.zeros_like, np.ones_like, np.empty_like)
implements(np.copy)(lambda x, *args, **options: x)
implements(np.shape)(shape_of)
implements(np.ndim)(ndim_of)
implements(np.size)(lambda x, axis=None: x.size if axis is None else x.shape[axis])
implements(np.result_type)(
    lambda *xs: np.result_type(*[x if isinstance(x, type) else getattr(x, "dtype", x) for x in xs])
)
