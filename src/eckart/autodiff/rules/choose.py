"""Choosing between arrays by a mask: `where`, `select`, `clip`, triangles, NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, Tracer, dtype_of, shape_of
from ..hooks import implements

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
        batch=True,
    )
)


def where_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any]) -> Any:
    _, ta, tb = tangents
    left = None if ta is None else where_p(args[0], ta, 0.0)
    right = None if tb is None else where_p(args[0], 0.0, tb)
    return right if left is None else left if right is None else left + right


@implements(np.where)
def where(condition: Array, a: Any = None, b: Any = None) -> Any:
    if a is None:
        return np.nonzero(condition)
    if isinstance(condition, Tracer) and condition.dtype.kind in "fc":
        condition = np.not_equal(condition, np.zeros(()))  # type: ignore[call-overload]
    return where_p(condition, a, b)


@implements(np.select)
def select(condlist: Sequence[Array], choicelist: Sequence[Array], default: Any = 0) -> Array:
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        default = np.where(condition, choice, default)
    return default


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


# --- NaN and infinity -----------------------------------------------------------------------------------


@implements(np.nan_to_num)
def nan_to_num(x: Array, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Array:
    limits = np.finfo(dtype_of(x))
    for value, mask in ((nan, np.isnan(x)), (limits.max if posinf is None else posinf, np.equal(x, np.inf)),
                        (limits.min if neginf is None else neginf, np.equal(x, -np.inf))):  # fmt: skip
        x = np.where(mask, value, x)
    return x


def without_nan(function: Any, fill: float) -> Any:
    """Return `np.nansum` or its like from `np.sum` and what to put for NaN."""
    return lambda x, *args, **options: function(np.where(np.isnan(x), fill, x), *args, **options)


for nan_function, function, fill in (
    (np.nansum, np.sum, 0.0), (np.nanprod, np.prod, 1.0), (np.nancumsum, np.cumsum, 0.0),
    (np.nancumprod, np.cumprod, 1.0), (np.nanmax, np.max, -np.inf), (np.nanmin, np.min, np.inf),
):  # fmt: skip
    implements(nan_function)(without_nan(function, fill))


def present(x: Array, axis: Any, keepdims: bool) -> Array:
    return np.sum(np.where(np.isnan(x), 0.0, np.ones_like(x)), axis=axis, keepdims=keepdims)


@implements(np.nanmean)
def nanmean(x: Array, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Array:
    return np.nansum(x, axis=axis, dtype=dtype, keepdims=keepdims) / present(x, axis, keepdims)


@implements(np.nanvar)
def nanvar(
    x: Array, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False
) -> Array:
    apart = np.where(np.isnan(x), 0.0, x) - nanmean(x, axis, keepdims=True)
    square = np.where(np.isnan(x), 0.0, np.real(apart * np.conj(apart)))
    return np.sum(square, axis=axis, dtype=dtype, keepdims=keepdims) / (present(x, axis, keepdims) - ddof)


implements(np.nanstd)(lambda x, *args, **options: np.sqrt(nanvar(x, *args, **options)))
