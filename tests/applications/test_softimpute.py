"""Soft-impute against its definition with full SVDs, and against matrices whose completion is known."""

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
def test_the_same_as_with_full_svds(share):
    entries = noisy()
    *_, ours = soft_impute(entries, path_to(share), 30, tolerance=1e-8)
    X, known = dense(entries)
    assert ours.threshold == pytest.approx(share * np.linalg.norm(X, 2), rel=1e-3)
    theirs = dense_soft_impute(X, known, ours.threshold)
    M = (ours.U * ours.s) @ ours.V.T
    # Ours stops at a change of at most 1e-8; at a rate under 0.95 that leaves 20 times as much.
    assert np.linalg.norm(M - theirs) <= 1e-6 * np.linalg.norm(theirs)
    assert len(ours.s) == np.linalg.matrix_rank(theirs, tol=1e-6)


def test_the_solution_is_a_fixed_point():
    # The condition for the minimum itself: soft-thresholding the filled-up matrix changes nothing.
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


def test_a_low_rank_matrix_is_found_again():
    X = low_rank(60, 50, 2)
    entries = entries_of(X, 0.5)
    # The bias of the threshold is about lambda over the share that is known: 1e-3 / 0.5 of sigma_1.
    *_, point = soft_impute(entries, path_to(1e-3), 2, tolerance=1e-6)
    error = np.linalg.norm((point.U * point.s) @ point.V.T - X) / np.linalg.norm(X)
    assert error < 0.01
    zeros = np.linalg.svd(dense(entries)[0], full_matrices=False)
    filled = (zeros[0][:, :2] * zeros[1][:2]) @ zeros[2][:2]
    assert np.linalg.norm(filled - X) / np.linalg.norm(X) > 0.4  # zeros in place of what is missing


def test_nothing_is_left_above_the_largest_value():
    (point,) = soft_impute(noisy(), [1.0 + 1e-6], 30)
    assert len(point.s) == 0


def test_the_rank_is_kept():
    for point in soft_impute(noisy(), path_to(0.1), 2):
        assert len(point.s) <= 2


def test_zeros_and_nothing():
    zero = Entries.of(np.array([0, 1]), np.array([1, 0]), np.zeros(2), (3, 4))
    for point in soft_impute(zero, [0.5, 0.1], 2):
        assert point.s.shape == (0,) and point.U.shape == (3, 0)


def test_the_path():
    assert path_to(0.9) == [0.9]
    path = path_to(0.5)
    assert path[:2] == [STEP, STEP**2] and path[-1] == 0.5
    assert (np.diff(path) < 0).all()


def test_deterministic():
    first, second = (list(soft_impute(noisy(), path_to(0.3), 5, seed=7)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.U.tobytes() == b.U.tobytes() and a.s.tobytes() == b.s.tobytes()


@settings(max_examples=30)
@given(
    m=st.integers(1, 12), n=st.integers(1, 12), r=st.integers(0, 4), seed=st.integers(0, 99),
    density=st.floats(0, 1),
)  # fmt: skip
def test_the_operator_is_its_matrix(m, n, r, seed, density):
    random = np.random.default_rng(seed)
    S = scipy.sparse.random_array((m, n), density=density, rng=random, format="csr")
    U, V = random.standard_normal((m, r)), random.standard_normal((n, r))
    A, same = SparsePlusLowRank(S, U, V), S.toarray() + U @ V.T
    X, Y = random.standard_normal((n, 3)), random.standard_normal((2, m))
    assert np.allclose(A @ X, same @ X) and np.allclose(Y @ A, Y @ same)
    assert np.allclose(A.T @ Y.T, same.T @ Y.T)
    assert np.allclose(A[:1, :2], same[:1, :2])
    assert A.energy == pytest.approx((same**2).sum(), rel=1e-9, abs=1e-9)


def test_leading_triplets_of_the_operator():
    random = np.random.default_rng(0)
    S = scipy.sparse.random_array((80, 60), density=0.1, rng=random, format="csr")
    U, V = 3 * random.standard_normal((80, 2)), random.standard_normal((60, 2))
    dense_values = np.linalg.svd(S.toarray() + U @ V.T, compute_uv=False)
    _, s, _ = leading_triplets(SparsePlusLowRank(S, U, V), 3, seed=0)
    # Two values stand out, which Krylov finds to rounding; the third is of the bulk.
    assert np.allclose(s[:2], dense_values[:2], rtol=1e-6)
    assert s[2] == pytest.approx(dense_values[2], rel=0.05)
