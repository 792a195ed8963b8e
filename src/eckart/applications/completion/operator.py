"""S + U V^T, with S sparse: a matrix that is multiplied and never formed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.arrays import Floats
from eckart.linalg.routes.krylov import BlockKrylov, leading, seed_for

SLACK = 0.01  # energy the leading components may lack, as a share of the rest: they are only a start


class SparsePlusLowRank:
    """The m x n matrix S + U V^T, for products from either side.

    Parameters
    ----------
    S : scipy.sparse array (m, n)
    U : ndarray (m, r)
    V : ndarray (n, r)

    Notes
    -----
    This is the matrix that soft-impute completes: S holds what the model misses at the known entries,
    U V^T the model everywhere (Mazumder, Hastie and Tibshirani, 2010, eq. 13). A product with b columns
    costs 2 b (nnz(S) + (m + n) r) flops, against 2 b m n for the matrix itself.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> A = SparsePlusLowRank(scipy.sparse.csr_array(np.eye(2)), np.ones((2, 1)), np.ones((2, 1)))
    >>> (A @ np.eye(2)).tolist(), A.energy
    ([[2.0, 1.0], [1.0, 2.0]], 10.0)
    """

    __array_ufunc__ = None  # so that `ndarray @ SparsePlusLowRank` comes to this class

    def __init__(self, S: Any, U: NDArray[Any], V: NDArray[Any]) -> None:
        self.S, self.U, self.V = S, U, V
        self.shape: tuple[int, int] = (int(S.shape[0]), int(S.shape[1]))
        self.dtype = U.dtype

    @property
    def T(self) -> SparsePlusLowRank:
        """The transpose."""
        return SparsePlusLowRank(self.S.T, self.V, self.U)

    @property
    def energy(self) -> float:
        """||S + U V^T||_F^2 in float64, from the parts: the cross term is <S V, U>."""
        wide_U, wide_V = self.U.astype(np.float64), self.V.astype(np.float64)
        cross = float((np.asarray(self.S @ wide_V) * wide_U).sum())
        low = float(((wide_U.T @ wide_U) * (wide_V.T @ wide_V)).sum())
        return max(float((self.S.data.astype(np.float64) ** 2).sum()) + 2 * cross + low, 0.0)

    def __matmul__(self, X: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.S @ X + self.U @ (self.V.T @ X))

    def __rmatmul__(self, Y: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray((self.T @ Y.T).T)

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = where
        low = self.U[rows] @ self.V[columns].T
        return np.asarray(self.S[rows, columns].toarray() + low, self.dtype)


def leading_triplets(A: SparsePlusLowRank, rank: int, seed: int) -> tuple[NDArray[Any], Floats, NDArray[Any]]:
    """Return about the leading ``rank`` triplets U (m, k), s (k,), Vh (k, n), by Eckart's block Krylov.

    k is less than ``rank`` where the matrix has no more; the energy they lack is within 1 % of the rest.
    """
    krylov = BlockKrylov(A, A.energy, seed_for(seed))
    rank = min(rank, *A.shape)
    if krylov.total > 0 and rank:
        leading(krylov, rank, SLACK)
    if not krylov.width:
        return np.zeros((A.shape[0], 0)), np.zeros(0), np.zeros((0, A.shape[1]))
    return krylov.triplets(rank)
