"""Properties of a matrix: rank, condition, and how close it is to an inverse or an orthonormal basis."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from eckart.errors import MatrixError
from eckart.linalg.stack import (
    as_numbers,
    as_stack,
    as_tolerance,
    at_most_one,
    conjugate_transpose,
    cut_off,
    hermitian_values,
    relative_difference,
)

# An int or a float for one matrix, an array for a stack. The type of the argument does not tell which.
Scalars: TypeAlias = Any


def matrix_rank(
    A: ArrayLike, tol: ArrayLike | None = None, hermitian: bool = False, *, rtol: ArrayLike | None = None
) -> Scalars:
    """Return the number of singular values above a tolerance.

    Equivalent to ``numpy.linalg.matrix_rank(A)``.

    Parameters
    ----------
    A : array_like (..., m, n), or (n,)
        A vector has rank 1, or 0 if it is zero.
    tol : float or array_like (...), optional
        Count sigma > ``tol``. One number for each matrix of a stack, or one for all.
    hermitian : bool
        Whether A is Hermitian. Uses eigenvalues of its lower triangle instead of an SVD, in a third of the
        time.
    rtol : float or array_like (...), optional
        Count sigma > ``rtol`` sigma_1. Default: max(m, n) eps of the dtype that A came in.

    Returns
    -------
    int, or ndarray (...) of int for a stack
        The rank of each matrix.

    Raises
    ------
    MatrixError
        If A is not numeric, or holds a NaN or an infinity.
    UsageError
        If both tolerances are given, or one is negative or does not fit the stack.

    Notes
    -----
    About 4 m n^2 flops for n <= m. A tolerance is a statement about the data: the default is about what
    rounding its entries to their dtype does to a singular value. `Spectrum` has ranks by energy. A NaN is
    reported with its position, where NumPy reports that the SVD did not converge. Singular values of float32
    data are computed in float64, so they contain only the data's own rounding.

    Examples
    --------
    >>> matrix_rank([[4, 8, 12], [2, 4, 6], [3, 6, 9], [5, 10, 15]])
    1
    """
    call = "eckart.linalg.matrix_rank(A)"
    at_most_one(call, ("tol", tol), ("rtol", rtol))
    if np.ndim(A) < 2:
        return int(as_numbers(A, call)[0].any())
    wide, dtype = as_stack(A, call)
    if not wide.size:
        s = np.zeros((*wide.shape[:-2], 0))
    else:
        s = hermitian_values(wide, call) if hermitian else np.linalg.svd(wide, compute_uv=False)
    if tol is None:
        limit = cut_off(s, wide.shape, dtype, rtol, call)
    else:
        limit = as_tolerance(tol, "tol", wide.shape[:-2], call)[..., None]
    ranks = np.count_nonzero(s > limit, axis=-1)
    return int(ranks) if np.ndim(ranks) == 0 else ranks


def cond(A: ArrayLike) -> Scalars:
    """Return the condition number sigma_1 / sigma_min in the 2-norm; inf for a singular matrix.

    Equivalent to ``numpy.linalg.cond(A)``.

    Parameters
    ----------
    A : array_like (..., m, n)
        Not empty.

    Returns
    -------
    float, or ndarray (...) of float64 for a stack
        At least 1.

    Raises
    ------
    MatrixError
        If A is empty, not numeric, or holds a NaN or an infinity.

    Notes
    -----
    About 4 m n^2 flops for n <= m. Solving with A loses log10(cond(A)) digits. Values beyond 1/eps of
    float64, 4.5e15, are rounding, and mean "singular". NumPy computes in float32 for float32 data, where
    nothing above 1e7 can be resolved; this function computes in float64.

    Examples
    --------
    >>> round(cond([[4.0, 0.0], [3.0, 5.0]]), 12)
    2.0
    >>> cond([[1.0, 1.0], [0.0, 0.0]])
    inf
    """
    call = "eckart.linalg.cond(A)"
    wide, _ = as_stack(A, call)
    if 0 in wide.shape[-2:]:
        raise MatrixError(call, f"expected at least one row and one column, got shape {wide.shape}")
    s = np.linalg.svd(wide, compute_uv=False)
    largest, smallest = s[..., 0], s[..., -1]
    singular = smallest == 0
    ratio = np.where(singular, np.inf, largest / np.where(singular, 1.0, smallest))
    return float(ratio) if ratio.ndim == 0 else ratio


class MoorePenrose(NamedTuple):
    """Relative residuals of Penrose's four equations.

    Attributes
    ----------
    A_X_A : float
        ||A X A - A|| / ||A||.
    X_A_X : float
        ||X A X - X|| / ||X||.
    A_X_symmetric : float
        ||(A X)^H - A X|| / ||A X||.
    X_A_symmetric : float
        ||(X A)^H - X A|| / ||X A||.
    """

    A_X_A: float
    X_A_X: float
    A_X_symmetric: float
    X_A_symmetric: float


def moore_penrose_conditions(A: ArrayLike, X: ArrayLike) -> MoorePenrose:
    """Return how far X is from the pseudo-inverse of A: the residuals of Penrose's four conditions.

    Parameters
    ----------
    A : array_like (m, n)
        The matrix.
    X : array_like (n, m)
        The candidate.

    Returns
    -------
    MoorePenrose
        Four relative Frobenius norms. All are zero only for X = A^+. Infinite if a product is out of
        float64's range.

    Raises
    ------
    MatrixError
        If the shapes do not match, or A or X is not numeric or holds a NaN or an infinity.

    Notes
    -----
    For X from `pinv` expect about eps cond(A) in all four: no algorithm that stores X does better, since
    rounding X alone moves A X by eps ||A|| ||X||. Scaling A and X changes nothing. Four products,
    4 m n (m + n) flops.

    References
    ----------
    Penrose (1955), A generalized inverse for matrices, equations 3 to 6.

    Examples
    --------
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> max(moore_penrose_conditions(A, np.linalg.pinv(A))) < 1e-14
    True
    >>> moore_penrose_conditions([[2.0]], [[1.0]])
    MoorePenrose(A_X_A=1.0, X_A_X=1.0, A_X_symmetric=0.0, X_A_symmetric=0.0)
    """
    call = "eckart.linalg.moore_penrose_conditions(A, X)"
    left, _ = as_stack(A, call)
    right, _ = as_stack(X, call)
    if left.ndim != 2 or right.shape != left.shape[::-1]:
        raise MatrixError(call, f"expected A (m, n) and X (n, m), got {left.shape} and {right.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        AX, XA = left @ right, right @ left
        pairs = (
            (AX @ left, left),
            (XA @ right, right),
            (conjugate_transpose(AX), AX),
            (conjugate_transpose(XA), XA),
        )
    return MoorePenrose(*(relative_difference(actual, expected) for actual, expected in pairs))


def orthogonality(Q: ArrayLike) -> float:
    """Return ||Q^H Q - I||_2: how far the columns of Q are from orthonormal.

    Parameters
    ----------
    Q : array_like (m, k)
        Columns to test.

    Returns
    -------
    float
        The smallest t such that every ||Q x||^2 is between (1 - t) ||x||^2 and (1 + t) ||x||^2. At least 1
        for k > m.

    Raises
    ------
    MatrixError
        If Q is not a matrix, holds a NaN or an infinity, or has squares out of float64's range.

    Notes
    -----
    2 m k^2 flops in float64, and the eigenvalues of a k x k matrix. Householder's QR gives about
    sqrt(k) eps.

    Examples
    --------
    >>> orthogonality([[0.6, -0.8], [0.8, 0.6]]) < 1e-15
    True
    >>> orthogonality([[2.0], [0.0]])
    3.0
    """
    call = "eckart.linalg.orthogonality(Q)"
    wide, _ = as_stack(Q, call)
    if wide.ndim != 2:
        raise MatrixError(call, f"expected a matrix, got an array of shape {wide.shape}")
    k = wide.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        defect = conjugate_transpose(wide) @ wide - np.eye(k)
    if not np.isfinite(defect).all():
        largest = float(np.abs(wide).max())
        raise MatrixError(call, f"the largest entry is {largest:.3g}; its square is out of float64's range")
    return float(np.abs(np.linalg.eigvalsh(defect)).max(initial=0.0))
