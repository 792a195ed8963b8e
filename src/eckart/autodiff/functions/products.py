"""Products written with those of the rule book: `tensordot`, `inner`, `outer`, `kron`, `trace`, `cross`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..core import Array, ndim_of, shape_of
from ..hooks import implements
from ..rules.products import matmul


@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    """Return `np.tensordot`, as one product of matrices."""
    left, right = (range(-axes, 0), range(axes)) if isinstance(axes, int) else map(np.atleast_1d, axes)
    k = len(left)
    a = np.moveaxis(a, tuple(left), range(-k, 0))  # (*rows, *summed)
    b = np.moveaxis(b, tuple(right), range(k))  # (*summed, *columns)
    rows, summed, columns = shape_of(a)[: ndim_of(a) - k], shape_of(b)[:k], shape_of(b)[k:]
    flat_a = np.reshape(a, (prod(rows), prod(summed)))
    flat_b = np.reshape(b, (prod(summed), prod(columns)))
    return np.reshape(matmul(flat_a, flat_b), rows + columns)


implements(np.inner)(lambda a, b: a * b if 0 in (ndim_of(a), ndim_of(b)) else tensordot(a, b, (-1, -1)))
implements(np.outer, np.linalg.outer)(lambda a, b: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)))
implements(np.vdot)(lambda a, b: np.sum(np.conj(np.ravel(a)) * np.ravel(b)))


@implements(np.kron)
def kron(a: Array, b: Array) -> Array:
    """Return `np.kron`, as one broadcast product."""
    left = np.expand_dims(a, tuple(range(1, 2 * ndim_of(a), 2)))  # (m1, 1, m2, 1, ...)
    right = np.expand_dims(b, tuple(range(0, 2 * ndim_of(b), 2)))  # (1, n1, 1, n2, ...)
    pairs = left * right
    return np.reshape(pairs, np.multiply(pairs.shape[::2], pairs.shape[1::2]))


@implements(np.trace)
def trace(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """Return `np.trace`."""
    return np.sum(np.diagonal(x, offset, axis1, axis2), axis=-1)


implements(np.linalg.trace)(lambda x, offset=0: trace(x, offset, -2, -1))


@implements(np.cross)
def cross(a: Array, b: Array, axis: int = -1) -> Array:
    """Return `np.cross` of vectors of length 3."""
    (a0, a1, a2), (b0, b1, b2) = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis)
