"""`svd` and `spectrum`: choose the cheapest route that reaches the goal, and check that it did."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from eckart.arguments import argument
from eckart.arrays import Floats
from eckart.errors import MissingExtraError, UsageError
from eckart.extras import missing_extra
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
from eckart.linalg.routes.krylov import BlockKrylov, leading, reaching
from eckart.linalg.seeds import seed_for
from eckart.linalg.spectrum import Spectrum
from eckart.text import either

Method = Literal["auto", "lapack", "gram", "krylov"]
ExactMethod = Literal["auto", "lapack", "gram"]
METHODS: tuple[str, ...] = get_args(Method)
EXACT_METHODS: tuple[str, ...] = get_args(ExactMethod)

SMALL = 256  # up to this size LAPACK takes milliseconds, so there is nothing to save
SLACK = 0.004  # energy that a rank-k result may lack, as a share of the tail: 0.2 % of the residual
MEASURE_BELOW = 1e-3  # a tail below this share of the energy is measured instead of computed: see `_tail`


def svd(
    A: DeviceArray,
    *,
    rank: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    method: Method = "auto",
    seed: int = 0,
) -> LowRank:
    """Factor a matrix to the least rank that reaches a goal.

    Equivalent to ``numpy.linalg.svd(A, full_matrices=False)``, truncated at that rank.

    Parameters
    ----------
    A : array_like (m, n)
        NumPy array or torch tensor. float32 and float64 are kept; smaller floats become float32,
        integers float64.
    rank : int, optional
        Keep this many components.
    energy : float, optional
        Keep the smallest number r of components that holds this share of sum sigma^2.
    error : float, optional
        Keep the smallest number r of components with ||A - A_r||_F <= error ||A||_F.
    method : {"auto", "lapack", "gram", "krylov"}
        The route; "auto" predicts the cheapest from the shape and a small sketch.
    seed : int
        Seed of the sketch. The same input, seed and machine give the same bytes.

    Returns
    -------
    LowRank
        The vectors are of the kind of array that came in. ``energy`` and ``error`` are measured;
        ``rank_bounds`` = (lo, hi) proves that hi is sufficient and every rank below lo is too small;
        lo == hi if the rank is exact. Without a goal, all components.

    Raises
    ------
    MatrixError
        If A is not a matrix, is empty, complex, or holds a NaN or an infinity.
    UsageError
        If more than one goal is given, or one is out of range.

    Notes
    -----
    Cost for n x n, r kept: ``krylov`` about 16 n^2 r; ``gram`` 7/3 n^3 + 4 n^2 r; ``lapack`` 26 n^3.
    Accuracy: ``krylov`` leaves at most about 0.5 % more residual than the best of its rank, and its rank
    for an energy or error is proven as far as ``rank_bounds`` shows; ``gram`` is accurate to 1e-6 sigma_1;
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
    check_method(method, METHODS)
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


def spectrum(A: DeviceArray, *, method: ExactMethod = "auto") -> Spectrum:
    """Return all singular values. Equivalent to ``numpy.linalg.svd(A, compute_uv=False)``.

    Parameters
    ----------
    A : array_like (m, n)
        NumPy array or torch tensor, converted as by `svd`.
    method : {"auto", "lapack", "gram"}
        "auto" uses LAPACK for small or float64 matrices and the float64 Gram matrix otherwise, which is
        about twice as fast; its smallest values are accurate to 1e-6 sigma_1.

    Returns
    -------
    Spectrum
        Complete.

    Raises
    ------
    MatrixError
        If A is not a matrix, is empty, complex, or holds a NaN or an infinity.
    UsageError
        If the method is not one of the three.

    Notes
    -----
    Cost for n x n: 8/3 n^3 flops by LAPACK, 7/3 n^3 by the Gram matrix, in cheaper operations.

    Examples
    --------
    >>> spectrum(np.array([[4.0, 0.0], [3.0, 5.0]])).values.round(4).tolist()
    [6.3246, 3.1623]
    """
    check_method(method, EXACT_METHODS)
    matrix = as_matrix(A, "eckart.spectrum(A)")
    total = ops_for(matrix).energy(matrix)
    check_energy(matrix, total, "eckart.spectrum(A)")
    return all_values(matrix, total, method)


