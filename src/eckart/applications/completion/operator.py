"""The sum of a sparse and a low-rank matrix, S + U V^T, as an operator that is never formed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eckart.arrays import Array, Floats
from eckart.linalg.routes.krylov import BlockKrylov, leading
from eckart.linalg.seeds import seed_for

if TYPE_CHECKING:
    import scipy.sparse

SLACK = 0.01  # energy that the leading components may lack, as a share of the rest; they are only a start


class SparsePlusLowRank:
    """The m x n matrix S + U V^T, for products from either side.

    Parameters
    ----------
    S : scipy.sparse.csr_array (m, n)
        The sparse part.
    U, V : ndarray (m, r) and (n, r)
        Factors of the low-rank part.

    Notes
    -----
    Soft-impute completes this matrix: S holds the residual of the model at the known entries, and U V^T is
    the model (Mazumder, Hastie and Tibshirani, 2010, eq. 13). A product with b columns costs
    2 b (nnz(S) + (m + n) r) flops, compared with 2 b m n for the dense matrix.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> A = SparsePlusLowRank(scipy.sparse.csr_array(np.eye(2)), np.ones((2, 1)), np.ones((2, 1)))
    >>> (A @ np.eye(2)).tolist(), A.energy
    ([[2.0, 1.0], [1.0, 2.0]], 10.0)
    """

    __array_ufunc__ = None  # makes `ndarray @ SparsePlusLowRank` call __rmatmul__ of this class

    def __init__(self, S: scipy.sparse.csr_array, U: Array, V: Array) -> None:
        self.S, self.U, self.V = S, U, V
        self.shape: tuple[int, int] = (int(S.shape[0]), int(S.shape[1]))
        self.dtype = U.dtype

    @property
    def T(self) -> SparsePlusLowRank:
        """The transpose."""
        return SparsePlusLowRank(self.S.T, self.V, self.U)

    @property
    def energy(self) -> float:
        """||S + U V^T||_F^2, computed in float64 from the parts. The cross term is <S V, U>."""
        wide_U, wide_V = self.U.astype(np.float64), self.V.astype(np.float64)
        cross = float((np.asarray(self.S @ wide_V) * wide_U).sum())
        low = float(((wide_U.T @ wide_U) * (wide_V.T @ wide_V)).sum())
        return max(float((self.S.data.astype(np.float64) ** 2).sum()) + 2 * cross + low, 0.0)

    def __matmul__(self, X: Array) -> Array:
        return np.asarray(self.S @ X + self.U @ (self.V.T @ X))

    def __rmatmul__(self, Y: Array) -> Array:
        return np.ascontiguousarray((self.T @ Y.T).T)

    def __getitem__(self, block: tuple[slice, slice]) -> Array:
        rows, columns = block
        low = self.U[rows] @ self.V[columns].T
        return np.asarray(self.S[rows, columns].toarray() + low, self.dtype)


def leading_triplets(A: SparsePlusLowRank, rank: int, seed: int) -> tuple[Array, Floats, Array]:
    """Return approximations of the leading singular triplets, computed by Eckart's block Krylov route.

    Parameters
    ----------
    A : SparsePlusLowRank
        The matrix, (m, n).
    rank : int
        Number of triplets.
    seed : int
        Random seed of the starting block.

    Returns
    -------
    U : ndarray (m, k)
        Left singular vectors. k is `rank`, or less if the matrix has a lower rank.
    s : ndarray (k,)
        Singular values in decreasing order.
    Vh : ndarray (k, n)
        Right singular vectors.

    Notes
    -----
    Compared with the best triplets, these may lack an energy of at most 1 % of the remaining energy.
    """
    krylov = BlockKrylov(A, A.energy, seed_for(seed))
    rank = min(rank, *A.shape)
    if krylov.total > 0 and rank:
        leading(krylov, rank, SLACK)
    if not krylov.width:
        return np.zeros((A.shape[0], 0)), np.zeros(0), np.zeros((0, A.shape[1]))
    return krylov.triplets(rank)
