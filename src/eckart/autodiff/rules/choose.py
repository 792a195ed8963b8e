"""Choosing between arrays by a mask: `where`, `clip`, triangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, Tracer, shape_of
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
