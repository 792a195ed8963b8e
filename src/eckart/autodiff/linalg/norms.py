"""Norms of vectors and matrices, and condition numbers. The derivative of a norm at 0 is 0, a subgradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array, ndim_of
from ..errors import ArgumentError, at_line
from ..hooks import implements
from ..rules.complex import is_complex
from ..rules.elementwise import stop_gradient
from ..rules.shape import norm_axes
from .spectral_functions import nuclear_norm


@implements(np.linalg.norm)
def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """Return `np.linalg.norm`."""
    axes = norm_axes(axis, ndim_of(x))
    if len(axes) == 1 or (axis is None and ord is None):
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        what = f"a norm is taken over one or two axes, not over {len(axes)}{at_line()}"
        raise ArgumentError("np.linalg.norm", what, "Pass axis=, or remove ord=")
    x = np.moveaxis(x, axes, (-2, -1))
    if ord in (None, "fro"):
        out = vector_norm(x, axis=(-2, -1))
    elif ord == "nuc":
        out = nuclear_norm(x)
    elif ord in (2, -2):
        out = np.linalg.svdvals(x)[..., 0 if ord == 2 else -1]
    elif ord in (1, -1, np.inf, -np.inf):
        sums = np.sum(np.abs(x), axis=-2 if abs(ord) == 1 else -1)
        out = (np.max if ord > 0 else np.min)(sums, axis=-1)
    else:
        what = f"{ord!r} is not the order of a matrix norm{at_line()}"
        raise ArgumentError("np.linalg.norm", what, 'Use "fro", "nuc", 1, -1, 2, -2, np.inf or -np.inf')
    return np.expand_dims(out, axes) if keepdims else out


implements(np.linalg.matrix_norm)(lambda x, /, *, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims))


@implements(np.linalg.vector_norm)
def vector_norm(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    """Return `np.linalg.vector_norm`."""
    if ord == 2:
        square = x * x if not is_complex(x) else np.real(x * np.conj(x))
        return np.sqrt(np.sum(square, axis=axis, keepdims=keepdims))
    size = np.abs(x)
    extreme: Any = np.max if ord > 0 else np.min
    if abs(ord) == np.inf:
        return extreme(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum((x != 0).astype(size.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(size, axis=axis, keepdims=keepdims)
    unit = extreme(stop_gradient(size), axis=axis, keepdims=True)
    zero = unit == 0  # then the norm is 0
    unit = np.where(np.isfinite(unit), unit, 1.0)
    scaled = np.where(zero, 1.0, size / np.where(zero, 1.0, unit))  # its powers neither over- nor underflow
    out = unit * np.sum(scaled**ord, axis=axis, keepdims=True) ** (1.0 / ord)
    return out if keepdims else np.squeeze(out, axis)


@implements(np.linalg.cond)
def cond(a: Array, p: Any = None) -> Array:
    """Return `np.linalg.cond`."""
    if p in (None, 2, -2):
        s = np.linalg.svdvals(a)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return norm(a, p, (-2, -1)) * norm(np.linalg.inv(a), p, (-2, -1))
