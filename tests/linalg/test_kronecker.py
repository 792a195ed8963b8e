"""Kronecker products compared with `numpy.kron`, which forms them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.errors import MatrixError, UsageError
from eckart.linalg import kron_matvec, kron_solve, kronecker_laws, nearest_kronecker, rearranged, vec
from support.matrices import orthonormal


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def formed(factors):
    product = np.eye(1)
    for A in factors:
        product = np.kron(product, A)
    return product


sides = st.integers(1, 4)


@given(
    shapes=st.lists(st.tuples(sides, sides), min_size=1, max_size=4), columns=st.none() | st.integers(0, 3)
)
@settings(max_examples=60)
def test_matvec_equals_the_formed_product(shapes, columns):
    factors = [gaussian(*shape, seed=i) for i, shape in enumerate(shapes)]
    K = formed(factors)
    x = gaussian(K.shape[1], *([] if columns is None else [columns]), seed=9)
    product = kron_matvec(factors, x)
    assert product.shape == (K @ x).shape
    assert product == pytest.approx(K @ x, abs=1e-11)


@given(sizes=st.lists(sides, min_size=1, max_size=4), columns=st.none() | st.integers(0, 3))
@settings(max_examples=60)
def test_solve_inverts_matvec(sizes, columns):
    # Each factor is 2 I plus a rotation of norm 1, with a condition of at most 3.
    factors = [2 * np.eye(n) + orthonormal(n, n, n) for n in sizes]
    x = gaussian(int(np.prod(sizes)), *([] if columns is None else [columns]))
    assert kron_solve(factors, kron_matvec(factors, x)) == pytest.approx(x, abs=1e-11)


def test_matvec_applies_the_vec_identity():
    A, X, B = gaussian(3, 4), gaussian(4, 5, seed=1), gaussian(5, 2, seed=2)
    assert kron_matvec([B.T, A], vec(X)) == pytest.approx(vec(A @ X @ B), abs=1e-13)


def test_product_that_is_too_large_to_form():
    n = 300  # the product would take 65 GB
    A, B, x = gaussian(n, n), gaussian(n, n, seed=1), gaussian(n * n, seed=2)
    assert kron_matvec([A, B], x) == pytest.approx((A @ x.reshape(n, n) @ B.T).ravel(), rel=1e-9, abs=1e-9)


def test_laws_hold_and_a_wrong_law_does_not():
    A, B, C, D, X = gaussian(3, 3), gaussian(2, 2), gaussian(3, 4), gaussian(2, 5), gaussian(3, 2)
    laws = kronecker_laws(A, B, C, D, X)
    condition = np.linalg.cond(np.kron(A, B))
    assert laws.mixed_product < 1e-14 and laws.vectorisation < 1e-14
    assert laws.inverse < 1e-15 * condition
    # The same comparison fails for exchanged factors, which is not a law.
    wrong = np.linalg.norm(np.kron(B, A) - np.kron(A, B)) / np.linalg.norm(np.kron(A, B))
    assert wrong > 0.1


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_nearest_sum_recovers_a_sum_of_products(rank):
    terms = [np.kron(gaussian(3, 2, seed=i), gaussian(4, 5, seed=10 + i)) for i in range(rank)]
    M = np.sum(terms, axis=0)
    nearest = nearest_kronecker(M, (3, 2), rank=rank)
    assert nearest.rank == rank
    assert nearest.error < 1e-14
    assert nearest.shape == M.shape
    assert nearest.dense() == pytest.approx(M, abs=1e-12)
    x = gaussian(10, 2)
    assert nearest @ x == pytest.approx(M @ x, abs=1e-12)
    assert nearest @ x[:, 0] == pytest.approx(M @ x[:, 0], abs=1e-12)


def test_error_equals_that_of_the_rearranged_matrix():
    M = gaussian(12, 10)
    nearest = nearest_kronecker(M, (3, 2))
    s = np.linalg.svd(rearranged(M, (3, 2)), compute_uv=False)
    assert nearest.error == pytest.approx(np.linalg.norm(s[1:]) / np.linalg.norm(s), rel=1e-12)
    assert nearest.error == pytest.approx(np.linalg.norm(M - nearest.dense()) / np.linalg.norm(M), rel=1e-12)
    for seed in range(50):  # no nearby product is closer
        A = nearest.A[0] + 0.05 * gaussian(3, 2, seed=seed)
        B = nearest.B[0] + 0.05 * gaussian(4, 5, seed=100 + seed)
        assert np.linalg.norm(M - np.kron(A, B)) > np.linalg.norm(M - nearest.dense())


def test_number_of_terms_is_the_least_for_a_goal():
    M = gaussian(12, 10)
    nearest = nearest_kronecker(M, (3, 2), rank=None, error=0.3)
    assert nearest.error <= 0.3
    assert nearest_kronecker(M, (3, 2), rank=nearest.rank - 1).error > 0.3


REFUSED = [
    (lambda: kron_matvec([], [1.0]), UsageError, "at least one factor"),
    (lambda: kron_matvec([np.eye(2), np.eye(3)], np.ones(5)), MatrixError, r"\(6,\)"),
    (lambda: kron_matvec([np.ones(3)], np.ones(3)), MatrixError, "expected a matrix"),
    (lambda: kron_solve([np.ones((2, 3))], np.ones(2)), MatrixError, "square"),
    (lambda: kron_solve([np.eye(2), np.ones((2, 2))], np.ones(4)), MatrixError, "factor 1 is singular"),
    (lambda: kronecker_laws(*[np.eye(2)] * 4, np.eye(3)), MatrixError, "do not chain"),
    (lambda: kronecker_laws(np.ones((2, 2)), *[np.eye(2)] * 4), MatrixError, "singular"),
    (lambda: nearest_kronecker(np.eye(4), (3, 2)), UsageError, "divisors of 4 and 4"),
    (lambda: nearest_kronecker(np.eye(4) * 1j, (2, 2)), MatrixError, "real"),
    (lambda: nearest_kronecker(np.eye(4), (2, 2), energy=0.9), UsageError, "rank and energy"),
    (lambda: nearest_kronecker(np.eye(4), 2), UsageError, "divisors of 4 and 4"),
    (lambda: nearest_kronecker(np.eye(4), (2,)), UsageError, "divisors of 4 and 4"),
    (lambda: nearest_kronecker(np.eye(4), (2.0, 2)), UsageError, "divisors of 4 and 4"),
    (lambda: nearest_kronecker(np.eye(4) * 1e200, (2, 2)), MatrixError, r"nearest_kronecker\(M.*range"),
    (lambda: rearranged(np.eye(4), (3, 2)), UsageError, "divisors of 4 and 4"),
    (lambda: kron_matvec([np.eye(2) * 1e300, np.eye(2)], np.ones(4) * 1e300), MatrixError, "range"),
    (lambda: kron_solve([np.eye(2) * 1e-310, np.eye(2)], np.ones(4)), MatrixError, "range"),
    (lambda: kronecker_laws(*[np.eye(2) * 1e300] * 4, np.eye(2)), MatrixError, "range"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_invalid_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
