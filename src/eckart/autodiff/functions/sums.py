"""Products, variances, weighted means, integrals, and reductions that skip NaN.

A product is computed by multiplying halves, a running product by doubling the step. Their derivatives are
therefore products of the other factors, which are exact at zeros to any order, and no rule is needed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import Array, dtype_of, ndim_of, shape_of
from ..hooks import implements
from ..rules.indexing import section
from ..rules.reduce import count, reduced, running
from ..rules.shape import norm_axes

implements(np.ptp)(lambda x, *args, **options: np.max(x, *args, **options) - np.min(x, *args, **options))
implements(np.cumulative_sum)(lambda x, /, *, axis=0, dtype=None: np.cumsum(x, axis, dtype=dtype))
implements(np.cumulative_prod)(lambda x, /, *, axis=0, dtype=None: np.cumprod(x, axis, dtype=dtype))


def in_front(x: Array, axis: Any) -> Array:
    """Return ``x`` with the given axes moved to the front and merged into one."""
    axes, n = norm_axes(axis, ndim_of(x)), count(x, axis)
    x = np.moveaxis(x, axes, range(len(axes)))
    return np.reshape(x, (n, *shape_of(x)[len(axes) :]))


def widened(x: Array, dtype: Any) -> Array:
    """Return ``x`` in the dtype of NumPy's products; under `vmap`, integers and booleans are widened."""
    return x.astype(np.prod(np.empty(0, dtype_of(x))).dtype if dtype is None else dtype)


@implements(np.prod)
def prod(x: Array, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """Return `np.prod`."""
    x = widened(x, dtype)
    final = reduced(x, norm_axes(axis, ndim_of(x)), keepdims)
    if count(x, axis) == 0:
        return np.ones(final, dtype_of(x))
    x = in_front(x, axis)
    while len(x) > 1:
        half = len(x) // 2
        x = np.concatenate([x[:half] * x[half : 2 * half], x[2 * half :]])
    return np.reshape(x, final)


@implements(np.cumprod)
def cumprod(x: Array, axis: int | None = None, *, dtype: Any = None) -> Array:
    """Return `np.cumprod`."""
    x, axis = running(widened(x, dtype), axis, None)
    n, step = shape_of(x)[axis], 1
    while step < n:
        pairs = section(x, axis, step, n) * section(x, axis, n - step)
        x, step = np.concatenate([section(x, axis, step), pairs], axis), 2 * step
    return x


@implements(np.var)
def var(x: Array, axis: Any = None, *, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """Return `np.var`."""
    centred = x - np.mean(x, axis, dtype=dtype, keepdims=True)
    square, n = np.real(centred * np.conj(centred)), count(x, axis)
    return np.sum(square, axis=axis, keepdims=keepdims) / (n - ddof if n > ddof else 0)


@implements(np.std)
def std(x: Array, axis: Any = None, **options: Any) -> Array:
    """Return `np.std`."""
    return np.sqrt(var(x, axis, **options))


@implements(np.average)
def average(x: Array, axis: Any = None, weights: Any = None, *, keepdims: bool = False) -> Array:
    """Return `np.average`."""
    if weights is None:
        return np.mean(x, axis, keepdims=keepdims)
    if isinstance(axis, int) and ndim_of(weights) == 1:
        weights = np.reshape(weights, [-1 if i == axis % ndim_of(x) else 1 for i in range(ndim_of(x))])
    weights = np.broadcast_to(weights, x.shape)
    return np.sum(x * weights, axis=axis, keepdims=keepdims) / np.sum(weights, axis=axis, keepdims=keepdims)


@implements(np.trapezoid)
def trapezoid(y: Array, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Array:
    """Return `np.trapezoid`."""
    y = np.moveaxis(y, axis, -1)
    step = dx
    if x is not None:
        step = np.diff(x) if ndim_of(x) == 1 else np.diff(np.moveaxis(x, axis, -1))
    return np.sum((y[..., 1:] + y[..., :-1]) * step, axis=-1) / 2


# --- NaN ------------------------------------------------------------------------------------------------


@implements(np.nan_to_num)
def nan_to_num(x: Array, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Array:
    """Return `np.nan_to_num`."""
    limits = np.finfo(dtype_of(x))
    x = np.where(np.isnan(x), nan, x)
    x = np.where(np.isposinf(x), limits.max if posinf is None else posinf, x)
    return np.where(np.isneginf(x), limits.min if neginf is None else neginf, x)


def without_nan(function: Any, fill: float, x: Array, *args: Any, **options: Any) -> Array:
    """Return the variant of ``function`` that skips NaN: of ``x`` with ``fill`` in place of NaN."""
    return function(np.where(np.isnan(x), fill, x), *args, **options)


for nan_function, function, fill in (
    (np.nansum, np.sum, 0.0),
    (np.nanprod, np.prod, 1.0),
    (np.nancumsum, np.cumsum, 0.0),
    (np.nancumprod, np.cumprod, 1.0),
):
    implements(nan_function)(partial(without_nan, function, fill))


def nan_extreme(function: Any, fill: float, x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    """Return `np.nanmax` or `np.nanmin`; the result is NaN where all entries are NaN."""
    nothing = np.all(np.isnan(x), axis=axis, keepdims=keepdims)
    return np.where(nothing, np.nan, without_nan(function, fill, x, axis, keepdims=keepdims))


implements(np.nanmax)(partial(nan_extreme, np.max, -np.inf))
implements(np.nanmin)(partial(nan_extreme, np.min, np.inf))


def present(x: Array, axis: Any, keepdims: bool) -> Array:
    """Return the number of entries that are not NaN, in the real dtype of the precision of ``x``."""
    return np.sum(~np.isnan(x), axis=axis, dtype=np.finfo(dtype_of(x)).dtype, keepdims=keepdims)


@implements(np.nanmean)
def nanmean(x: Array, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """Return `np.nanmean`."""
    return np.nansum(x, axis=axis, dtype=dtype, keepdims=keepdims) / present(x, axis, keepdims)


@implements(np.nanvar)
def nanvar(
    x: Array, axis: Any = None, *, dtype: Any = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    """Return `np.nanvar`."""
    full = np.where(np.isnan(x), nanmean(x, axis, keepdims=True), x)  # the mean adds 0 to the squares
    square = var(full, axis, dtype=dtype, keepdims=keepdims) * count(x, axis)
    return square / (present(x, axis, keepdims) - ddof)


implements(np.nanstd)(lambda x, *args, **options: np.sqrt(np.nanvar(x, *args, **options)))
