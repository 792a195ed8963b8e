"""Eckart and Young's theorem, checked numerically on a given matrix, in both norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eckart.checks import check_whole_number
from eckart.linalg.backend import NUMPY, as_matrix, check_energy, ops_for
from eckart.linalg.decompose import svd
from eckart.linalg.lowrank import LowRank
from eckart.linalg.seeds import seed_for


@dataclass(frozen=True)
class Optimality:
    """Errors of the best approximation of a rank, measured and predicted.

    Parameters
    ----------
    rank : int
        Rank of the approximation.
    frobenius : float
        ||A - A_r||_F, measured on the difference.
    frobenius_predicted : float
        sqrt(sum_{i>r} sigma_i^2), from the singular values.
    spectral : float
        ||A - A_r||_2, measured on the difference.
    spectral_predicted : float
        sigma_{r+1}, from the singular values.
    best_competitor : float
        The least ||A - B||_F / ||A - A_r||_F among the other matrices B of rank r that were tried. At least
        1 if the theorem holds; 1 if the approximation is exact.
    """

    rank: int
    frobenius: float
    frobenius_predicted: float
    spectral: float
    spectral_predicted: float
    best_competitor: float


def eckart_young(A: ArrayLike, rank: int, *, tries: int = 20, seed: int = 0) -> Optimality:
    """Check on A that its truncated SVD is the best approximation of a rank.

    Parameters
    ----------
    A : array_like (m, n)
        The matrix.
    rank : int
        From 1 to min(m, n).
    tries : int
        Number of competitors, at least 1. Each is A projected on ``rank`` directions near the best ones.
    seed : int
        Seed of the competitors.

    Returns
    -------
    Optimality
        Errors in both norms, and the best competitor.

    Raises
    ------
    MatrixError
        If A is not a real matrix, is empty, holds a NaN or an infinity, or has squares out of float64's
        range.
    UsageError
        If an argument is out of range.

    Notes
    -----
    A full SVD in float64, 26 n^3 flops, and 4 m n r for each competitor. Competitors do not prove the
    theorem, but one with a smaller error would disprove it.

    References
    ----------
    Eckart and Young (1936), The approximation of one matrix by another of lower rank. Mirsky (1960) for
    the spectral norm.

    Examples
    --------
    >>> result = eckart_young(np.diag([3.0, 2.0, 1.0]), 1)
    >>> round(result.frobenius, 4), round(result.spectral, 4), result.best_competitor >= 1
    (2.2361, 2.0, True)
    """
    call = "eckart.linalg.eckart_young(A, rank)"
    matrix = as_matrix(A, call)
    wide = ops_for(matrix).host(matrix).astype(np.float64)
    limit = min(wide.shape)
    rank = check_whole_number(rank, f"eckart_young(rank={rank!r})", 1, limit)
    tries = check_whole_number(tries, f"eckart_young(tries={tries!r})", 1)
    random = np.random.default_rng(seed_for(seed))
    check_energy(wide, NUMPY.energy(wide), call)
    f = svd(wide)
    best: LowRank = f.truncate(rank=rank)
    difference = wide - best.dense()
    error = float(np.linalg.norm(difference))
    competitors = []
    for _ in range(tries):
        near = best.U + 0.1 * random.standard_normal(best.U.shape) / np.sqrt(wide.shape[0])
        Q = np.linalg.qr(near)[0]  # (m, r)
        competitors.append(float(np.linalg.norm(wide - Q @ (Q.T @ wide))))
    is_exact = error <= np.finfo(np.float64).eps * limit * best.norm()
    return Optimality(
        rank=rank,
        frobenius=error,
        frobenius_predicted=float(np.sqrt((f.s[rank:] ** 2).sum())),
        spectral=float(np.linalg.norm(difference, 2)),
        spectral_predicted=float(f.s[rank]) if rank < limit else 0.0,
        best_competitor=1.0 if is_exact else min(competitors) / error,
    )
