"""`svd` and `spectrum`: pick the cheapest route that can do what is asked, and check that it did."""

from __future__ import annotations

from typing import Literal

import numpy as np

from eckart.arrays import Floats
from eckart.errors import MissingExtraError, UsageError
from eckart.linalg.backend import (
    DeviceArray,
    as_matrix,
    check_energy,
    is_torch,
    ops_for,
    scaled_to_safe_range,
)
from eckart.linalg.certificate import rank_bounds
from eckart.linalg.goal import Goal, one_goal
from eckart.linalg.lowrank import LowRank
from eckart.linalg.routes.krylov import BlockKrylov, leading, reaching, seed_for
from eckart.linalg.spectrum import Spectrum

Method = Literal["auto", "lapack", "gram", "krylov"]

SMALL = 256  # up to this, LAPACK takes milliseconds and there is nothing to save
SLACK = 0.004  # energy a rank-k answer may lack, as a share of the tail: 0.2 % of the residual
MEASURE_BELOW = 1e-3  # a tail under this share of the energy is measured, not deduced: see `_tail`


def svd(
    A: DeviceArray,
    *,
    rank: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    method: Method = "auto",
    seed: int = 0,
) -> LowRank:
    """Factor a matrix to the least rank that does what is asked.

    Equivalent to ``numpy.linalg.svd(A, full_matrices=False)`` cut at the right rank.

    Parameters
    ----------
    A : array_like (m, n)
        NumPy array or torch tensor. float32 and float64 are used as they are; smaller floats become
        float32, integers float64.
    rank : int, optional
        Keep this many components.
    energy : float, optional
        Keep the least r with energy(r) >= energy, the sum of sigma^2.
    error : float, optional
        Keep the least r with ||A - A_r||_F <= error ||A||_F.
    method : {"auto", "lapack", "gram", "krylov"}
        The route; "auto" predicts the cheapest from the shape and a small sketch.
    seed : int
        Seeds the sketch. The same input, seed and machine give the same bytes.

    Returns
    -------
    LowRank
        In the kind of array that came in. ``energy`` and ``error`` are measured; ``rank_bounds`` =
        (lo, hi) proves that hi is enough and nothing under lo is; lo == hi where the rank is exact.

    Raises
    ------
    MatrixError
        Not a matrix, empty, complex, or holding a NaN or an infinity.
    UsageError
        Two goals at once, or one out of range.

    Notes
    -----
    Cost for n x n, r kept: ``krylov`` about 16 n^2 r; ``gram`` 7/3 n^3 + 4 n^2 r; ``lapack`` 26 n^3.
    Accuracy: ``krylov`` leaves at most about 0.5 % more residual than the best of its rank, and its rank
    for an energy or error is proven as far as ``rank_bounds`` says; ``gram`` is right to 1e-6 sigma_1;
    ``lapack`` to rounding. Signs of the vectors are not unique: see scikit-learn's
    ``svd_flip`` if you need a convention.

    References
    ----------
    Eckart and Young (1936). Musco and Musco (2015), arXiv:1504.05477. Halko, Martinsson and Tropp
    (2011), arXiv:0909.4061.

    Examples
    --------
    >>> f = svd(np.diag([3.0, 2.0, 1.0]), energy=0.9)
    >>> f.rank, f.rank_bounds
    (2, (2, 2))
    """
    call = "eckart.svd(A)"
    goal = one_goal("eckart.svd", rank=rank, energy=energy, error=error)
    start = seed_for(seed)
    matrix = as_matrix(A, call)
    limit = min(matrix.shape)
    if goal.kind == "rank" and goal.value > limit:
        raise UsageError(
            f"eckart.svd(A, rank={int(goal.value)})",
            f"a {matrix.shape[0]} x {matrix.shape[1]} matrix has rank at most {limit}",
        )
    total = ops_for(matrix).energy(matrix)
    check_energy(matrix, total, call)
    return factor_matrix(matrix, goal, total=total, method=method, seed=start)


