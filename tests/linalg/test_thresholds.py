"""Thresholds on sigma, bounds that prove ranks, and targets near rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eckart
from eckart import Spectrum
from eckart.linalg import Goal, factor_matrix
from eckart.linalg.certificate import rank_bounds
from support.matrices import DECAYS, EXACT_ROUTES, ROUTES, with_values

SIGMA = DECAYS["1/i"](300)
A = with_values(SIGMA, 300, 400, 77)
# Each threshold is between two values of 1/i, so rounding cannot change the rank.
THRESHOLDS = [
    (Goal("ratio", 20.5), 20),
    (Goal("ratio", 100.5), 100),
    (Goal("above", 1 / 49.5), 49),
    (Goal("above", 1 / 90.5), 90),
    (Goal("above", 1.5), 0),
    (Goal("above", 0.0), 300),
]


@pytest.mark.parametrize("method", ROUTES)
@pytest.mark.parametrize(("goal", "rank"), THRESHOLDS, ids=str)
def test_all_values_above_a_threshold_are_found(goal, rank, method):
    f = factor_matrix(A, goal, total=float((A**2).sum()), method=method, seed=[0])
    assert f.rank == rank
    lo, hi = f.rank_bounds
    assert lo <= rank <= hi
    if f.method in EXACT_ROUTES:
        assert lo == hi
    # A Ritz value is below its sigma: the search stops at 0.4 % of the remaining energy.
    assert f.s == pytest.approx(SIGMA[:rank], rel=5e-3)


@pytest.mark.parametrize("method", ROUTES)
def test_threshold_is_in_the_units_of_the_matrix(method):
    tiny = A * 1e-30
    total = float((tiny**2).sum())
    f = factor_matrix(tiny, Goal("above", 1e-30 / 49.5), total=total, method=method, seed=[0])
    assert f.rank == 49


@pytest.mark.parametrize("method", ROUTES)
@pytest.mark.parametrize("error", [1e-5, 1e-7, 1e-9])
def test_error_near_rounding_is_reached_and_reported_truthfully(error, method):
    """||A||^2 - sum s^2 cannot resolve errors below 3e-8, so the residual must be measured."""
    sigma = DECAYS["exp(-i/20)"](300) ** 2
    B = with_values(sigma, 400, 300, 78)
    f = eckart.svd(B, error=error, method=method)
    left = np.linalg.norm(B - f.dense()) / np.linalg.norm(B)
    assert left <= error * (1 + 1e-5)  # float64 resolves an error of 1e-9 to about 1e-6 of it
    assert f.error == pytest.approx(left, rel=1e-4)
    assert f.rank <= Spectrum(sigma).rank_at_error(error) + 2


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 12),
    st.integers(2, 12),
    st.integers(1, 6),
    st.sampled_from([("energy", 0.5), ("energy", 0.9), ("error", 0.2), ("above", 0.8), ("ratio", 2.0)]),
)
def test_bounds_from_any_subspace_contain_the_true_rank(seed, m, n, width, goal):
    random = np.random.default_rng(seed)
    M = random.standard_normal((m, n)) * 0.7 ** np.arange(n)
    width = min(width, m, n)
    U = np.linalg.qr(random.standard_normal((m, width)))[0]
    values = np.linalg.svd(U.T @ M, compute_uv=False)
    tail = max(float((M**2).sum() - (values**2).sum()), 0.0)
    goal = Goal(*goal)
    true = Spectrum(np.linalg.svd(M, compute_uv=False)).rank_for(goal)
    bounds = rank_bounds(Spectrum(values, tail, min(m, n)), goal, exact=False)
    if bounds is not None:
        assert bounds[0] <= true <= bounds[1]


def test_bounds_are_equal_when_all_values_are_known():
    assert rank_bounds(Spectrum([3.0, 2.0, 1.0]), Goal("energy", 0.9), exact=False) == (2, 2)
    assert rank_bounds(Spectrum([3.0, 2.0, 1.0]), Goal("above", 1.5), exact=False) == (2, 2)
    assert rank_bounds(Spectrum([3.0], 1.0, 9), Goal("energy", 0.95), exact=False) is None
