"""The public functions of the spectrum; their primitives are in `spectral`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array, Primitive, Tracer, concrete, shape_of
from ..errors import ArgumentError, TieError, at_line
from ..rules.elementwise import frozen, stop_gradient
from .inverse import symmetric
from .spectral import KEEP, SIGN, Scalar, eigfun_p, smooth, svdfun_p


def eigfun(A: Array, f: Scalar, df: Scalar, d2f: Scalar | None = None) -> Array:
    """Return V diag(f(w)) V^H of a Hermitian matrix A = V diag(w) V^H, differentiable at equal eigenvalues.

    Parameters
    ----------
    A : array (..., n, n)
        Hermitian matrices, float or complex. The gradient is Hermitian.
    f : callable
        A real function of real numbers that acts elementwise on an array.
    df : callable
        Its first derivative, elementwise.
    d2f : callable, optional
        Its second derivative, elementwise. It is needed for second derivatives only.

    Returns
    -------
    array (..., n, n)
        The matrix function, of the dtype of ``A``.

    Raises
    ------
    MissingRuleError
        If a second derivative is taken without ``d2f``, or a third derivative.

    Notes
    -----
    The cost is about 9 n^3 flops for the value and 8 n^3 more for a derivative. A second derivative needs
    memory for n^3 numbers.

    Examples
    --------
    >>> eigfun(np.diag([1.0, 4.0]), np.sqrt, lambda w: 0.5 / np.sqrt(w))
    array([[1., 0.],
           [0., 2.]])
    """
    return eigfun_p(symmetric(A), fun=smooth(f, df, d2f))


def svdfun(A: Array, f: Scalar, df: Scalar, d2f: Scalar | None = None) -> Array:
    """Return U diag(f(s)) V^H of A = U diag(s) V^H for an odd function f, differentiable at equal values.

    Parameters
    ----------
    A : array (..., m, n)
        Matrices, float or complex.
    f : callable
        An odd real function of real numbers (f(-s) = -f(s)) that acts elementwise on an array.
    df : callable
        Its first derivative, elementwise.
    d2f : callable, optional
        Its second derivative, elementwise. It is needed for second derivatives only.

    Returns
    -------
    array (..., m, n)
        The function of ``A``, of its dtype.

    Raises
    ------
    MissingRuleError
        If a second derivative is taken without ``d2f``, or a third derivative.

    Notes
    -----
    The cost is that of a thin SVD for the value and for a first derivative. A second derivative decomposes a
    Hermitian matrix of order m + n and needs memory for (m + n)^3 numbers.

    Examples
    --------
    >>> svdfun(np.diag([1.0, 2.0]), lambda s: s**3, lambda s: 3 * s**2)
    array([[1., 0.],
           [0., 8.]])
    """
    return svdfun_p(A, fun=smooth(f, df, d2f))


def low_rank(A: Array, rank: int) -> Array:
    """Return the best approximation of a given rank, differentiable where kept singular values are equal.

    Parameters
    ----------
    A : array (..., m, n)
        Matrices, float or complex.
    rank : int
        The number of singular values to keep, at least 0.

    Returns
    -------
    array (..., m, n)
        The approximation, which is ``A`` itself if ``rank`` is min(m, n) or more.

    Raises
    ------
    ArgumentError
        If ``rank`` is negative.
    TieError
        If it is differentiated where the last kept singular value equals the first dropped one.

    Notes
    -----
    The cost is that of a thin SVD for the value, and of two more for a derivative. The error is the largest
    dropped singular value in the 2-norm, and the root of the sum of their squares in the Frobenius norm.

    References
    ----------
    Eckart & Young, Psychometrika 1, 1936.

    Examples
    --------
    >>> low_rank(np.diag([3.0, 2.0, 1.0]), 2).diagonal()
    array([3., 2., 0.])
    """
    if rank < 0:
        raise ArgumentError("low_rank", f"rank {rank} is negative{at_line()}", "Pass a rank of at least 0")
    if rank == 0:
        return np.zeros_like(A)
    if rank >= min(shape_of(A)[-2:]):
        return A
    if not isinstance(A, Tracer):
        U, s, Vh = np.linalg.svd(A, full_matrices=False)
        return (U[..., :rank] * s[..., None, :rank]) @ Vh[..., :rank, :]
    cut = cut_at_rank(A, rank=rank)
    return cut * svdfun_p(A / cut, fun=KEEP)


def middle_of_gap(a: np.ndarray, rank: int) -> Array:
    """Return the mean of the last kept singular value and the first dropped one; refuse equal ones."""
    s = np.linalg.svd(a, compute_uv=False)[..., None, :]
    kept, dropped = s[..., rank - 1 : rank], s[..., rank : rank + 1]
    if np.any(kept - dropped <= 8 * np.finfo(s.dtype).eps * s[..., :1]):
        what = f"rank {rank} cuts between singular values {rank - 1} and {rank}, which are equal{at_line()}"
        raise TieError("low_rank", what, "Use another rank")
    return (kept + dropped) / 2


cut_at_rank = frozen("cut at rank", middle_of_gap)


def polar(A: Array) -> Array:
    """Return the orthogonal polar factor U V^H, the nearest matrix with orthonormal rows or columns.

    Parameters
    ----------
    A : array (..., m, n)
        Matrices, float or complex.

    Returns
    -------
    array (..., m, n)
        The polar factor. Singular values that are 0 up to rounding contribute nothing.

    Raises
    ------
    TieError
        If it is differentiated at a matrix that does not have full rank.

    Notes
    -----
    The cost is that of two SVDs for the value, and of one more for a derivative.

    Examples
    --------
    >>> polar(np.diag([3.0, 2.0]))
    array([[1., 0.],
           [0., 1.]])
    """
    return svdfun_p(A / cut_at_zero(A), fun=SIGN)


def rounding_size(a: np.ndarray) -> Array:
    """Return how large a singular value 0 may be computed because of rounding; 1 for a matrix of zeros."""
    s = np.linalg.svd(a, compute_uv=False)
    size = s.max(-1, initial=0)[..., None, None] * np.finfo(s.dtype).eps * max(s.shape[-1], 8)
    return np.where(size == 0, 1, size)


def refuse_zero_matrix(size: Array, args: Any, tangents: Any) -> None:
    """Refuse a matrix of zeros, where the polar factor has no derivative; elsewhere the tangent is zero."""
    a = concrete(args[0])
    if a.size and not a.any((-2, -1)).all():
        raise TieError(
            "polar", f"the matrix is 0, so there is no derivative{at_line()}", "Pass a matrix of full rank"
        )


cut_at_zero: Primitive = Primitive("cut at zero", rounding_size, refuse_zero_matrix, batch=True)


def soft_threshold(A: Array, threshold: Array) -> Array:
    """Return U diag(max(s - threshold, 0)) V^H, the proximal operator of the nuclear norm.

    Parameters
    ----------
    A : array (..., m, n)
        Matrices, float or complex.
    threshold : float or array (..., 1, 1)
        The amount subtracted from each singular value, at least 0. It can be differentiated too.

    Returns
    -------
    array (..., m, n)
        The matrix with reduced singular values.

    Raises
    ------
    TieError
        If it is differentiated where a singular value equals the threshold.

    Notes
    -----
    The cost is that of two thin SVDs for the value, and of two more for a derivative.

    References
    ----------
    Cai, Candes & Shen, SIAM J. Optim. 20, 2010.

    Examples
    --------
    >>> soft_threshold(np.diag([3.0, 2.0, 0.5]), 1.0).diagonal()
    array([2., 1., 0.])
    """
    cut = stop_gradient(threshold)
    if not np.all(concrete(cut) > 0):
        cut = np.maximum(cut, cut_at_zero(A))
    return cut * svdfun_p(A / cut, fun=KEEP) - threshold * svdfun_p(A / cut, fun=SIGN)


def nuclear_norm(A: Array) -> Array:
    """Return the sum of the singular values, differentiable where they are equal.

    Parameters
    ----------
    A : array (..., m, n)
        Matrices, float or complex.

    Returns
    -------
    array (...)
        The nuclear norm of each matrix, in the real dtype of ``A``.

    Notes
    -----
    The gradient is the polar factor. Where ``A`` is rank deficient, it is the polar factor on the range of
    ``A``, which is one of the subgradients. The cost is that of the singular values, and of two SVDs more for
    the gradient.

    Examples
    --------
    >>> nuclear_norm(np.diag([3.0, 2.0]))
    np.float64(5.0)
    """
    return nuclear_p(A)


nuclear_p: Primitive = Primitive(
    "nuclear norm",
    lambda a: np.linalg.svd(a, compute_uv=False).sum(-1),
    lambda y, args, tangents: np.sum(np.real(tangents[0] * np.conj(polar(args[0]))), axis=(-2, -1)),
    batch=True,
)
