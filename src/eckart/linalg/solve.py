"""Pseudo-inverse and least squares, by the SVD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Floats
from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import power_of_two
from eckart.linalg.stack import (
    Numbers,
    as_numbers,
    as_stack,
    as_tolerance,
    at_most_one,
    conjugate_transpose,
    cut_off,
    hermitian_svd,
    thin_svd,
    to_dtype,
)


def pinv(
    A: ArrayLike, rcond: ArrayLike | None = None, hermitian: bool = False, *, rtol: ArrayLike | None = None
) -> Numbers:
    """Return the Moore-Penrose pseudo-inverse, V diag(1/sigma) U^H over the nonzero sigma.

    Equivalent to ``numpy.linalg.pinv(A, rtol=None)``.

    Parameters
    ----------
    A : array_like (..., m, n)
        Real or complex. Floats smaller than float32 become float32, integers float64.
    rcond : float or array_like (...), optional
        NumPy's older name for ``rtol``.
    hermitian : bool
        Whether A is Hermitian. Uses eigenvalues of its lower triangle instead of an SVD, in a third of the
        time.
    rtol : float or array_like (...), optional
        Singular values of at most ``rtol`` sigma_1 count as zero. One number for each matrix of a stack, or
        one for all. Default: max(m, n) eps of the data's dtype.

    Returns
    -------
    ndarray (..., n, m)
        In the dtype of A, at least float32.

    Raises
    ------
    MatrixError
        If A is not numeric, has fewer than two axes, or holds a NaN or an infinity; or if the result is out
        of the dtype's range.
    UsageError
        If a tolerance is negative or does not fit the stack, or both are given.

    Notes
    -----
    About 14 m n^2 + 8 n^3 flops, m >= n. The relative error is about eps cond(A).
    ``numpy.linalg.pinv(A)`` cuts at 1e-15 sigma_1 for every dtype and shape. That is below the
    rounding of any float32 matrix, and of a float64 matrix with more than a few rows, so the pseudo-inverse
    of a singular matrix is noise of size 1e7 or 1e15. Here the default follows the dtype.

    References
    ----------
    Penrose (1955), A generalized inverse for matrices. Golub and Van Loan, 4th ed., section 5.5.2.

    Examples
    --------
    >>> pinv([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).round(4).tolist()
    [[-1.3333, -0.3333, 0.6667], [1.0833, 0.3333, -0.4167]]
    """
    call = "eckart.linalg.pinv(A)"
    rtol = at_most_one(call, ("rcond", rcond), ("rtol", rtol))
    wide, dtype = as_stack(A, call)
    m, n = wide.shape[-2:]
    if not wide.size:
        return np.zeros((*wide.shape[:-2], n, m), dtype)
    U, s, Vh = hermitian_svd(wide, call) if hermitian else thin_svd(wide)
    above = s > cut_off(s, wide.shape, dtype, rtol, call)
    with np.errstate(over="ignore", invalid="ignore"):  # `to_dtype` checks the result
        inverse = np.where(above, 1.0 / np.where(above, s, 1.0), 0.0)
        product = (conjugate_transpose(Vh) * inverse[..., None, :]) @ conjugate_transpose(U)
    return to_dtype(product, dtype, call)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The result of `lstsq`. Unpacks like NumPy's: ``x, residuals, rank, s = lstsq(A, b)``.

    Parameters
    ----------
    x : ndarray (n,) or (n, k)
        The least-squares solution of smallest norm.
    residuals : ndarray (k,), float64
        ||b - A x||^2 for each right-hand side; k = 1 for a vector. Infinite if out of float64's range.
    rank : int
        Number of singular values above ``tolerance``.
    s : ndarray (min(m, n),), float64
        Singular values of A.
    tolerance : float
        Singular values of at most this count as zero.
    """

    x: Numbers
    residuals: Floats
    rank: int
    s: Floats
    tolerance: float

    def __iter__(self) -> Iterator[Any]:  # so that type checkers accept each unpacked variable
        return iter((self.x, self.residuals, self.rank, self.s))

    @property
    def condition(self) -> float:
        """Ratio sigma_1 / sigma_rank, by which a relative error in b can grow in x; 1 for a zero matrix."""
        return float(self.s[0] / self.s[self.rank - 1]) if self.rank else 1.0


def lstsq(
    A: ArrayLike, b: ArrayLike, rcond: float | None = None, *, rtol: float | None = None
) -> LeastSquares:
    """Solve min ||A x - b||, with the solution of smallest norm if there are several.

    Equivalent to ``numpy.linalg.lstsq(A, b)``.

    Parameters
    ----------
    A : array_like (m, n)
        The matrix.
    b : array_like (m,) or (m, k)
        One right-hand side, or k of them as columns.
    rcond : float, optional
        NumPy's name for ``rtol``. -1 means eps, as in NumPy.
    rtol : float, optional
        Singular values of at most ``rtol`` sigma_1 count as zero. Default: max(m, n) eps of the dtype that A
        and b came in.

    Returns
    -------
    LeastSquares
        The solution, residuals, rank and singular values.

    Raises
    ------
    MatrixError
        If the shapes do not match, A or b holds a NaN or an infinity, or the solution is out of the dtype's
        range.
    UsageError
        If the tolerance is not a number of at least 0, or both are given.

    Notes
    -----
    A tall A is reduced by one Householder QR of [A b], 2 m (n + k)^2 flops, whose triangle also contains
    the residual; an n x n SVD follows. Nothing else of size m is stored. The relative error of x is
    about eps (cond(A) + cond(A)^2 ||r|| / ||A x||) (Golub and Van Loan, 4th ed., section 5.3.8).

    Two things differ from NumPy intentionally. ``residuals`` is always computed, while NumPy leaves it empty
    for a rank below n or for m <= n. And the default tolerance follows the dtype: NumPy uses eps of
    float64 for float32 data too, so it mistakes the rounding of a singular float32 matrix for full rank and
    returns a solution that is noise.

    Examples
    --------
    The coefficients a that bring B a closest to W, for a given column B:

    >>> B = np.array([[4.0], [2.0], [3.0], [5.0]])
    >>> W = [[4.2, 8.1, 11.9], [2.1, 4.0, 6.1], [2.9, 6.1, 9.2], [5.1, 10.2, 15.1]]
    >>> fit = lstsq(B, W)
    >>> fit.x.round(4).tolist()
    [[1.0222, 2.0315, 3.0167]]
    >>> round(float(np.abs(B @ fit.x - W).mean()), 3)
    0.073
    """
    call = "eckart.linalg.lstsq(A, b)"
    wide, right, dtype, is_vector = as_problem(A, b, call)
    relative = _relative_tolerance(rcond, rtol, dtype, call)
    unit_A, unit_b = (power_of_two(float(np.abs(M).max(initial=0.0))) for M in (wide, right))
    # Dividing by powers of two is exact, and keeps away from denormal numbers, which have few digits.
    problem = in_singular_coordinates(wide / unit_A, right / unit_b)
    s, c = problem.s, problem.coordinates
    tolerance = cut_off(s, problem.shape, dtype, relative, call)
    above = (s > tolerance)[:, None]
    z = np.divide(c, s[:, None], out=np.zeros_like(c), where=above)
    residuals = problem.outside + np.where(above, 0.0, np.abs(c) ** 2).sum(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # `to_dtype` checks x
        x = to_dtype(conjugate_transpose(problem.Vh) @ z * np.divide(unit_b, unit_A), dtype, call)  # (n, k)
        return LeastSquares(
            x=x[:, 0] if is_vector else x,
            residuals=residuals * unit_b * unit_b,
            rank=int(np.count_nonzero(above)),
            s=s * unit_A,
            tolerance=float(tolerance[0]) * unit_A,
        )


def _relative_tolerance(rcond: float | None, rtol: float | None, dtype: np.dtype, call: str) -> float | None:
    """Return the relative tolerance as a float, with eps for NumPy's -1; None for the default."""
    value = at_most_one(call, ("rcond", rcond), ("rtol", rtol))
    if value is None:
        return None
    if rtol is None and np.ndim(value) == 0 and value == -1:
        return float(np.finfo(dtype).eps)
    name = "rcond" if rtol is None else "rtol"
    tolerance = as_tolerance(value, name, (), call)
    if tolerance.ndim:
        raise UsageError(call, f"expected one number for {name}, got shape {tolerance.shape}")
    return float(tolerance)


@dataclass(frozen=True, eq=False)
class DiagonalProblem:
    """A least-squares problem in the coordinates of the SVD, in which it is diagonal.

    ||A x - b||^2 = sum_i |sigma_i z_i - c_i|^2 + outside, with z = Vh x.

    Parameters
    ----------
    s : ndarray (p,)
        Singular values of A, p = min(m, n).
    Vh : ndarray (p, n)
    coordinates : ndarray (p, k)
        c = U^H b.
    outside : ndarray (k,)
        ||b - U U^H b||^2, the part of the residual that does not depend on x.
    shape : (int, int)
        (m, n).
    """

    s: Floats
    Vh: Numbers
    coordinates: Numbers
    outside: Floats
    shape: tuple[int, int]


def as_problem(A: ArrayLike, b: ArrayLike, call: str) -> tuple[Numbers, Numbers, np.dtype, bool]:
    """Check A and b; return them as (m, n) and (m, k), with the dtype of x and whether b is a vector."""
    wide, of_A = as_stack(A, call)
    right, of_b = as_numbers(b, call)
    if wide.ndim != 2 or right.ndim not in (1, 2) or right.shape[0] != wide.shape[0]:
        raise MatrixError(call, f"expected A (m, n) and b (m,) or (m, k), got {wide.shape} and {right.shape}")
    is_vector = right.ndim == 1
    return wide, right[:, None] if is_vector else right, np.result_type(of_A, of_b), is_vector


def in_singular_coordinates(A: Numbers, b: Numbers) -> DiagonalProblem:
    """Transform a checked problem, A (m, n) and b (m, k), to the coordinates of A's singular vectors."""
    (m, n), k = A.shape, b.shape[1]
    if m > n + k:
        # Householder's QR rounds each column separately, so A and b may differ in scale.
        R = np.asarray(np.linalg.qr(np.concatenate([A, b], axis=1), mode="r"))  # (n + k, n + k)
        U, s, Vh = thin_svd(R[:n, :n])
        coordinates = conjugate_transpose(U) @ R[:n, n:]
        outside = (np.abs(R[n:, n:]) ** 2).sum(axis=0)
    else:
        U, s, Vh = thin_svd(A)
        coordinates = conjugate_transpose(U) @ b
        outside = (np.abs(b - U @ coordinates) ** 2).sum(axis=0) if m > n else np.zeros(k)
    return DiagonalProblem(s, Vh, coordinates, outside, (m, n))
