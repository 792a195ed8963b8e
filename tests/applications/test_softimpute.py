"""Soft-impute compared with its definition by full SVDs, and with matrices of known completion."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.applications.completion.entries import Entries
from eckart.applications.completion.operator import SparsePlusLowRank, leading_triplets
from eckart.applications.completion.softimpute import STEP, path_to, soft_impute
from support.dense import dense, dense_soft_impute
from support.ratings import entries_of, low_rank


def noisy(m=40, n=30, rank=3, share=0.5, seed=0):
    X = low_rank(m, n, rank, seed) + 0.3 * np.random.default_rng(seed + 9).standard_normal((m, n))
    return entries_of(X, share, seed)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.05])
def test_result_equals_that_of_full_svds(share):
    entries = noisy()
    *_, point = soft_impute(entries, path_to(share), 30, tolerance=1e-8)
    X, known = dense(entries)
    # The largest singular value of the start is approximate: block Krylov stops at 1 % of the energy.
    assert point.threshold == pytest.approx(share * np.linalg.norm(X, 2), rel=1e-3)
    expected = dense_soft_impute(X, known, point.threshold)
    M = (point.U * point.s) @ point.V.T
    # The iteration stops at a change of 1e-8. At a convergence rate below 0.95 the remaining error is at most
    # 20 times that.
    assert np.linalg.norm(M - expected) <= 1e-6 * np.linalg.norm(expected)
    assert len(point.s) == np.linalg.matrix_rank(expected, tol=1e-6)


def test_solution_is_a_fixed_point():
    # The optimality condition: soft-thresholding the filled matrix changes nothing.
    entries = noisy(seed=3)
    for point in soft_impute(entries, [0.8, 0.4, 0.2], 30, tolerance=1e-8):
        M = (point.U * point.s) @ point.V.T
        X, known = dense(entries)
        U, s, Vh = np.linalg.svd(np.where(known, X, M), full_matrices=False)
        again = (U * np.maximum(s - point.threshold, 0)) @ Vh
        assert np.linalg.norm(again - M) <= 1e-6 * np.linalg.norm(M)


def test_factors_are_orthonormal_and_ordered():
    *_, point = soft_impute(noisy(), path_to(0.2), 30)
    k = len(point.s)
    assert np.allclose(point.U.T @ point.U, np.eye(k), atol=1e-12)
    assert np.allclose(point.V.T @ point.V, np.eye(k), atol=1e-12)
    assert (np.diff(point.s) <= 0).all() and point.s.min() > 0


def test_low_rank_matrix_is_recovered():
    X = low_rank(60, 50, 2)
    entries = entries_of(X, 0.5)
    # The threshold causes an error of about lambda over the known share of entries: 1e-3 / 0.5 of sigma_1.
    *_, point = soft_impute(entries, path_to(1e-3), 2, tolerance=1e-6)
    error = np.linalg.norm((point.U * point.s) @ point.V.T - X) / np.linalg.norm(X)
    assert error < 0.01
    U, s, Vh = np.linalg.svd(dense(entries)[0], full_matrices=False)
    truncated = (U[:, :2] * s[:2]) @ Vh[:2]
    # For comparison, the truncated SVD of the zero-filled matrix is off by more than 40 %.
    assert np.linalg.norm(truncated - X) / np.linalg.norm(X) > 0.4


def test_solution_above_the_largest_singular_value_is_zero():
    (point,) = soft_impute(noisy(), [1.0 + 1e-6], 30)
    assert len(point.s) == 0


def test_rank_restriction_holds():
    for point in soft_impute(noisy(), path_to(0.1), 2):
        assert len(point.s) <= 2


def test_zero_matrix_has_a_zero_solution():
    zero = Entries.of(np.array([0, 1]), np.array([1, 0]), np.zeros(2), (3, 4))
    for point in soft_impute(zero, [0.5, 0.1], 2):
        assert point.s.shape == (0,) and point.U.shape == (3, 0)


def test_path_decreases_to_its_end():
    assert path_to(0.9) == [0.9]
    path = path_to(0.5)
    assert path[:2] == [STEP, STEP**2] and path[-1] == 0.5
    assert (np.diff(path) < 0).all()


def test_same_seed_gives_the_same_bytes():
    first, second = (list(soft_impute(noisy(), path_to(0.3), 5, seed=7)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.U.tobytes() == b.U.tobytes() and a.s.tobytes() == b.s.tobytes()


@settings(max_examples=30)
@given(
    m=st.integers(1, 12),
    n=st.integers(1, 12),
    r=st.integers(0, 4),
    seed=st.integers(0, 99),
    density=st.floats(0, 1),
)
def test_operator_equals_its_dense_matrix(m, n, r, seed, density):
    random = np.random.default_rng(seed)
    S = scipy.sparse.random_array((m, n), density=density, rng=random, format="csr")
    U, V = random.standard_normal((m, r)), random.standard_normal((n, r))
    A, matrix = SparsePlusLowRank(S, U, V), S.toarray() + U @ V.T
    X, Y = random.standard_normal((n, 3)), random.standard_normal((2, m))
    assert np.allclose(A @ X, matrix @ X) and np.allclose(Y @ A, Y @ matrix)
    assert np.allclose(A.T @ Y.T, matrix.T @ Y.T)
    assert np.allclose(A[:1, :2], matrix[:1, :2])
    assert A.energy == pytest.approx((matrix**2).sum(), rel=1e-9, abs=1e-9)


def test_leading_triplets_are_those_of_the_dense_matrix():
    random = np.random.default_rng(0)
    S = scipy.sparse.random_array((80, 60), density=0.1, rng=random, format="csr")
    U, V = 3 * random.standard_normal((80, 2)), random.standard_normal((60, 2))
    dense_values = np.linalg.svd(S.toarray() + U @ V.T, compute_uv=False)
    _, s, _ = leading_triplets(SparsePlusLowRank(S, U, V), 3, seed=0)
    # Krylov finds the two separated values to rounding error; the third belongs to the bulk.
    assert np.allclose(s[:2], dense_values[:2], rtol=1e-6)
    assert s[2] == pytest.approx(dense_values[2], rel=0.05)
