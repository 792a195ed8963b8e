"""The SVD of a product B A that is given, without forming it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.errors import MatrixError
from eckart.linalg.backend import Array, as_matrix, ops_for, power_of_two
from eckart.linalg.lowrank import LowRank
from eckart.linalg.spectrum import Spectrum

Floats = NDArray[np.float64]

# B W has the error of W times the condition of B: up to this, twelve digits of a factor are left.
WELL_CONDITIONED = 1e4

# One Cholesky factorisation of B^T B errs by eps cond(B)^2: up to this by 1e-10.
ONE_PASS = 1e3


def svd_of_product(B: Array, A: Array) -> LowRank:
    """Return the SVD of B A from the factors alone. Equivalent to ``numpy.linalg.svd(B @ A)``.

    Parameters
    ----------
    B : array (m, r)
    A : array (r, n)

    Returns
    -------
    LowRank
        Of rank at most min(m, n, r): components below rounding (eps max(m, n) sigma_1, and eps r times
        the norms of the factors) are not kept.
        The factors have the dtype that came in, or float32 for smaller ones.

    Notes
    -----
    B = Q_B R_B and A^T = Q_A R_A, so B A = Q_B (R_B R_A^T) Q_A^T and the SVD of the r x r core does
    it. All of it in float64, where r columns are cheap; see `ProductCore`. A factor of extreme size is
    scaled first, so that 1e-100 times 1e100 is not lost on the way.

    Examples
    --------
    >>> f = svd_of_product(np.array([[3.0], [4.0]]), np.array([[1.0, 0.0, 0.0]]))
    >>> f.rank, f.s.tolist()
    (1, [5.0])
    """
    call = "LowRank.from_product(B, A)"
    B, A = as_matrix(B, call, may_be_empty=True), as_matrix(A, call, may_be_empty=True)
    ops = ops_for(B)
    left, right = ops.host(B).astype(np.float64), ops.host(A).astype(np.float64)
    if left.shape[1] != right.shape[0]:
        raise MatrixError(call, f"shapes {left.shape} and {right.shape} do not chain")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise MatrixError(call, "a factor holds a NaN or an infinity", "Mend it first")
    core = ProductCore.of(left, right)
    f = core.cut(left, right, len(core.s))
    return LowRank(
        U=ops.like(f.U, B),
        s=f.s,
        Vh=ops.like(f.Vh, B),
        rank_bounds=(f.rank, f.rank),
        method="product",
        spectrum=core.spectrum,
    )


@dataclass(frozen=True)
class ProductCore:
    """What is needed of a product B A to cut it to any rank: its singular values, and two small matrices.

    Parameters
    ----------
    s : ndarray (k,)
        The singular values above rounding.
    to_left, to_right : ndarray (r, k), optional
        U = B @ to_left, V = A.T @ to_right; None where B or A is too ill-conditioned for that, and
        `cut` has to orthogonalise again.
    shape : (int, int)
        (m, n).

    Notes
    -----
    Keeps 2rk numbers where the factors have r(m + n). Making it takes about 3(m + n)r^2 flops and the
    SVD of an r x r matrix, and cutting 2(m + n)rk: all of them in matrix products.
    """

    s: Floats
    to_left: Floats | None
    to_right: Floats | None
    shape: tuple[int, int]

    @classmethod
    def of(cls, B: Floats, A: Floats) -> ProductCore:
        """Factor B (m, r) times A (r, n), float64 and finite."""
        m, n, r = B.shape[0], A.shape[1], B.shape[1]
        if not (m and n and r and B.any() and A.any()):
            return cls(np.zeros(0), np.zeros((r, 0)), np.zeros((r, 0)), (m, n))
        left, left_scale = _scaled(B)
        right, right_scale = _scaled(A)
        R_B, inverse_B = triangle(left)
        R_A, inverse_A = triangle(right.T)
        U, s, Vh = np.linalg.svd(R_B @ R_A.T, full_matrices=False)
        # What cancels in B A leaves rounding of the size of the factors, not of sigma_1.
        eps, norms = np.finfo(np.float64).eps, np.linalg.norm(R_B) * np.linalg.norm(R_A)
        keep = int(np.count_nonzero(s > eps * max(max(m, n) * s[0], r * norms)))
        values = s[:keep] * (left_scale * right_scale)
        if inverse_B is None or inverse_A is None:
            return cls(values, None, None, (m, n))
        to_left, to_right = inverse_B @ U[:, :keep], inverse_A @ Vh[:keep].T
        return cls(values, to_left / left_scale, to_right / right_scale, (m, n))

    @property
    def spectrum(self) -> Spectrum:
        """All singular values that are not zero, of a matrix with no others."""
        size = min(self.shape)
        return Spectrum(self.s, size=size) if len(self.s) < size else Spectrum(self.s)

    def cut(self, B: Floats, A: Floats, rank: int) -> LowRank:
        """Return the leading components of the product that this was made of."""
        s, left_out = self.s[:rank], float((self.s[rank:] ** 2).sum())
        if self.to_left is not None and self.to_right is not None:
            return LowRank(B @ self.to_left[:, :rank], s, (A.T @ self.to_right[:, :rank]).T, left_out)
        Q_B, R_B = np.linalg.qr(_scaled(B)[0])
        Q_A, R_A = np.linalg.qr(_scaled(A)[0].T)
        U, _, Vh = np.linalg.svd(R_B @ R_A.T, full_matrices=False)
        return LowRank(Q_B @ U[:, :rank], s, Vh[:rank] @ Q_A.T, left_out)


def triangle(B: Floats) -> tuple[Floats, Floats | None]:
    """Return R of B = Q R, (min(m, r), r), and R^-1, without Q.

    Equivalent to ``numpy.linalg.qr(B, mode="r")``. The inverse is None where B is so ill-conditioned
    that B R^-1 would not be orthonormal to twelve digits.

    Notes
    -----
    CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, 2015): R_1 from the Cholesky factor of
    B^T B, R_2 from that of the Gram matrix of B R_1^-1, R = R_2 R_1. As accurate as Householder's QR
    while cond(B) is under about 1e7, and ten times as fast on tall matrices, being matrix products;
    where cond(B) is small, R_1 will do. Beyond that the first factor fails or is ill-conditioned,
    and Householder's is taken. Conditions are bounded by ||R||_F ||R^-1||_F.
    """
    m, r = B.shape
    R: Any  # NumPy's stubs give every routine another dtype
    inverse: Any
    if m > 2 * r:
        try:
            R = np.linalg.cholesky(B.T @ B).T
            inverse = np.linalg.inv(R)
            bound = _condition(R, inverse)
            if ONE_PASS < bound < 1e6:
                Q = B @ inverse
                R = np.linalg.cholesky(Q.T @ Q).T @ R
                inverse = np.linalg.inv(R)
            if bound < 1e6:
                return R, inverse if bound < WELL_CONDITIONED else None
        except np.linalg.LinAlgError:
            pass  # not positive definite to rounding: dependent columns
    R = np.asarray(np.linalg.qr(B, mode="r"))
    if R.shape[0] == r and np.diag(R).all():
        inverse = np.linalg.inv(R)
        if _condition(R, inverse) < WELL_CONDITIONED:
            return R, inverse
    return R, None


def _condition(R: Floats, inverse: Floats) -> float:
    return float(np.linalg.norm(R) * np.linalg.norm(inverse))


def _scaled(M: Floats) -> tuple[Floats, float]:
    """Divide by a power of two near the largest entry, without rounding, where squares could overflow."""
    largest = float(np.abs(M).max(initial=0.0))
    if 1e-60 < largest < 1e60:
        return M, 1.0
    scale = power_of_two(largest)
    return M / scale, scale
