"""Functions that change the shape of an array and no number in it: three linear primitives.

What a function of NumPy makes of the shape, or of the order of the axes, NumPy itself is asked: the function
is called on an empty array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core import Array, Primitive, ndim_of, shape_of, unbroadcast, zeros
from ..errors import TracerError, at_line
from ..hooks import implement_by, implements

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
    size, *rest = shape_of(x)
    x = reshape(x, (size, *(1,) * (len(shape) - len(rest)), *rest))
    return broadcast_p(x, shape=(size, *shape))


def norm_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes as non-negative numbers; None is all of them."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    return normalize_axis_tuple(axis, ndim)


# --- the shape, and the order of the axes ---------------------------------------------------------------


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """Return ``x`` in a shape that is given in full."""
    return x if shape_of(x) == shape else reshape_p(x, shape=shape)


def reshaped(function: Any, x: Array, *args: Any, order: str = "C", **options: Any) -> Array:
    """Return ``x`` in the shape that ``function``, which keeps the order of the entries, gives it."""
    if order != "C":
        what = f"only order='C' is known{at_line()}"
        raise TracerError(f"np.{function.__name__}", what, "Write np.reshape(x.T, shape[::-1]).T")
    return reshape(x, function(np.empty(shape_of(x), bool), *args, **options).shape)


def reordered(function: Any, x: Array, *args: Any, **options: Any) -> Array:
    """Return ``x`` with its axes in the order of ``function``: axis i is known by its length, i + 1."""
    axes = tuple(range(ndim_of(x)))
    order = tuple(n - 1 for n in function(np.empty([i + 1 for i in axes], bool), *args, **options).shape)
    return x if order == axes else transpose_p(x, axes=order)


implements(np.ravel)(lambda x, order="C": reshaped(np.ravel, x, order=order))
implement_by(reshaped, np.expand_dims, np.squeeze, np.atleast_1d, np.atleast_2d, np.atleast_3d)
implement_by(reordered, np.swapaxes, np.moveaxis, np.rollaxis)
implement_by(reordered, np.matrix_transpose, np.linalg.matrix_transpose)
# these two are methods as well, which take a shape or an order without brackets
implements(np.reshape)(lambda x, *shape, order="C": reshaped(np.ndarray.reshape, x, *shape, order=order))
implements(np.transpose, np.permute_dims)(lambda x, *axes: reordered(np.ndarray.transpose, x, *axes))


@implements(np.broadcast_to)
def broadcast_to(x: Array, shape: Any, subok: bool = False) -> Array:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return x if shape_of(x) == shape else broadcast_p(x, shape=shape)


# --- what an array looks like ---------------------------------------------------------------------------

for like in (np.zeros_like, np.ones_like, np.empty_like):
    implements(like)(lambda x, *args, like=like, **options: like(zeros(x), *args, **options))
implements(np.copy)(lambda x, *args, **options: x)
implements(np.shape)(shape_of)
implements(np.ndim)(ndim_of)
implements(np.size)(lambda x, axis=None: x.size if axis is None else x.shape[axis])
implements(np.result_type)(
    lambda *xs: np.result_type(*[x if isinstance(x, type) else getattr(x, "dtype", x) for x in xs])
)
