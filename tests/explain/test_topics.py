"""Rank, approximation, LoRA factors, pseudo-inverse and principal components for every case."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Rational

from eckart.explain import explain, render
from support.explain_cases import CASES, is_same, product


def exact(name):
    """Return a case as a matrix, read with sympy's own parser."""
    return sympy.Matrix(
        [[sympy.sympify(x, rational=True) for x in row.split()] for row in CASES[name].split(";")]
    )


def floats(M):
    return np.array(sympy.N(M, 30).tolist(), float)


@pytest.mark.parametrize("name", CASES)
def test_rank_and_rank_factors_are_correct(name):
    W = exact(name)
    done = explain("rank", CASES[name])
    assert done.results.rank == W.rank()
    assert all(check.holds for check in done.checks)
    if done.results.rank:
        C, F = done.results.C, done.results.F
        assert (C * F - W).applyfunc(sympy.expand).is_zero_matrix
        assert C.shape == (W.rows, W.rank()) and F.shape == (W.rank(), W.cols)
        assert W.rref()[0][: W.rank(), :].applyfunc(sympy.radsimp) == F.applyfunc(sympy.radsimp)


@pytest.mark.parametrize("name", CASES)
def test_the_best_approximation_of_every_rank_is_correct(name):
    W = exact(name)
    for r in range(1, W.rank() + 1):
        done = explain("lowrank", CASES[name], rank=r)
        assert all(check.holds for check in done.checks)
        best = floats(done.results.best)
        U, s, Vh = np.linalg.svd(floats(W))
        scale = s[0]
        assert np.linalg.matrix_rank(best, tol=1e-9 * scale) == r
        left = np.append(s, 0)[r:]
        assert float(done.results.error_squared) ** 0.5 == pytest.approx(
            np.linalg.norm(left), abs=1e-7 * scale
        )
        assert float(done.results.spectral_squared) ** 0.5 == pytest.approx(left[0], abs=1e-7 * scale)
        if r == len(s) or s[r - 1] - s[r] > 1e-9 * scale:  # for equal values the best one is not unique
            assert best == pytest.approx((U[:, :r] * s[:r]) @ Vh[:r], abs=1e-9 * scale)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("alpha", [None, 16])
def test_lora_factors_are_balanced_and_multiply_to_the_best_approximation(name, alpha):
    W = exact(name)
    for r in range(1, min(W.rank(), 2) + 1):
        results = explain("lora", CASES[name], rank=r, alpha=alpha).results
        assert results.scale == (1 if alpha is None else Rational(alpha, r))
        B, A = results.B, results.A
        assert B.shape == (W.rows, r) and A.shape == (r, W.cols)
        assert is_same(product(results.scale * B, A), product(results.best))
        assert is_same(product(B.T, B), product(A, A.T))  # both factors have the same square roots


@pytest.mark.parametrize("name", CASES)
def test_the_pseudo_inverse_satisfies_the_four_conditions(name):
    W, done = exact(name), explain("pinv", CASES[name])
    X = done.results.pinv
    assert all(check.holds for check in done.checks)
    for Z in (W * X * W - W, X * W * X - X, (W * X).T - W * X, (X * W).T - X * W):
        assert Z.applyfunc(sympy.expand).is_zero_matrix
    condition = np.linalg.cond(floats(W)) if W.rank() == min(W.shape) else 1.0
    assert floats(X) == pytest.approx(np.linalg.pinv(floats(W)), abs=1e-12 * (1 + condition**2))


DATA = {
    "plain": "2 0; 0 1; 1 2; 3 3",
    "line": "1 2; 2 4; 3 6",
    "constant": "1 2; 1 2",
    "one column": "1; 2; 4",
    "wide": "1 2 3; 2 1 0",
    "decimals": "2.5 2.4 1; 0.5 0.7 0; 2.2 2.9 3; 1.9 2.2 1; 3.1 3.0 4; 2.3 2.7 2; 2 1.6 1",
}


@pytest.mark.parametrize("name", DATA)
def test_principal_components_are_correct(name):
    done = explain("pca", DATA[name])
    X = np.array([[float(x) for x in row.split()] for row in DATA[name].split(";")])
    C = np.atleast_2d(np.cov(X, rowvar=False))
    assert floats(done.results.covariance) == pytest.approx(C, abs=1e-12)
    variances = [float(v) for v in done.results.variances]
    assert variances == pytest.approx(np.linalg.eigvalsh(C)[::-1], abs=1e-12)
    for value, v in zip(variances, done.results.components, strict=True):
        assert C @ floats(v) == pytest.approx(value * floats(v), abs=1e-12)
    # The squared singular values of the centred data are n - 1 times the variances.
    sigma = np.linalg.svd(X - X.mean(0), compute_uv=False)
    ours = [float(s) for s in done.results.sigma]
    assert ours == pytest.approx(sigma[: len(ours)], abs=1e-12)
    assert all(check.holds for check in done.checks) and render(done)


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=2, max_size=5))
def test_principal_components_of_random_integers_are_correct(rows):
    done = explain("pca", rows)
    C = np.atleast_2d(np.cov(np.array(rows, float), rowvar=False))
    assert [float(v) for v in done.results.variances] == pytest.approx(np.linalg.eigvalsh(C)[::-1], abs=1e-12)
    assert all(check.holds for check in done.checks)


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=2, max_size=3))
def test_pseudo_inverses_of_random_integers_are_correct(rows):
    done = explain("pinv", rows)
    assert all(check.holds for check in done.checks)
    assert done.results.pinv == sympy.Matrix(rows).pinv()


def test_shares_close_to_100_percent_are_not_rounded_to_it():
    """A share of 99.96 % is not shown as 100 %."""
    text = render(explain("lowrank", "100 0; 0 2"))
    assert "99.96%" in text and text.count("100%") == 1
    text = render(explain("lowrank", "9999 0; 0 1"))
    assert "99.999999%" in text and text.count("100%") == 1
    assert "0.000001%" in render(explain("pca", "9999 0; -9999 0; 0 1; 0 -1"))


def test_a_failed_check_is_shown_as_failed():
    from eckart.explain.formula import Num
    from eckart.explain.steps import Check, Explanation, Step

    bad = Explanation("svd", (Step("title.matrix", (Check(Num("1"), False, True),)),), {})
    for format, sign in {"terminal": "✗", "markdown": "✗", "html": "✗", "latex": r"$\times$"}.items():
        text = render(bad, format)
        assert sign in text and "DOES NOT HOLD" in text
