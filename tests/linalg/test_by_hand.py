"""Very simple cases with numbers worked out on paper, in case the test helpers are wrong."""

import numpy as np
import pytest

import eckart
from eckart import LowRank, Spectrum
from support.matrices import CASES, ROUTES, best_error, least_rank


@pytest.mark.parametrize("method", ROUTES)
def test_textbook_two_by_two_matrix(method):
    # A^T A = [[25, 15], [15, 25]] has eigenvalues 40 and 10, with v1 = (1, 1) / sqrt 2;
    # A v1 = (4, 8) / sqrt 2, so the best rank 1 is A v1 v1^T = [[2, 2], [4, 4]].
    A = np.array([[4.0, 0.0], [3.0, 5.0]])
    f = eckart.svd(A, method=method)
    assert f.s == pytest.approx([np.sqrt(40), np.sqrt(10)], rel=1e-14)
    assert f.dense() == pytest.approx(A, abs=1e-14)
    best = eckart.svd(A, rank=1, method=method)
    assert best.dense() == pytest.approx(np.array([[2.0, 2.0], [4.0, 4.0]]), abs=1e-14)
    assert best.energy == pytest.approx(0.8, rel=1e-14)
    assert best.error == pytest.approx(np.sqrt(0.2), rel=1e-13)


@pytest.mark.parametrize("method", ROUTES)
def test_diagonal_matrix_keeps_its_largest_entries(method):
    f = eckart.svd(np.diag([2.0, -3.0, 1.0]), energy=0.9, method=method)
    assert f.rank == 2
    assert f.s == pytest.approx([3.0, 2.0], rel=1e-14)
    assert f.dense() == pytest.approx(np.diag([2.0, -3.0, 0.0]), abs=1e-14)
    assert f.energy == pytest.approx(13 / 14, rel=1e-14)
    assert f.rank_bounds == (2, 2)


@pytest.mark.parametrize("method", ["auto", "lapack", "gram"])
def test_spectrum_recovers_3_142_and_2_718(method):
    half = np.sqrt(0.5)
    turn = np.array([[half, -half], [half, half]])
    A = turn @ np.diag([3.142, 2.718])
    assert eckart.spectrum(A, method=method).values == pytest.approx([3.142, 2.718], rel=1e-14)


def test_energy_of_3_2_1():
    s = Spectrum([3.0, 2.0, 1.0])
    assert [s.energy(r) for r in range(4)] == pytest.approx([0, 9 / 14, 13 / 14, 1])
    assert [s.error(r) for r in range(4)] == pytest.approx([1, (5 / 14) ** 0.5, (1 / 14) ** 0.5, 0])
    assert s.total == 14.0


@pytest.mark.parametrize(
    ("energy", "rank"),
    [(1e-9, 1), (9 / 14, 1), (9 / 14 + 1e-9, 2), (13 / 14, 2), (13 / 14 + 1e-9, 3), (1.0, 3)],
)
def test_rank_of_3_2_1_at_an_energy(energy, rank):
    assert Spectrum([3.0, 2.0, 1.0]).rank_at_energy(energy) == rank
    for method in ROUTES:
        assert eckart.svd(np.diag([1.0, 3.0, 2.0]), energy=energy, method=method).rank == rank


@pytest.mark.parametrize(
    ("error", "rank"), [(0.0, 3), (0.2672, 3), (0.2673, 2), (0.5976, 2), (0.5977, 1), (0.999, 1)]
)
def test_rank_of_3_2_1_at_an_error(error, rank):
    # sqrt(1/14) = 0.26726, sqrt(5/14) = 0.59761
    assert Spectrum([3.0, 2.0, 1.0]).rank_at_error(error) == rank
    for method in ROUTES:
        assert eckart.svd(np.diag([1.0, 3.0, 2.0]), error=error, method=method).rank == rank


def test_svd_of_a_product():
    f = LowRank.from_product(np.array([[3.0], [4.0]]), np.array([[0.0, 2.0, 0.0]]))
    assert (f.rank, f.shape) == (1, (2, 3))
    assert f.s == pytest.approx([10.0])
    assert f.dense() == pytest.approx(np.array([[0.0, 6.0, 0.0], [0.0, 8.0, 0.0]]))


def test_sum_of_two_outer_products():
    f = LowRank.from_product(np.array([[1.0], [0.0]]), np.array([[2.0, 0.0]]))
    g = LowRank.from_product(np.array([[0.0], [1.0]]), np.array([[0.0, 5.0]]))
    assert (f + g).s == pytest.approx([5.0, 2.0])
    assert (f - 2 * g).dense() == pytest.approx(np.diag([2.0, -10.0]))


def test_rank_and_error_of_the_test_helpers():
    sigma = np.array([3.0, 2.0, 1.0])
    assert [least_rank(sigma, e) for e in (0.5, 13 / 14 - 1e-9, 13 / 14 + 1e-9, 1.0)] == [1, 2, 3, 3]
    assert best_error(sigma, 1) == pytest.approx(np.sqrt(5 / 14))


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_matrices_of_the_table_have_their_stated_values(case):
    if case.sigma is None:
        assert case.name.startswith("noise")
        return
    # By Weyl's inequality, rounding every entry to the dtype moves each singular value by at most ||E||_2,
    # which is far below eps ||A||_F for random rounding.
    whole = float(np.sqrt(((case.sigma / case.unit) ** 2).sum()))
    assert len(case.values) == len(case.sigma) == min(case.A.shape)
    assert case.values == pytest.approx(case.sigma / case.unit, rel=0, abs=4 * case.eps * whole)
    assert not case.A.flags.writeable
