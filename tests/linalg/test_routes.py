"""Every route on every matrix of the table, compared with NumPy's SVD in float64."""

import functools

import numpy as np
import pytest

import eckart
from support.matrices import CASES, EXACT_ROUTES, LARGE_CASES, ROUTES, best_error, case, least_ranks

GOALS = (
    {"energy": 0.5},
    {"energy": 0.9},
    {"energy": 0.99},
    {"error": 0.3},
    {"error": 0.05},
    {"rank": 1},
    {"rank": 40},
)


def each(cases=CASES, routes=ROUTES):
    """Parametrize a test over every case and every route."""
    pairs = [pytest.param(c, r, id=f"{c}-{r}") for c in cases for r in routes]
    return pytest.mark.parametrize(("case", "method"), pairs)


def goals_of(case):
    """Return the goals that fit a case; also all components, if that is cheap."""
    fitting = [g for g in GOALS if g.get("rank", 1) <= min(case.A.shape)]
    return fitting if case.is_large else [*fitting, {"rank": min(case.A.shape)}, {}]


def target_of(goal):
    return goal.get("energy", 1 - goal.get("error", 1.0) ** 2)


def rounding(case):
    """Return the error of a singular value relative to sigma_1: LAPACK's p(n) eps, with p(n) = 8 sqrt(n).

    The largest error measured is 24 eps, with gesdd in float32 at 40 x 60, where 8 sqrt(n) is 62.
    """
    return 8 * case.eps * float(np.sqrt(max(case.A.shape)))


def squared(case, true, method):
    """Return the error of the values-first route from squaring.

    sigma^2 is accurate to n eps sigma_1^2 in float64. So sigma is accurate to that divided by sigma, or to
    its square root if sigma is even smaller.
    """
    if method != "gram":
        return 0.0
    doubt = max(case.A.shape) * np.finfo(np.float64).eps * case.values[0] ** 2
    return doubt / np.maximum(true, np.sqrt(doubt) if doubt else 1.0)


def energy_doubt(case):
    """Return the uncertainty of a share of energy: values accurate to `rounding`, squared and summed.

    Errors of single values have either sign, so the sum is as accurate as one value.
    """
    return 2 * rounding(case)


def measured_error(case, f):
    """Return ||A - U diag(s) Vh||_F / ||A||_F, from the factors in float64."""
    wide = (f.U.astype(np.float64) * (f.s / case.unit)) @ f.Vh.astype(np.float64)
    whole = np.linalg.norm(case.wide)
    return float(np.linalg.norm(case.wide - wide) / whole) if whole else 0.0


def distance_from_identity(rows):
    rows = rows.astype(np.float64)
    return float(np.abs(rows @ rows.T - np.eye(len(rows))).max(initial=0.0))


def by_route(case, method, goal):
    """Factor a case; the result is cached for all tests."""
    return _factored(case, method, tuple(goal.items()))


@functools.cache
def _factored(case, method, goal):
    f = eckart.svd(case.A, method=method, **dict(goal))
    assert f.U.shape == (case.A.shape[0], f.rank)
    assert f.Vh.shape == (f.rank, case.A.shape[1])
    assert f.U.dtype == f.Vh.dtype == case.A.dtype
    assert f.s.dtype == np.float64
    return f


@each()
def test_singular_values_are_lower_bounds_close_to_the_true_ones(case, method):
    for goal in goals_of(case):
        f = by_route(case, method, goal)
        values, true = f.s / case.unit, case.values[: f.rank]
        slack = rounding(case) * case.values[0] + squared(case, true, f.method)
        assert (np.diff(values) <= 0).all()
        assert (values <= true + slack).all()  # lower bounds, by Cauchy interlacing
        # Every sigma_i^2 - s_i^2 is at least 0, so none is larger than their sum, which is the energy that
        # a better subspace would gain.
        gain = 0.0
        if f.method == "krylov" and "rank" in goal:
            gain = (1.005**2 - 1) * float((case.values[f.rank :] ** 2).sum())
        elif f.method == "krylov":
            gain = float((true**2).sum() - target_of(goal) * (case.values**2).sum())
        lowest = np.sqrt(np.maximum(true**2 - max(gain, 0.0), 0.0))
        assert (values >= lowest - slack).all()


@each()
def test_stated_error_is_the_measured_error(case, method):
    for goal in goals_of(case):
        f = by_route(case, method, goal)
        error = measured_error(case, f)
        # A tail above 1e-3 of the energy is computed as ||A||^2 - sum s^2, accurate to a few eps of the
        # total and so to a few 1000 eps of itself; a smaller one is measured, in the matrix's dtype.
        assert f.error == pytest.approx(error, rel=2e3 * case.eps, abs=5 * rounding(case))
        assert f.energy == pytest.approx(1 - error**2, abs=energy_doubt(case))
        if "energy" in goal:
            assert f.energy >= goal["energy"] - energy_doubt(case)
        if "error" in goal:
            assert error <= goal["error"] * (1 + 2e3 * case.eps)
        if goal.get("rank") == min(case.A.shape) or not goal:
            assert error <= 5 * rounding(case)


@each()
def test_vectors_are_orthonormal(case, method):
    for goal in goals_of(case):
        f = by_route(case, method, goal)
        # Householder QR and the SVD leave a few eps; the values-first route computes one side as A v / s,
        # which magnifies the rounding of v by sigma_1 / s.
        limit = 10 * rounding(case)  # MRRR, in the values-first route, guarantees only O(n eps)
        if f.method == "gram" and f.rank and f.s[-1] > 0:
            limit *= float(f.s[0] / f.s[-1])
        assert limit < 0.1  # a larger bound would test nothing
        assert distance_from_identity(f.U.T) <= limit
        assert distance_from_identity(f.Vh) <= limit