def spectrum(A: DeviceArray, *, method: Literal["auto", "lapack", "gram"] = "auto") -> Spectrum:
    """Return all singular values. Equivalent to ``numpy.linalg.svd(A, compute_uv=False)``.

    Parameters
    ----------
    A : array_like (m, n)
    method : {"auto", "lapack", "gram"}
        "auto" takes LAPACK for small or float64 matrices and the float64 Gram matrix otherwise,
        which is about twice as fast, and right to 1e-6 sigma_1 at the small end.

    Examples
    --------
    >>> spectrum(np.array([[4.0, 0.0], [3.0, 5.0]])).values.round(4).tolist()
    [6.3246, 3.1623]
    """
    matrix = as_matrix(A, "eckart.spectrum(A)")
    total = ops_for(matrix).energy(matrix)
    check_energy(matrix, total, "eckart.spectrum(A)")
    return all_values(matrix, total, method)


def all_values(A: DeviceArray, total: float, method: Literal["auto", "lapack", "gram"] = "auto") -> Spectrum:
    """Return the whole spectrum of a checked float matrix of known energy."""
    if method not in ("auto", "lapack", "gram"):
        raise UsageError(f"method={method!r}", "expected 'auto', 'lapack' or 'gram'")
    if total == 0.0:
        return Spectrum(np.zeros(min(A.shape)))
    A, scale = scaled_to_safe_range(A, total)
    if method == "auto":
        method = "lapack" if _needs_lapack(A) else "gram"
    if method == "lapack":
        from eckart.linalg.routes.lapack import singular_values

        return Spectrum(singular_values(A) * scale)
    from eckart.linalg.routes.gram import GramSpectrum

    values = GramSpectrum.of(A).values
    return Spectrum(values * scale)


def factor_matrix(
    A: DeviceArray,
    goal: Goal,
    *,
    total: float,
    method: Method = "auto",
    seed: list[int],
    slack: float = SLACK,
) -> LowRank:
    """Factor a checked float32 or float64 matrix of known energy; `svd` without its front door."""
    if method not in ("auto", "lapack", "gram", "krylov"):
        raise UsageError(f"method={method!r}", "expected 'auto', 'lapack', 'gram' or 'krylov'")
    if total == 0.0:
        return _nothing(A, goal)
    A, scale = scaled_to_safe_range(A, total)
    total = total if scale == 1.0 else ops_for(A).energy(A)
    if goal.kind == "above":
        goal = Goal("above", goal.value / scale)
    if goal.kind == "full" or (method == "auto" and min(A.shape) <= SMALL):
        method = "lapack"
    found = None
    if method in ("auto", "krylov"):
        found = _by_krylov(A, goal, total, seed, method == "krylov", slack)
    if found is None and method != "lapack":
        found = _by_gram(A, goal, total)
    if found is None:
        found = _by_lapack(A, goal, total)
    return found if scale == 1.0 else found * scale


def _by_krylov(
    A: DeviceArray, goal: Goal, total: float, seed: list[int], patient: bool, slack: float
) -> LowRank | None:
    """Return the answer of the Krylov route, or None where another is predicted to be cheaper."""
    limit = min(A.shape) if patient else krylov_limit(*A.shape)
    if goal.kind == "rank" and goal.value > limit:
        return None
    krylov = BlockKrylov(A, total, seed)
    if goal.kind == "rank":
        found: Spectrum | None = leading(krylov, int(goal.value), slack)
    else:
        found = reaching(krylov, goal, limit, slack)
    keep = None if found is None else found.rank_for(goal)
    if found is not None and keep is None and goal.kind == "rank":
        keep = len(found.values)  # the matrix has fewer components than were asked for
    if found is None or keep is None:
        return None
    U, s, Vh = krylov.triplets(keep)
    tail = _tail(A, U, s, Vh, total)
    if goal.kind == "rank" and keep < goal.value:
        U, s, Vh = _padded(U, s, Vh, int(goal.value))
    bounds = rank_bounds(found, goal, exact=False) or (keep, len(s))
    return LowRank(U, s, Vh, tail, bounds, "krylov", found)


def _by_gram(A: DeviceArray, goal: Goal, total: float) -> LowRank | None:
    """Return the answer of the values-first route, or None where float64 squares are not enough."""
    from eckart.linalg.routes.gram import GramSpectrum  # scipy takes 0.2 s to import

    solver = GramSpectrum.of(A)
    known = Spectrum(solver.values)
    keep = known.rank_at(goal)
    if not keep:
        return LowRank(A[:, :0], np.zeros(0), A[:0], total, (0, 0), "gram", known)
    if solver.values[keep - 1] < solver.floor:
        return None  # the last component asked for is under the floor of the squared matrix
    U, s, Vh = solver.vectors(keep)
    return LowRank(U, s, Vh, _tail(A, U, s, Vh, total), (keep, keep), "gram", known)


