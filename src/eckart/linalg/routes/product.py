"""The SVD of a product B A that is given, without forming it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.errors import MatrixError
from eckart.linalg.backend import Array, as_matrix, ops_for
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
    it. All of it in float64, where r columns are cheap; see `ProductCore`. Components are balanced between
    the factors first, so that 1e-100 times 1e100 is not lost on the way.

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
        left_scales, right_scales = _balance(B, A)
        R_B, inverse_B = triangle(_times(B, left_scales))
        R_A, inverse_A = triangle(_times(A.T, right_scales))
        U, s, Vh = np.linalg.svd(R_B @ R_A.T, full_matrices=False)
        # What cancels in B A leaves rounding of the size of the factors, not of sigma_1.
        eps, norms = np.finfo(np.float64).eps, np.linalg.norm(R_B) * np.linalg.norm(R_A)
        keep = int(np.count_nonzero(s > eps * max(max(m, n) * s[0], r * norms)))
        scale = _common(left_scales, right_scales)
        values = s[:keep] / scale
        if inverse_B is None or inverse_A is None:
            return cls(values, None, None, (m, n))
        to_left, to_right = inverse_B @ U[:, :keep], inverse_A @ Vh[:keep].T
        return cls(values, left_scales[:, None] * to_left, right_scales[:, None] * to_right, (m, n))

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
        left_scales, right_scales = _balance(B, A)
        Q_B, R_B = np.linalg.qr(_times(B, left_scales))
        Q_A, R_A = np.linalg.qr(_times(A.T, right_scales))
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


def _balance(B: Floats, A: Floats) -> tuple[Floats, Floats]:
    """Return what to multiply the columns of B and the rows of A by, so that both are near 1 in size.

    Powers of two, so that nothing is rounded: a component whose B is 1e14 and whose A is 1e-14 must not
    drown another in rounding, nor 1e-200 times 1e200 be lost. The products of the pairs are all alike,
    but 0 for a component that is zero.
    """
    b, a = np.abs(B).max(axis=0), np.abs(A).max(axis=1)
    live = (b > 0) & (a > 0)
    if not live.any():
        return np.zeros(len(b)), np.zeros(len(b))
    high, low = np.log2(b, where=live, out=np.zeros(len(b))), np.log2(a, where=live, out=np.zeros(len(a)))
    tilt = np.round((high - low) / 2)
    size = np.round((high + low)[live].max() / 2)
    if np.abs(tilt).max() <= 8 and abs(size) <= 60 and live.all():
        return np.ones(len(b)), np.ones(len(b))
    return np.where(live, np.exp2(-tilt - size), 0.0), np.where(live, np.exp2(tilt - size), 0.0)


def _times(M: Floats, scales: Floats) -> Floats:
    return M if (scales == 1.0).all() else M * scales


def _common(left: Floats, right: Floats) -> float:
    """Return the one product of the pairs that are not zero."""
    return float((left * right).max(initial=0.0)) or 1.0
