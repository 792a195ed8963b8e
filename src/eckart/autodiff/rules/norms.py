"""Norms of vectors and matrices; at 0 the derivative is taken to be 0, the least subgradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array
from ..errors import ArgumentError, at_line
from ..hooks import implements
from .complex import is_complex
from .reduce import stop_gradient
from .shape import ndim_of
from .spectral_functions import nuclear_norm


@implements(np.linalg.norm)
def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """Return `np.linalg.norm`; at 0 the derivative is taken to be 0, the least subgradient."""
    if axis is None and ord is None:
        out = vector_norm(np.ravel(x), None, 0, False)
        return np.reshape(out, (1,) * ndim_of(x)) if keepdims else out
    axes = tuple(range(ndim_of(x))) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) == 1:
        return vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ArgumentError(
            "np.linalg.norm", f"one or two axes have norms, {len(axes)} were given{at_line()}"
        )
    out = matrix_norm(np.moveaxis(x, axes, (-2, -1)), ord)
    return np.expand_dims(out, tuple(a % ndim_of(x) for a in axes)) if keepdims else out


def vector_norm(x: Array, ord: Any, axis: Any, keepdims: bool) -> Array:
    if ord is None or ord == 2:
        square = x * x if not is_complex(x) else np.real(x * np.conj(x))
        return np.sqrt(np.sum(square, axis=axis, keepdims=keepdims))
    size = np.abs(x)
    if abs(ord) == np.inf:
        return (np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum(np.where(x != 0, np.ones_like(size), np.zeros_like(size)), axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(size, axis=axis, keepdims=keepdims)
    unit = (np.max if ord > 0 else np.min)(stop_gradient(size), axis=axis, keepdims=True)
    zero = unit == 0  # then so is the norm
    unit = np.where(np.isfinite(unit), unit, 1.0)
    share = np.where(
        zero, 1.0, size / np.where(zero, 1.0, unit)
    )  # so that powers neither over- nor underflow
    out = unit * np.sum(share**ord, axis=axis, keepdims=True) ** (1.0 / ord)
    return out if keepdims else np.squeeze(out, axis)


def matrix_norm(x: Array, ord: Any) -> Array:
    if ord is None or ord == "fro":
        return vector_norm(x, 2, (-2, -1), False)
    if ord == "nuc":
        return nuclear_norm(x)
    if ord in (2, -2):
        return np.linalg.svdvals(x)[..., 0 if ord == 2 else -1]
    if ord not in (1, -1, np.inf, -np.inf):
        raise ArgumentError("np.linalg.norm", f"{ord!r} is not the order of a matrix norm{at_line()}")
    sums = np.sum(np.abs(x), axis=-2 if abs(ord) == 1 else -1)
    return (np.max if ord > 0 else np.min)(sums, axis=-1)


@implements(np.linalg.vector_norm)
def array_vector_norm(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    if axis is None:
        out = vector_norm(np.ravel(x), ord, 0, False)
        return np.reshape(out, (1,) * ndim_of(x)) if keepdims else out
    return vector_norm(x, ord, axis, keepdims)


@implements(np.linalg.matrix_norm)
def array_matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    return norm(x, ord, (-2, -1), keepdims)
