"""The nearest sum of Kronecker products to a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array
from eckart.checks import is_whole_number
from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import NUMPY, check_energy
from eckart.linalg.decompose import svd
from eckart.linalg.kronecker.products import kron_matvec
from eckart.linalg.stack import Numbers, as_stack


@dataclass(frozen=True, eq=False)
class KroneckerSum:
    """A matrix stored as a sum of Kronecker products, sum_i A_i kron B_i.

    Parameters
    ----------
    A : ndarray (r, m_1, n_1)
        The left factors.
    B : ndarray (r, m_2, n_2)
        The right factors.
    error : float
        Relative Frobenius error against the original matrix.
    """

    A: Array
    B: Array
    error: float = 0.0

    @property
    def rank(self) -> int:
        """Number of terms."""
        return len(self.A)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m_1 m_2, n_1 n_2) of the matrix."""
        return self.A.shape[1] * self.B.shape[1], self.A.shape[2] * self.B.shape[2]

    @property
    def parameters(self) -> int:
        """Number of entries of A and B together."""
        return int(self.A.size + self.B.size)

    def dense(self) -> Array:
        """Return the matrix as an array (m_1 m_2, n_1 n_2)."""
        m, n = self.shape
        return np.asarray(np.einsum("rij,rkl->ikjl", self.A, self.B, optimize=True).reshape(m, n))

    def __matmul__(self, x: ArrayLike) -> Numbers:
        start = np.zeros((self.shape[0], *np.shape(x)[1:]))
        return sum((kron_matvec(pair, x) for pair in zip(self.A, self.B, strict=True)), start=start)


def nearest_kronecker(
    M: ArrayLike,
    shape: tuple[int, int],
    *,
    rank: int | None = 1,
    energy: float | None = None,
    error: float | None = None,
) -> KroneckerSum:
    """Return the sum of Kronecker products A_i kron B_i nearest to M in the Frobenius norm.

    Parameters
    ----------
    M : array_like (m_1 m_2, n_1 n_2)
        The matrix.
    shape : (int, int)
        (m_1, n_1) of the A_i, which determines that of the B_i. Must divide the shape of M.
    rank : int, optional
        Number of terms; 1 by default. Pass ``rank=None`` with another goal.
    energy : float, optional
        Use the least number of terms that keeps this share of ||M||_F^2.
    error : float, optional
        Use the least number of terms with a relative Frobenius error of at most this.

    Returns
    -------
    KroneckerSum
        With ||A_i|| = ||B_i||, in the dtype of M, at least float32.

    Raises
    ------
    MatrixError
        If M is not a real matrix, holds a NaN or an infinity, or has squares out of float64's range.
    UsageError
        If the shape does not divide M's, more than one goal is given, or a goal is out of range.

    Notes
    -----
    The blocks of M, each flattened to a row, form an (m_1 n_1) x (m_2 n_2) matrix in which A kron B is the
    outer product of vec(A) and vec(B). Rearranging preserves the Frobenius norm, so this is
    Eckart and Young's problem, and the SVD solves it. Cost: that of `eckart.svd` on the rearranged matrix.

    References
    ----------
    Van Loan and Pitsianis (1993), Approximation with Kronecker products, theorem 2.1 and corollary 2.2.

    Examples
    --------
    >>> nearest = nearest_kronecker(np.kron([[1.0, 2.0], [3.0, 4.0]], np.eye(3)), (2, 2))
    >>> nearest.rank, nearest.error < 1e-15, nearest.parameters
    (1, True, 13)
    """
    call = "eckart.linalg.nearest_kronecker(M, shape)"
    matrix, dtype = as_stack(M, call)
    if matrix.ndim != 2 or matrix.dtype.kind == "c":
        raise MatrixError(call, f"expected a real matrix, got shape {matrix.shape}, {matrix.dtype}")
    m1, n1, m2, n2 = _divided(matrix.shape, shape)
    check_energy(matrix, NUMPY.energy(matrix), call)
    f = svd(rearranged(matrix, shape).astype(dtype), rank=rank, energy=energy, error=error)
    left, right = f.factors()  # (m_1 n_1, r), (r, m_2 n_2)
    return KroneckerSum(left.T.reshape(-1, m1, n1), right.reshape(-1, m2, n2), f.error)


def rearranged(M: ArrayLike, shape: tuple[int, int]) -> Array:
    """Return the matrix whose rows are the flattened blocks of M.

    Parameters
    ----------
    M : array_like (m_1 m_2, n_1 n_2)
        The matrix.
    shape : (int, int)
        (m_1, n_1), the number of blocks down and across.

    Returns
    -------
    ndarray (m_1 n_1, m_2 n_2)
        One row for each block, from left to right and then down.

    Raises
    ------
    UsageError
        If the shape does not divide M's.

    Examples
    --------
    >>> rearranged([[1, 2, 3, 4]], (1, 2)).tolist()
    [[1, 2], [3, 4]]
    """
    array = np.asarray(M)
    m1, n1, m2, n2 = _divided(array.shape, shape)
    return array.reshape(m1, m2, n1, n2).transpose(0, 2, 1, 3).reshape(m1 * n1, m2 * n2)


def _divided(whole: tuple[int, ...], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return m_1, n_1, m_2 and n_2, checked."""
    is_pair = len(whole) == 2 and isinstance(shape, (tuple, list)) and len(shape) == 2
    if is_pair and all(_divides(part, size) for part, size in zip(shape, whole, strict=True)):
        m1, n1 = int(shape[0]), int(shape[1])
        return m1, n1, whole[0] // m1, whole[1] // n1
    sizes = " and ".join(map(str, whole))
    raise UsageError(f"nearest_kronecker(shape={shape})", f"expected divisors of {sizes}, the shape of M")


def _divides(part: object, size: int) -> bool:
    return is_whole_number(part, least=1) and size > 0 and size % part == 0
