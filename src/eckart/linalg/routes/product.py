"""The SVD of a product B A that is given, without forming it."""

from __future__ import annotations

import numpy as np

from eckart.errors import MatrixError
from eckart.linalg.backend import Array, as_matrix, ops_for, power_of_two
from eckart.linalg.lowrank import LowRank
from eckart.linalg.spectrum import Spectrum


def svd_of_product(B: Array, A: Array) -> LowRank:
    """Return the SVD of B A from the factors alone. Equivalent to ``numpy.linalg.svd(B @ A)``.

    Parameters
    ----------
    B : array (m, r)
    A : array (r, n)

    Returns
    -------
    LowRank
        Of rank at most min(m, n, r): components below rounding (eps max(m, n) sigma_1) are not kept.
        The factors have the dtype that came in, or float32 for smaller ones.

    Notes
    -----
    B = Q_B R_B and A^T = Q_A R_A, so B A = Q_B (R_B R_A^T) Q_A^T and the SVD of the r x r core does
    it. All of it in float64, where r columns are cheap: 4(m + n)r^2 + 22r^3 flops. Each factor is
    scaled to a largest entry near 1 first, so that 1e-30 times 1e30 is not lost on the way.

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
    if not left.shape[1]:
        return LowRank(B, np.zeros(0), A, 0.0, (0, 0), "product")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise MatrixError(call, "a factor holds a NaN or an infinity", "Mend it first")
    left, left_scale = _scaled(left)
    right, right_scale = _scaled(right)
    Q_B, R_B = np.linalg.qr(left)
    Q_A, R_A = np.linalg.qr(right.T)
    U, s, Vh = np.linalg.svd(R_B @ R_A.T, full_matrices=False)
    size = min(B.shape[0], A.shape[1])
    keep = int(np.count_nonzero(s > np.finfo(np.float64).eps * max(B.shape[0], A.shape[1]) * s[0]))
    s = s * (left_scale * right_scale)
    return LowRank(
        U=ops.like(Q_B @ U[:, :keep], B),
        s=s[:keep],
        Vh=ops.like(Vh[:keep] @ Q_A.T, B),
        rank_bounds=(keep, keep),
        method="product",
        spectrum=Spectrum(s[:keep], size=size) if keep < size else Spectrum(s[:keep]),
    )


def _scaled(M: np.ndarray) -> tuple[np.ndarray, float]:
    """Divide by a power of two near the largest entry, which costs no rounding."""
    scale = power_of_two(float(np.abs(M).max()))
    return M / scale, scale
