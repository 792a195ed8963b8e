"""The products that are made of `matmul` and `einsum`: `tensordot`, `outer`, `kron`, `trace`, `cross`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core import Array, shape_of
from ..hooks import implements
from ..rules.indexing import getitem
from ..rules.products import matmul
from ..rules.shape import ndim_of


@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    m, n = ndim_of(a), ndim_of(b)
    left, right = (range(m - axes, m), range(axes)) if isinstance(axes, int) else axes
    left = normalize_axis_tuple(tuple(np.atleast_1d(left)), m)
    right = normalize_axis_tuple(tuple(np.atleast_1d(right)), n)
    keep, stay = [i for i in range(m) if i not in left], [i for i in range(n) if i not in right]
    s, t = shape_of(a), shape_of(b)
    size = prod(s[i] for i in left)
    flat_a = np.reshape(np.transpose(a, (*keep, *left)), (prod(s[i] for i in keep), size))
    flat_b = np.reshape(np.transpose(b, (*right, *stay)), (size, prod(t[i] for i in stay)))
    return np.reshape(matmul(flat_a, flat_b), [s[i] for i in keep] + [t[i] for i in stay])


implements(np.inner)(lambda a, b: a * b if 0 in (ndim_of(a), ndim_of(b)) else tensordot(a, b, ((-1,), (-1,))))
implements(np.outer, np.linalg.outer)(lambda a, b: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)))
implements(np.vdot)(lambda a, b: np.sum(np.conj(np.ravel(a)) * np.ravel(b)))


@implements(np.kron)
def kron(a: Array, b: Array) -> Array:
    n = max(ndim_of(a), ndim_of(b))
    s, t = (1,) * (n - ndim_of(a)) + shape_of(a), (1,) * (n - ndim_of(b)) + shape_of(b)
    left = np.reshape(a, [k for m in s for k in (m, 1)])
    right = np.reshape(b, [k for m in t for k in (1, m)])
    return np.reshape(left * right, [m * k for m, k in zip(s, t, strict=True)])


@implements(np.trace)
def trace(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    return np.sum(np.diagonal(x, offset, axis1, axis2), axis=-1)


implements(np.linalg.trace)(lambda x, offset=0: trace(x, offset, -2, -1))


@implements(np.cross)
def cross(a: Array, b: Array, axis: int = -1) -> Array:
    a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    (a0, a1, a2), (b0, b1, b2) = [[getitem(x, (..., i)) for i in range(3)] for x in (a, b)]
    return np.moveaxis(np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1), -1, axis)
