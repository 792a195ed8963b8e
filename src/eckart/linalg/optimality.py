"""Eckart and Young's theorem, checked on a matrix of yours in both norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eckart.checks import check_whole_number
from eckart.linalg.backend import NUMPY, as_matrix, check_energy, ops_for
from eckart.linalg.decompose import svd
from eckart.linalg.lowrank import LowRank
from eckart.linalg.routes.krylov import seed_for


@dataclass(frozen=True)
class Optimality:
    """What the best approximation of one rank leaves out, measured and foretold.

    Parameters
    ----------
    rank : int
    frobenius, spectral : float
        ||A - A_r||_F and ||A - A_r||_2, measured on the difference.
    frobenius_foretold, spectral_foretold : float
        sqrt(sum_{i>r} sigma_i^2) and sigma_{r+1}, from the singular values.
    rivals : float
        The least ||A - B||_F / ||A - A_r||_F among other matrices of rank r that were tried; at least 1,
        and 1 where nothing is left out.
    """

    rank: int
    frobenius: float
    frobenius_foretold: float
    spectral: float
    spectral_foretold: float
    rivals: float


def eckart_young(A: ArrayLike, rank: int, *, tries: int = 20, seed: int = 0) -> Optimality:
    """Check on A that its truncated SVD is the best approximation of a rank.

    Parameters
    ----------
    A : array_like (m, n)
    rank : int
        From 1 to min(m, n).
    tries : int
        Rivals, one at least: A projected on ``rank`` columns near the best ones.
    seed : int
        Seeds the rivals.

    Returns
    -------
    Optimality

    Raises
    ------
    MatrixError
        Not a real matrix, empty, a NaN or an infinity, or squares out of float64's range.
    UsageError
        A rank that A has not, or no rival.

    Notes
    -----
    A full SVD in float64, 26 n^3 flops, and 4 m n r for each rival. Rivals prove no theorem; one that
    wins would disprove it.

    References
    ----------
    Eckart and Young (1936), The approximation of one matrix by another of lower rank. Mirsky (1960) for
    the spectral norm.

    Examples
    --------
    >>> found = eckart_young(np.diag([3.0, 2.0, 1.0]), 1)
    >>> round(found.frobenius, 4), round(found.spectral, 4), found.rivals >= 1
    (2.2361, 2.0, True)
    """
    call = "eckart.linalg.eckart_young(A, rank)"
    matrix = as_matrix(A, call)
    wide = ops_for(matrix).host(matrix).astype(np.float64)
    limit = min(wide.shape)
    rank = check_whole_number(rank, f"eckart_young(rank={rank!r})", 1, limit)
    tries = check_whole_number(tries, f"eckart_young(tries={tries!r})", 1)
    check_energy(wide, NUMPY.energy(wide), call)
    f = svd(wide)
    best: LowRank = f.truncate(rank=int(rank))
    left = wide - best.dense()
    measured = float(np.linalg.norm(left))
    random = np.random.default_rng(seed_for(seed))
    rivals = []
    for _ in range(tries):
        near = best.U + 0.1 * random.standard_normal(best.U.shape) / np.sqrt(wide.shape[0])
        Q = np.linalg.qr(near)[0]  # (m, r)
        rivals.append(float(np.linalg.norm(wide - Q @ (Q.T @ wide))))
    something = measured > np.finfo(np.float64).eps * limit * best.norm()
    return Optimality(
        rank=int(rank),
        frobenius=measured,
        frobenius_foretold=float(np.sqrt((f.s[rank:] ** 2).sum())),
        spectral=float(np.linalg.norm(left, 2)),
        spectral_foretold=float(f.s[rank]) if rank < limit else 0.0,
        rivals=min(rivals) / measured if something else 1.0,
    )