@each()
def test_rank_is_the_least_that_reaches_the_goal(case, method):
    for goal in goals_of(case):
        if "rank" in goal or not goal:
            continue
        f = by_route(case, method, goal)
        least, surely = least_ranks(case.values, target_of(goal), energy_doubt(case))
        lo, hi = f.rank_bounds
        assert hi == f.rank
        assert lo <= surely  # the lower bound is not above the true rank
        assert f.rank >= least  # never under-reported
        if f.method in EXACT_ROUTES:
            assert lo == hi
            assert f.rank <= surely
        else:
            # Measured, not guaranteed: the rank is above the least by at most 5 %.
            assert f.rank <= max(surely + 1, 1.05 * surely)


@each()
def test_requested_rank_is_returned(case, method):
    for goal in goals_of(case):
        if "rank" in goal or not goal:
            f = by_route(case, method, goal)
            assert f.rank == goal.get("rank", min(case.A.shape))
            lo, hi = f.rank_bounds
            assert 0 <= lo <= hi <= f.rank


@pytest.mark.parametrize("method", ROUTES)
def test_small_components_are_orthonormal(method):
    """sigma_250 is 4e-6 sigma_1, which is small but 30 times the rounding of float32."""
    f = by_route(case("exp(-i/20) 300x400 float32"), method, {"rank": 250})
    # Computed as A v / s, a vector has an error of eps sigma_1 / s = 0.03; QR and LAPACK leave a few eps.
    assert distance_from_identity(f.U.T) <= 1e-4
    assert distance_from_identity(f.Vh) <= 1e-4


@each(LARGE_CASES, ("krylov", "auto"))
@pytest.mark.parametrize("rank", [8, 32, 100])
def test_residual_is_within_half_a_percent_of_the_best(case, method, rank):
    f = by_route(case, method, {"rank": rank})
    best = best_error(case.values, rank)
    # `svd` documents 0.5 % for its Krylov route; rounding dominates if the residual is zero.
    assert measured_error(case, f) <= 1.005 * best + 5 * rounding(case)


@each()
def test_two_runs_give_equal_bytes_and_keep_the_input(case, method):
    before = case.A.tobytes()
    for goal in ({"energy": 0.9}, {"rank": min(20, *case.A.shape)}):
        first, second = (eckart.svd(case.A, method=method, **goal) for _ in range(2))
        for part in ("U", "s", "Vh"):
            assert getattr(first, part).tobytes() == getattr(second, part).tobytes()
        assert first.rank_bounds == second.rank_bounds
        assert first.tail == second.tail
    assert case.A.tobytes() == before


@pytest.mark.parametrize("name", ["i^-0.5 300x400 float32", "1/i 600x300 float64", "noise 300x400 float32"])
def test_seed_changes_the_sketch_but_not_the_quality(name):
    c = case(name)
    runs = [eckart.svd(c.A, rank=20, method="krylov", seed=seed) for seed in (0, 1, 2)]
    best = best_error(c.values, 20)
    for f in runs:
        assert best <= measured_error(c, f) + 5 * rounding(c)
        assert measured_error(c, f) <= 1.005 * best
    assert runs[0].U.tobytes() != runs[1].U.tobytes() != runs[2].U.tobytes()
    ranks = [eckart.svd(c.A, energy=0.7, method="krylov", seed=seed).rank for seed in (0, 1, 2)]
    assert max(ranks) - min(ranks) <= 1  # each exceeds the least rank by what its subspace lacks


@each(routes=("auto", "lapack", "gram"))
def test_spectrum(case, method):
    s = eckart.spectrum(case.A, method=method)
    assert s.complete and len(s) == min(case.A.shape)
    lost = squared(case, case.values, "gram" if method == "auto" else method)
    close = rounding(case) * case.values[0] + lost
    assert (np.abs(s.values / case.unit - case.values) <= close).all()


@pytest.mark.parametrize(
    "c", [c for c in LARGE_CASES if "200" not in c.name and "zero" not in c.name], ids=repr
)
def test_auto_uses_lapack_up_to_size_256(c):
    """256 is the largest size for which LAPACK is used without a prediction of costs."""
    f = eckart.svd(c.A, rank=4)
    assert f.method == ("krylov" if c.is_large else "lapack")


def test_integers_lists_and_small_floats_are_converted():
    A = np.array([[4, 0], [3, 5]])
    for given in (A, A.tolist(), A.astype(np.int8), A.astype(np.uint16), A.astype(object)):
        f = eckart.svd(given)
        assert f.U.dtype == np.float64
        assert f.s == pytest.approx(np.sqrt([40, 10]), rel=1e-14)
    f = eckart.svd(A.astype(np.float16))
    assert f.U.dtype == np.float32
    assert f.s == pytest.approx(np.sqrt([40, 10]), rel=1e-6)  # a few eps of float32
    assert eckart.svd(A > 3).s == pytest.approx([1.0, 1.0])


def test_bfloat16_and_float8_arrays_become_float32():
    import ml_dtypes

    A = np.array([[4, 0], [3, 5]])
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        f = eckart.svd(A.astype(dtype))  # 0, 3, 4 and 5 are exact in all three formats
        assert f.U.dtype == np.float32
        assert f.s == pytest.approx(np.sqrt([40, 10]), rel=1e-6)
