"""What NumPy's protocols do not reach: functions of `scipy.linalg` and `scipy.special`, differentiable.

The ufuncs of `scipy.special` (``expit, erf, gammaln, ndtr, ...``) need nothing from here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as sl

from .core import Array, Primitive, shape_of
from .rules.factor import eigh, svd
from .rules.linalg import moved_right
from .rules.matfun import cosm, expm, logm, sinm, sqrtm
from .rules.products import matmul_shape, swap
from .rules.reduce import stop_gradient
from .rules.spectral import adjoint

__all__ = [
    "cosm",
    "eigh",
    "expm",
    "log_softmax",
    "logm",
    "logsumexp",
    "sinm",
    "softmax",
    "solve_triangular",
    "sqrtm",
    "svd",
]


def triangular_jvp(x: Array, args: Any, tangents: Any, lower: bool, unit: bool) -> Array:
    (a, _), (ta, tb) = args, tangents
    if ta is not None:
        ta = (np.tril if lower else np.triu)(ta, (-1 if lower else 1) if unit else 0)
    return triangular_p(a, moved_right(x, ta, tb), lower=lower, unit=unit)


def triangular(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool) -> Array:
    if a.ndim == b.ndim == 2:
        return sl.solve_triangular(a, b, lower=lower, unit_diagonal=unit)
    a, b = (
        np.broadcast_to(x, (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *x.shape[-2:])) for x in (a, b)
    )
    return np.stack([triangular(p, q, lower, unit) for p, q in zip(a, b, strict=True)])


triangular_p: Primitive = Primitive(
    "scipy.linalg.solve_triangular", triangular, triangular_jvp,
    transpose={1: lambda ct, a, b, lower, unit: triangular_p(swap(a), ct, lower=not lower, unit=unit)},
    shape=lambda a, b, lower, unit: matmul_shape(a, b), batch=True,
)  # fmt: skip


def solve_triangular(
    a: Array, b: Array, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Array:
    """Solve a triangular system. Equivalent to `scipy.linalg.solve_triangular`, and takes stacks.

    Parameters
    ----------
    a : array (..., n, n)
        Only the triangle is used, and only it has a gradient.
    b : array (n,) or (..., n, k)
    trans : {0, 1, 2, "N", "T", "C"}
        Solve with a, its transpose, or its conjugate transpose.

    Examples
    --------
    >>> solve_triangular(np.array([[2.0, 1.0], [0.0, 4.0]]), np.array([3.0, 4.0]))
    array([1., 1.])
    """
    if trans in (1, "T"):
        a, lower = swap(a), not lower
    elif trans in (2, "C"):
        a, lower = adjoint(a), not lower
    if len(shape_of(b)) == 1:
        return triangular_p(a, np.expand_dims(b, -1), lower=lower, unit=unit_diagonal)[..., 0]
    return triangular_p(a, b, lower=lower, unit=unit_diagonal)


def logsumexp(a: Array, axis: Any = None, b: Any = None, keepdims: bool = False) -> Array:
    """Return log(sum(b exp(a))) without overflow. Equivalent to `scipy.special.logsumexp`.

    Examples
    --------
    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))), 4)
    1000.6931
    """
    top = np.max(stop_gradient(a), axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    terms = np.exp(a - top)
    total = np.log(np.sum(terms if b is None else b * terms, axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)


def log_softmax(x: Array, axis: Any = None) -> Array:
    """Return x - logsumexp(x). Equivalent to `scipy.special.log_softmax`.

    Examples
    --------
    >>> log_softmax(np.zeros(2))
    array([-0.69314718, -0.69314718])
    """
    return x - logsumexp(x, axis=axis, keepdims=True)


def softmax(x: Array, axis: Any = None) -> Array:
    """Return exp(x) / sum(exp(x)). Equivalent to `scipy.special.softmax`.

    Examples
    --------
    >>> softmax(np.zeros(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return np.exp(log_softmax(x, axis))