def all_values(A: DeviceArray, total: float, method: ExactMethod = "auto") -> Spectrum:
    """Return all singular values of a matrix that is checked already; `spectrum` checks it first.

    Parameters
    ----------
    A : array (m, n)
        float32 or float64, finite.
    total : float
        ||A||_F^2 in float64.
    method : {"auto", "lapack", "gram"}
        As for `spectrum`.

    Returns
    -------
    Spectrum
        Complete.

    Raises
    ------
    UsageError
        If the method is not one of the three.
    """
    check_method(method, EXACT_METHODS)
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
    """Factor a matrix that is checked already; `svd` checks it first.

    Parameters
    ----------
    A : array (m, n)
        float32 or float64, finite.
    goal : Goal
        What the factors must reach.
    total : float
        ||A||_F^2 in float64.
    method : {"auto", "lapack", "gram", "krylov"}
        As for `svd`.
    seed : list of int
        Seed of the sketch: see `eckart.linalg.seeds.seed_for`.
    slack : float
        Energy that the result of a Krylov search may lack, as a share of the tail.

    Returns
    -------
    LowRank
        The factors, of the kind of array that came in.

    Raises
    ------
    UsageError
        If the method is not one of the four.
    """
    check_method(method, METHODS)
    if total == 0.0:
        return _zero_factors(A, goal)
    A, scale = scaled_to_safe_range(A, total)
    total = total if scale == 1.0 else ops_for(A).energy(A)
    if goal.kind == "above":
        goal = Goal("above", goal.value / scale)
    if goal.kind == "full" or (method == "auto" and min(A.shape) <= SMALL):
        method = "lapack"
    factors = None
    if method in ("auto", "krylov"):
        factors = _by_krylov(A, goal, total, seed, method == "krylov", slack)
    if factors is None and method != "lapack":
        factors = _by_gram(A, goal, total)
    if factors is None:
        factors = _by_lapack(A, goal, total)
    return factors if scale == 1.0 else factors * scale


def check_method(method: str, methods: tuple[str, ...]) -> None:
    """Raise UsageError if a method is not one of those that a call accepts."""
    if method not in methods:
        raise UsageError(f"method={method!r}", f"expected {either(map(repr, methods))}")


def _by_krylov(
    A: DeviceArray, goal: Goal, total: float, seed: list[int], patient: bool, slack: float
) -> LowRank | None:
    """Factor by the Krylov route; return None if another is predicted to be cheaper.

    ``patient`` continues the search even then, since the caller asked for this route.
    """
    limit = min(A.shape) if patient else krylov_limit(*A.shape)
    if goal.kind == "rank" and goal.value > limit:
        return None
    krylov = BlockKrylov(A, total, seed)
    if goal.kind == "rank":
        known: Spectrum | None = leading(krylov, int(goal.value), slack)
    else:
        known = reaching(krylov, goal, limit, slack)
    keep = None if known is None else known.rank_for(goal)
    if known is not None and keep is None and goal.kind == "rank":
        keep = len(known.values)  # the matrix has fewer components than the goal
    if known is None or keep is None:
        return None
    U, s, Vh = krylov.triplets(keep)
    tail = _tail(A, U, s, Vh, total)
    if goal.kind == "rank" and keep < goal.value:
        U, s, Vh = _padded(U, s, Vh, int(goal.value))
    bounds = rank_bounds(known, goal, exact=False) or (keep, len(s))
    return LowRank(U, s, Vh, tail, bounds, "krylov", known)


