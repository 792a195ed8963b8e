"""Examples that are common in notes on low rank and LoRA, with the correct figures."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from sympy import Rational, sqrt

from eckart.explain import explain, render

UPDATE = "4 0; 3 5"
TALL = "3 1; 1 3; 1 1"
OUTER = "4 8 12; 2 4 6; 3 6 9; 5 10 15"
NOISY = "4.2 8.1 11.9; 2.1 4.0 6.1; 2.9 6.1 9.2; 5.1 10.2 15.1"


def shown(topic, matrix, **options):
    return render(explain(topic, matrix, **options))


def test_singular_values_of_the_two_by_two():
    results = explain("svd", UPDATE).results
    assert results.sigma == [sqrt(40), sqrt(10)]
    assert results.eigenvalues == [40, 10]
    assert sympy.Matrix([[1, 1], [1, -1]]) / sqrt(2) == results.V
    assert sympy.expand(results.U * sqrt(5)) == sympy.Matrix([[1, 2], [2, -1]])
    text = shown("svd", UPDATE)
    assert "σ₁ = √40 = 2√10 ≈ 6.3246" in text  # not 6.3249
    assert "6.3249" not in text
    assert "λ² - 50λ + 400 = (λ - 40)(λ - 10)" in text


def test_rank_one_keeps_four_fifths_of_the_energy():
    results = explain("lowrank", UPDATE).results
    assert results.energy == Rational(4, 5)
    assert results.best == sympy.Matrix([[2, 2], [4, 4]])
    assert results.error_squared == results.spectral_squared == 10


def test_lora_factors_of_the_two_by_two():
    results = explain("lora", UPDATE, rank=1).results
    assert [f"{float(x):.4f}" for x in results.B] == ["1.1247", "2.2494"]  # not 2.251
    assert [f"{float(x):.4f}" for x in results.A] == ["1.7783", "1.7783"]
    text = shown("lora", UPDATE)
    assert "√σ₁ ≈ 2.5149" in text
    # Half the parameters of rank 2, but nothing saved against the dense 2 x 2.
    assert "r(m + n) = 1 · (2 + 2) = 4" in text and "4/4 = 100%" in text
    assert "Nothing is saved" in text


def test_the_third_left_vector_of_the_tall_matrix():
    results = explain("svd", TALL).results
    assert results.sigma == [3 * sqrt(2), 2]
    u = results.U
    assert u[:, 0] == sympy.Matrix([2, 2, 1]) / 3
    third = u[:, 2]
    assert (third - sympy.Matrix([1, 1, -4]) / (3 * sqrt(2))).applyfunc(sympy.simplify).is_zero_matrix
    assert sympy.expand(third.dot(third)) == 1 and sympy.expand(third.dot(u[:, 0])) == 0
    # The vector that is often shown is neither a unit vector nor orthogonal.
    wrong = sympy.Matrix([1, 1, -2]) / 3
    assert wrong.dot(wrong) == Rational(2, 3) and wrong.dot(u[:, 0]) == Rational(2, 9)
    assert "u₃ = 1/(3√2) · (1, 1, -4)" in shown("svd", TALL)


def test_rank_one_approximation_of_the_tall_matrix():
    results = explain("lowrank", TALL).results
    assert results.best == sympy.Matrix([[2, 2], [2, 2], [1, 1]])
    assert results.error_squared == 4 and results.energy == Rational(9, 11)
    assert "81.8%" in shown("lowrank", TALL)
    assert "r(m + n) = 1 · (3 + 2) = 5" in shown("lora", TALL)


def test_an_outer_product_has_rank_one_and_its_factors():
    results = explain("rank", OUTER).results
    assert results.rank == 1
    assert sympy.Matrix([4, 2, 3, 5]) == results.C and sympy.Matrix([[1, 2, 3]]) == results.F
    text = shown("rank", OUTER)
    for operation in ("R₂ ← R₂ - 1/2 · R₁", "R₃ ← R₃ - 3/4 · R₁", "R₄ ← R₄ - 5/4 · R₁"):
        assert operation in text
    assert "C and F have 7 entries; W has 12." in text
    assert "All minors of order 2 are 0 (number of minors: 18)." in text


def test_least_squares_fit_of_the_noisy_outer_product():
    results = explain("lora", NOISY, given="4; 2; 3; 5").results
    W = np.array([[float(x) for x in row.split()] for row in NOISY.split(";")])
    b = np.array([4.0, 2, 3, 5])
    a = np.linalg.lstsq(b[:, None], W, rcond=None)[0][0]
    assert [float(x) for x in results.coefficients] == pytest.approx(a, rel=1e-12)
    assert a == pytest.approx([1.0222, 2.0315, 3.0167], abs=5e-5)
    mean = float(results.mean_absolute_error)
    assert mean == pytest.approx(np.abs(W - np.outer(b, a)).mean(), rel=1e-12)
    assert mean == pytest.approx(0.0735, abs=5e-5)  # not "about 0.1"
    text = shown("lora", NOISY, given="4; 2; 3; 5")
    assert "The mean absolute entry of the residual is 0.0735." in text


def test_singular_values_of_the_wide_matrix():
    results = explain("svd", "3 2 2; 2 3 -2").results
    assert results.sigma == [5, 3] and results.eigenvalues == [25, 9, 0]


def test_the_pseudo_inverse_of_one_to_six():
    inverse = explain("pinv", "1 2; 3 4; 5 6").results.pinv
    assert inverse == sympy.Matrix([[-16, -4, 8], [13, 4, -5]]) / 12
    known = np.linalg.pinv([[1, 2], [3, 4], [5, 6]])
    assert np.array(inverse.tolist(), float) == pytest.approx(known, abs=1e-14)
