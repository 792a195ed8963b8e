"""The singular value decomposition: identities are proven with sympy alone, and sigma agrees with NumPy."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.explain import explain
from eckart.explain.steps import Show
from support.explain_cases import CASES, IN_DECIMALS, is_plain, is_same, product


def verify(W, results):
    """Check U S V^T == W, U^T U == I and V^T V == I: exactly for simple roots, otherwise to 60 digits."""
    U, S, V = results.U, results.S, results.V
    assert U.shape == (W.rows, W.rows) and S.shape == W.shape and V.shape == (W.cols, W.cols)
    if is_plain(U) and is_plain(V) and is_plain(S):
        for Z in (U * S * V.T - W, U.T * U - sympy.eye(W.rows), V.T * V - sympy.eye(W.cols)):
            assert Z.applyfunc(sympy.expand) == sympy.zeros(*Z.shape)
    assert is_same(product(U, S, V.T), product(W))
    assert is_same(product(U.T, U), product(sympy.eye(W.rows)))
    assert is_same(product(V.T, V), product(sympy.eye(W.cols)))
    sigma = results.sigma
    assert all(
        S[i, j] == (sigma[i] if i == j and i < len(sigma) else 0)
        for i in range(W.rows)
        for j in range(W.cols)
    )
    assert all(sympy.N(s) > 0 for s in sigma) and len(sigma) == results.rank == W.rank()
    assert [float(s) for s in sigma] == sorted(map(float, sigma), reverse=True)
    # NumPy's singular values are accurate to a few eps of the largest one.
    known = np.linalg.svd(np.array(sympy.N(W).tolist(), float), compute_uv=False)
    padded = [float(s) for s in sigma] + [0.0] * (len(known) - len(sigma))
    assert padded == pytest.approx(known, abs=1e-13 * (1 + known[0]))


@pytest.mark.parametrize("name", CASES)
def test_the_decomposition_is_correct(name):
    done = explain("svd", CASES[name])
    W = sympy.Matrix([[sympy.nsimplify(x) for x in row.split()] for row in CASES[name].split(";")])
    verify(W, done.results)
    assert done.results.exact is (name not in IN_DECIMALS)
    assert all(check.holds for check in done.checks) and len(done.checks) == 4
    assert {check.exact for check in done.checks} == {done.results.exact}


@pytest.mark.parametrize("name", ["golden", "quadratic roots"])
def test_identities_with_roots_under_roots_are_proven(name):
    # `equals` uses minimal polynomials, a method independent of the checks on the page.
    results = explain("svd", CASES[name]).results
    U = results.U
    assert not is_plain(U)
    assert (U[:, 0].dot(U[:, 0]) - 1).equals(0) and U[:, 0].dot(U[:, 1]).equals(0)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 3)], ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_random_integer_matrices_are_decomposed(shape, data):
    m, n = shape
    rows = data.draw(st.lists(st.lists(st.integers(-4, 4), min_size=n, max_size=n), min_size=m, max_size=m))
    done = explain("svd", rows)
    verify(sympy.Matrix(rows), done.results)
    assert all(check.holds for check in done.checks)
    if m == 2:
        assert done.results.exact  # two nonzero eigenvalues need at most one square root


@settings(max_examples=15)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=16, max_size=16))
def test_random_sign_matrices_are_decomposed(entries):
    W = sympy.Matrix(4, 4, entries)
    verify(W, explain("svd", W).results)


ENTRIES = ["0", "1", "-1", "1/2", "sqrt(2)", "sqrt(3)", "-sqrt(6)/2"]


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(ENTRIES), min_size=2, max_size=2), min_size=1, max_size=3))
def test_random_matrices_with_roots_are_decomposed(rows):
    done = explain("svd", "; ".join(" ".join(row) for row in rows))
    verify(sympy.Matrix([[sympy.sympify(x) for x in row] for row in rows]), done.results)
    assert all(check.holds for check in done.checks)


def test_four_by_four_takes_less_than_three_seconds():
    explain("svd", "1 2; 3 4")  # fills sympy's caches
    start = time.perf_counter()
    explain("svd", CASES["quartic"])
    # 0.1 s was measured; the limit allows for a machine thirty times slower.
    assert time.perf_counter() - start < 3


def test_the_results_contain_eigenvalues_and_eigenvectors():
    done = explain("svd", "3 1; 1 3; 1 1")
    G, values = done.results.gram, done.results.eigenvalues
    assert values == [18, 4]
    for i, value in enumerate(values):
        v = done.results.V[:, i]
        assert (G * v - value * v).applyfunc(sympy.expand) == sympy.zeros(2, 1)
    assert sum(isinstance(part, Show) for part in done.parts()) > 15


def test_a_float_is_read_as_its_shortest_decimal():
    assert explain("svd", [[0.1]]).results.sigma == [sympy.Rational(1, 10)]
    assert explain("svd", np.float32([[0.1]])).results.sigma == [sympy.Rational(1, 10)]