def _by_gram(A: DeviceArray, goal: Goal, total: float) -> LowRank | None:
    """Factor by the values-first route; return None if the squares lose too much, even in float64."""
    from eckart.linalg.routes.gram import GramSpectrum  # scipy takes 0.2 s to import

    solver = GramSpectrum.of(A)
    known = Spectrum(solver.values)
    keep = known.rank_at(goal)
    if not keep:
        return LowRank(A[:, :0], np.zeros(0), A[:0], total, (0, 0), "gram", known)
    if solver.values[keep - 1] < solver.floor:
        return None  # the last component is below what the squared matrix resolves
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

    It equals ||A||^2 - sum s^2 in exact arithmetic (Pythagoras). But s is accurate to about 1e-7 in
    float32, and a small difference drowns in that. Below MEASURE_BELOW the residual is measured instead.
    """
    tail = total - float((s**2).sum())
    if tail < MEASURE_BELOW * total:
        tail = ops_for(A).residual(A, U, s, Vh)
    return tail


def krylov_limit(m: int, n: int) -> int:
    """Return the rank beyond which the values-first route is predicted to be cheaper than Krylov.

    Parameters
    ----------
    m, n : int
        Shape of the matrix.

    Returns
    -------
    int
        0 if values-first is always cheaper.

    Notes
    -----
    The unit of cost is a flop of a float32 matrix product. As measured on two cores, a flop costs 2 units in
    a float64 product, 4 in the tridiagonal reduction (which is limited by memory bandwidth), and 8 in the
    small SVDs of the Krylov route. The width of the Krylov space is assumed to be 2r: small ranks need 3r to
    5r, and a long search ends soon after its space has reached the rank.
    """
    large, small = max(m, n), min(m, n)
    ranks = np.arange(1, small + 1)
    width = 2.0 * ranks
    krylov = 4.0 * large * small * width + 4.0 * (large + small) * width**2 + 160.0 * width**3
    gram = 2.0 * large * small**2 + 16 / 3 * small**3 + (2.0 * small + 2.0 * large) * small * ranks
    cheaper = krylov < gram
    return int(ranks[cheaper][-1]) if cheaper.any() else 0


def _zero_factors(A: DeviceArray, goal: Goal) -> LowRank:
    """Factor a zero matrix: no components, or as many with sigma = 0 as the goal requires."""
    known = Spectrum(np.zeros(min(A.shape)))
    keep = known.rank_at(goal)
    U, s, Vh = _padded(A[:, :0], np.zeros(0), A[:0], keep)
    return LowRank(U, s, Vh, 0.0, (keep, keep), "zero", known)


def _padded(U: DeviceArray, s: Floats, Vh: DeviceArray, rank: int) -> tuple[DeviceArray, Floats, DeviceArray]:
    """Append components with sigma = 0 and orthonormal vectors, up to ``rank``, as LAPACK would."""
    ops, missing = ops_for(U), rank - len(s)
    if not missing:
        return U, s, Vh
    random = np.random.default_rng(0)

    def completed(rows: DeviceArray) -> DeviceArray:  # (r, m) -> (rank, m)
        fresh = ops.like(random.standard_normal((missing, rows.shape[1])), rows)
        for _ in range(2):
            fresh, _ = ops.orthonormal_rows(fresh - (fresh @ rows.T) @ rows, 0.0)
        return ops.concatenate([rows, fresh], 0)

    return completed(U.T).T, np.concatenate([s, np.zeros(missing)]), completed(Vh)


def on_gpu(A: DeviceArray) -> DeviceArray:
    """Copy a matrix to the GPU as a torch tensor.

    Parameters
    ----------
    A : array (m, n)
        NumPy array or torch tensor.

    Returns
    -------
    torch.Tensor

    Raises
    ------
    MissingExtraError
        If torch is not installed, or finds no GPU.
    """
    try:
        import torch
    except ImportError:
        raise missing_extra(argument("device", "cuda"), "torch is not installed", "torch") from None
    if not torch.cuda.is_available():
        raise MissingExtraError(
            argument("device", "cuda"), "torch finds no GPU", f"Use {argument('device', 'cpu')}"
        )
    return torch.from_numpy(A).cuda() if not is_torch(A) else A.cuda()


def with_all_values(A: DeviceArray, goal: Goal, total: float) -> LowRank:
    """Factor as `factor_matrix` does, by a route that computes every singular value.

    Parameters
    ----------
    A : array (m, n)
        float32 or float64, finite.
    goal : Goal
        What the factors must reach.
    total : float
        ||A||_F^2 in float64.

    Returns
    -------
    LowRank
        With a complete ``spectrum``.
    """
    exact: Method = "lapack" if _needs_lapack(A) else "gram"
    return factor_matrix(A, goal, total=total, method=exact, seed=[])


def _needs_lapack(A: DeviceArray) -> bool:
    """Whether LAPACK is the default: for float64, to resolve every value, and for small matrices."""
    return min(A.shape) <= SMALL or ops_for(A).dtype(A) == np.float64