def _by_lapack(A: DeviceArray, goal: Goal, total: float) -> LowRank:
    from eckart.linalg.routes.lapack import full_svd

    U, s, Vh = full_svd(A)
    known = Spectrum(s)
    keep = known.rank_at(goal)
    U, s, Vh = U[:, :keep], s[:keep], Vh[:keep]
    tail = 0.0 if keep == len(known) else _tail(A, U, s, Vh, total)
    return LowRank(U, s, Vh, tail, (keep, keep), "lapack", known)


def _tail(A: DeviceArray, U: DeviceArray, s: Floats, Vh: DeviceArray, total: float) -> float:
    """Return ||A - U diag(s) Vh||_F^2.

    By Pythagoras it is ||A||^2 - sum s^2, exact in exact arithmetic; but s is right to about 1e-7
    in float32, so a small difference is lost in it. Under MEASURE_BELOW it is measured instead.
    """
    tail = total - float((s**2).sum())
    if tail < MEASURE_BELOW * total:
        tail = ops_for(A).residual(A, U, s, Vh)
    return tail


def krylov_limit(m: int, n: int) -> int:
    """Return the rank beyond which values-first is predicted to be cheaper than Krylov.

    In units of one float32 product flop. Measured on two cores: float64 products cost 2, the memory-
    bound tridiagonal reduction 4, the small SVDs of the Krylov route 8; its space is taken as 2 r wide:
    small ranks need 3 to 5 r, and a search that goes on for long ends soon after its rank is in it.
    """
    large, small = max(m, n), min(m, n)
    ranks = np.arange(1, small + 1)
    width = 2.0 * ranks
    krylov = 4.0 * large * small * width + 4.0 * (large + small) * width**2 + 160.0 * width**3
    gram = 2.0 * large * small**2 + 16 / 3 * small**3 + (2.0 * small + 2.0 * large) * small * ranks
    cheaper = krylov < gram
    return int(ranks[cheaper][-1]) if cheaper.any() else 0


def _nothing(A: DeviceArray, goal: Goal) -> LowRank:
    """Factor a zero matrix: no components, or as many of sigma = 0 as were asked for."""
    known = Spectrum(np.zeros(min(A.shape)))
    keep = known.rank_at(goal)
    U, s, Vh = _padded(A[:, :0], np.zeros(0), A[:0], keep)
    return LowRank(U, s, Vh, 0.0, (keep, keep), "zero", known)


def _padded(U: DeviceArray, s: Floats, Vh: DeviceArray, rank: int) -> tuple[DeviceArray, Floats, DeviceArray]:
    """Complete to ``rank`` components with sigma = 0 and orthonormal vectors, as LAPACK would."""
    ops, more = ops_for(U), rank - len(s)
    if not more:
        return U, s, Vh
    random = np.random.default_rng(0)

    def completed(rows: DeviceArray) -> DeviceArray:  # (r, m) -> (rank, m)
        fresh = ops.like(random.standard_normal((more, rows.shape[1])), rows)
        for _ in range(2):
            fresh, _ = ops.orthonormal_rows(fresh - (fresh @ rows.T) @ rows, 0.0)
        return ops.concatenate([rows, fresh], 0)

    return completed(U.T).T, np.concatenate([s, np.zeros(more)]), completed(Vh)


def on_gpu(A: DeviceArray) -> DeviceArray:
    """Move a matrix to the GPU as a torch tensor; raises if torch or the GPU is missing."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            "device='cuda'", "torch is not installed", "Type: pip install 'eckart[torch]'"
        ) from None
    if not torch.cuda.is_available():
        raise MissingExtraError("device='cuda'", "torch sees no GPU", "Leave --device out")
    return torch.from_numpy(A).cuda() if not is_torch(A) else A.cuda()


def with_all_values(A: DeviceArray, goal: Goal, total: float) -> LowRank:
    """Factor a checked matrix as `factor_matrix` does, by a route that finds every singular value."""
    exact: Method = "lapack" if _needs_lapack(A) else "gram"
    return factor_matrix(A, goal, total=total, method=exact, seed=[])


def _needs_lapack(A: DeviceArray) -> bool:
    """Whether every value is wanted to rounding (float64), or the matrix is too small to matter."""
    return min(A.shape) <= SMALL or ops_for(A).dtype(A) == np.float64
