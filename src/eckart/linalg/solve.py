"""Pseudo-inverse and least squares, by the SVD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eckart.errors import MatrixError
from eckart.linalg.backend import Floats
from eckart.linalg.stack import Numbers, as_numbers, as_stack, conjugate_transpose, cut_off, thin_svd


def pinv(A: ArrayLike, *, rtol: ArrayLike | None = None) -> Numbers:
    """Return the Moore-Penrose pseudo-inverse, V diag(1/sigma) U^H over the sigma that are not zero.

    Equivalent to ``numpy.linalg.pinv(A, rtol=None)``.

    Parameters
    ----------
    A : array_like (..., m, n)
        Real or complex. Smaller floats than float32 become float32, integers float64.
    rtol : float or array_like (...), optional
        Singular values at or under ``rtol`` sigma_1 are taken for zero. Default: max(m, n) eps of the
        data's dtype. NumPy calls the same number ``rcond`` too.

    Returns
    -------
    ndarray (..., n, m)
        In float32 for float32.

    Raises
    ------
    MatrixError
        Not numbers, fewer than two axes, or a NaN or an infinity.

    Notes
    -----
    About 14 m n^2 + 8 n^3 flops, m >= n. The relative error is about eps cond(A).
    ``numpy.linalg.pinv(A)`` cuts at 1e-15 sigma_1 whatever the dtype and the shape. That is under the
    rounding of any float32 matrix, and of a float64 one beyond a few rows, so that the pseudo-inverse
    of a singular matrix comes out as noise of size 1e7 or 1e15; here, the default follows the dtype.

    References
    ----------
    Penrose (1955), A generalized inverse for matrices. Golub and Van Loan, 4th ed., section 5.5.2.

    Examples
    --------
    >>> pinv([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).round(4).tolist()
    [[-1.3333, -0.3333, 0.6667], [1.0833, 0.3333, -0.4167]]
    """
    call = "eckart.linalg.pinv(A)"
    wide, dtype = as_stack(A, call)
    m, n = wide.shape[-2:]
    if not wide.size:
        return np.zeros((*wide.shape[:-2], n, m), dtype)
    U, s, Vh = thin_svd(wide)
    inverse = inverted(s, cut_off(s, wide.shape, dtype, rtol, call))
    return np.asarray((conjugate_transpose(Vh) * inverse[..., None, :]) @ conjugate_transpose(U), dtype)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """What `lstsq` found. Unpacks as NumPy's: ``x, residuals, rank, s = lstsq(A, b)``.

    Parameters
    ----------
    x : ndarray (n,) or (n, k)
        The least-squares solution of smallest norm.
    residuals : ndarray (k,), float64
        ||b - A x||^2 for each right-hand side; one for a vector.
    rank : int
        Number of singular values above ``tolerance``.
    s : ndarray (min(m, n),), float64
        Singular values of A.
    tolerance : float
        Singular values at or under this were taken for zero.
    """

    x: Numbers
    residuals: Floats
    rank: int
    s: Floats
    tolerance: float

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.residuals, self.rank, self.s))

    @property
    def condition(self) -> float:
        """sigma_1 / sigma_rank: how much a relative error in b can grow in x. 1 for a zero matrix."""
        return float(self.s[0] / self.s[self.rank - 1]) if self.rank else 1.0


def lstsq(A: ArrayLike, b: ArrayLike, *, rtol: float | None = None) -> LeastSquares:
    """Solve min ||A x - b||, and among all solutions take the one of smallest norm.

    Equivalent to ``numpy.linalg.lstsq(A, b)``.

    Parameters
    ----------
    A : array_like (m, n)
    b : array_like (m,) or (m, k)
        One right-hand side, or k of them as columns.
    rtol : float, optional
        Singular values at or under ``rtol`` sigma_1 are taken for zero. Default: max(m, n) eps of the
        dtype that A and b came in.

    Returns
    -------
    LeastSquares

    Raises
    ------
    MatrixError
        Shapes that do not fit, or a NaN or an infinity.

    Notes
    -----
    A tall A is reduced by one Householder QR of [A b], 2 m (n + k)^2 flops, whose triangle also holds
    the residual; then an n x n SVD. Nothing of size m is stored beside it. The relative error of x is
    about eps (cond(A) + cond(A)^2 ||r|| / ||A x||) (Golub and Van Loan, 4th ed., section 5.3.8).

    Two things differ from NumPy, on purpose. ``residuals`` is always given, where NumPy leaves it empty
    for a rank below n or for m <= n. And the default tolerance follows the dtype: NumPy takes eps of
    float64 for float32 data too, calls the rounding of a singular float32 matrix full rank, and
    returns a solution that is all noise.

    Examples
    --------
    The coefficients a that bring B a closest to W, for a column B that is given:

    >>> B = np.array([[4.0], [2.0], [3.0], [5.0]])
    >>> W = [[4.2, 8.1, 11.9], [2.1, 4.0, 6.1], [2.9, 6.1, 9.2], [5.1, 10.2, 15.1]]
    >>> fit = lstsq(B, W)
    >>> fit.x.round(4).tolist()
    [[1.0222, 2.0315, 3.0167]]
    >>> round(float(np.abs(B @ fit.x - W).mean()), 3)
    0.073
    """
    call = "eckart.linalg.lstsq(A, b)"
    problem, dtype, is_vector = reduced(A, b, call)
    s = problem.s
    tolerance = cut_off(s, problem.shape, dtype, rtol, call)
    inverse = inverted(s, tolerance)
    rank = int(np.count_nonzero(inverse))
    x = conjugate_transpose(problem.Vh) @ (inverse[:, None] * problem.coordinates)  # (n, k)
    missed = np.where(inverse[:, None] > 0, 0.0, np.abs(problem.coordinates)) ** 2
    residuals = problem.outside + missed.sum(axis=0)
    x = (x[:, 0] if is_vector else x).astype(dtype)
    return LeastSquares(x, residuals, rank, s, float(tolerance[0]))


@dataclass(frozen=True, eq=False)
class Reduced:
    """A least-squares problem in the coordinates of the SVD, where it is diagonal.

    ||A x - b||^2 = sum_i |sigma_i z_i - c_i|^2 + outside, with z = Vh x.

    Parameters
    ----------
    s : ndarray (p,)
        Singular values of A, p = min(m, n).
    Vh : ndarray (p, n)
    coordinates : ndarray (p, k)
        c = U^H b.
    outside : ndarray (k,)
        ||b - U U^H b||^2: what no x reaches.
    shape : (int, int)
        (m, n).
    """

    s: Floats
    Vh: Numbers
    coordinates: Numbers
    outside: Floats
    shape: tuple[int, int]


def reduced(A: ArrayLike, b: ArrayLike, call: str) -> tuple[Reduced, np.dtype[Any], bool]:
    """Check A (m, n) and b (m,) or (m, k) and reduce them; also the dtype of x, and whether b is a vector."""
    wide, of_A = as_stack(A, call)
    right, of_b = as_numbers(b, call)
    if wide.ndim != 2 or right.ndim not in (1, 2) or right.shape[0] != wide.shape[0]:
        raise MatrixError(call, f"expected A (m, n) and b (m,) or (m, k), got {wide.shape} and {right.shape}")
    is_vector = right.ndim == 1
    right = right[:, None] if is_vector else right
    m, n = wide.shape
    k = right.shape[1]
    if m > n + k:
        # Householder's QR treats columns apart, so b may be of any scale beside A.
        R = np.asarray(np.linalg.qr(np.concatenate([wide, right], axis=1), mode="r"))  # (n + k, n + k)
        U, s, Vh = thin_svd(R[:n, :n])
        coordinates = conjugate_transpose(U) @ R[:n, n:]
        outside = (np.abs(R[n:, n:]) ** 2).sum(axis=0)
    else:
        U, s, Vh = thin_svd(wide)
        coordinates = conjugate_transpose(U) @ right
        outside = (np.abs(right - U @ coordinates) ** 2).sum(axis=0) if m > n else np.zeros(k)
    return Reduced(s, Vh, coordinates, outside, (m, n)), np.result_type(of_A, of_b), is_vector


def inverted(s: Floats, tolerance: Floats) -> Floats:
    """Return 1/sigma where sigma is above the tolerance, and 0 elsewhere."""
    above = s > tolerance
    return np.where(above, 1.0 / np.where(above, s, 1.0), 0.0)
