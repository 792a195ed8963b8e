"""Common examples from lectures on the SVD, matrix calculus and tensors, computed with the library.

The expected numbers are those that the NumPy code of such lectures prints. docs/notes.md lists numbers that
are often wrong; tests/explain/test_documents.py has examples on low rank and LoRA. `RandomState(42)` draws
the same numbers as ``numpy.random.seed(42)``.
"""

from __future__ import annotations

import numpy as np
import pytest
import sympy

import eckart
from eckart import linalg
from eckart.autodiff import grad, hessian, jacobian, jvp, value_and_grad, vjp
from eckart.explain import explain


def test_svd_of_3_1_1_2_is_exact():
    results = explain("svd", "3 1; 1 2").results
    assert [sympy.expand(2 * s) for s in results.sigma] == [5 + sympy.sqrt(5), 5 - sympy.sqrt(5)]
    assert [f"{float(s):.3f}" for s in results.sigma] == ["3.618", "1.382"]
    U = np.abs(np.array(results.U.tolist(), float))
    np.testing.assert_allclose(U, [[0.8507, 0.5257], [0.5257, 0.8507]], atol=5e-5)


def test_gradient_step_lowers_the_squared_error():
    x, y, w = np.array([1.0, 2.0, 3.0]), 10.0, np.ones(3)

    def loss(w):
        return (y - w @ x) ** 2

    value, slope = value_and_grad(loss)(w)
    assert value == 16 and slope.tolist() == [-8, -16, -24]
    w = w - 0.01 * slope
    assert w @ x == pytest.approx(7.12) and loss(w) == pytest.approx(8.2944)


def test_jacobian_of_a_function_of_two_variables():
    J = jacobian(lambda x: np.stack([x[0] ** 2 + x[1], x[0] * x[1]]))(np.array([2.0, 3.0]))
    assert J.tolist() == [[4, 1], [3, 2]]


def test_gradients_of_a_variable_used_twice_are_added():
    value, (da, db) = value_and_grad(lambda a, b: a * b + b, argnums=(0, 1))(2.0, 3.0)
    assert (value, da, db) == (9, 3, 3)


def test_forward_and_reverse_mode_agree():
    def f(x1, x2):
        return x1 * x2 + np.sin(x1)

    value, along = jvp(f, (2.0, 3.0), (1.0, 0.0))
    assert value == pytest.approx(6.9093, abs=5e-5) and along == pytest.approx(3 + np.cos(2))
    assert jvp(f, (2.0, 3.0), (0.0, 1.0))[1] == 2
    _, pull = vjp(f, 2.0, 3.0)
    assert pull(1.0) == pytest.approx((2.5839, 2.0), abs=5e-5)


@pytest.mark.parametrize("rank", [1, 3, 5, 10, 20])
def test_truncated_svd_of_noise_has_the_predicted_errors(rank):
    result = linalg.eckart_young(np.random.RandomState(42).randn(50, 30), rank)
    assert result.frobenius == pytest.approx(result.frobenius_predicted, rel=1e-12)
    assert result.spectral == pytest.approx(result.spectral_predicted, rel=1e-12)
    assert result.best_competitor > 1


def test_waves_have_rank_two():
    y, x = np.linspace(0, 4 * np.pi, 200)[:, None], np.linspace(0, 3 * np.pi, 150)
    s = eckart.spectrum(np.sin(x) * np.cos(y) + 0.5 * np.sin(2 * x + y))
    shares = [f"{r * (200 + 150 + 1) / (200 * 150):.1%}" for r in (1, 5, 10, 20, 50)]
    assert shares == ["1.2%", "5.9%", "11.7%", "23.4%", "58.5%"]
    assert s.error(1) == pytest.approx(0.404767, abs=5e-7) and s.error(2) < 1e-14


def test_rank_two_approximation_of_mean_filled_ratings():
    R = np.array([[5, 3, 0, 1], [4, 0, 0, 1], [1, 1, 0, 5], [1, 0, 0, 4], [0, 1, 5, 4.0]])
    filled = np.where(R > 0, R, R[R > 0].mean())
    predicted = eckart.svd(filled, rank=2).dense()
    assert [f"{x:.1f}" for x in predicted[R == 0]] == ["3.1", "2.6", "2.8", "3.2", "1.5", "3.2", "2.6"]


def test_pseudo_inverse_meets_the_moore_penrose_conditions():
    A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    inverse = linalg.pinv(A)
    np.testing.assert_allclose(inverse, np.array([[-16, -4, 8], [13, 4, -5]]) / 12, atol=1e-14)
    assert max(linalg.moore_penrose_conditions(A, inverse)) < 1e-14


def test_ridge_is_stable_for_nearly_equal_columns():
    random = np.random.RandomState(42)
    A = random.randn(20, 10)
    A[:, -1] = A[:, 0] + 1e-8 * random.randn(20)
    b = random.randn(20)
    assert f"{linalg.cond(A):.2e}" == "1.92e+08"
    assert np.linalg.norm(linalg.pinv(A) @ b) == pytest.approx(4.365e7, rel=1e-3)
    path = linalg.RidgePath(A, b)
    lengths = {0.001: 0.9480, 0.01: 0.9471, 0.1: 0.9378, 1.0: 0.8616}
    residuals = {0.001: 3.6351, 0.01: 3.6351, 0.1: 3.6353, 1.0: 3.6450}
    for penalty, length in lengths.items():
        solution = path.solve(penalty)
        assert (solution.norm, solution.residual) == pytest.approx((length, residuals[penalty]), abs=6e-5)
        direct = np.linalg.solve(A.T @ A + penalty * np.eye(10), A.T @ b)
        np.testing.assert_allclose(solution.x, direct, rtol=1e-9, atol=1e-9)


def test_principal_components_agree_with_the_covariance_matrix():
    X = np.random.RandomState(42).randn(200, 5) @ np.diag([5, 3, 1, 0.5, 0.1])
    pca = linalg.PCA().fit(X)
    variances = [21.9088, 8.9177, 0.9269, 0.2342, 0.0104]
    assert pca.explained_variance_ == pytest.approx(variances, abs=6e-5)
    shares = [f"{x:.1%}" for x in np.cumsum(pca.explained_variance_ratio_)[:3]]
    assert shares == ["68.5%", "96.3%", "99.2%"]
    values, vectors = np.linalg.eigh(np.cov(X.T))
    np.testing.assert_allclose(values[::-1], pca.explained_variance_)
    centred = X - X.mean(axis=0)
    scores = pca.transform(X)[:, :2]
    np.testing.assert_allclose(np.abs(scores), np.abs(centred @ vectors[:, :2:-1]), atol=1e-9)


def test_vec_of_a_product_is_a_kronecker_product():
    A, B, X = np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]]), np.eye(2, dtype=int)
    assert linalg.vec(A @ X @ B).tolist() == (np.kron(B.T, A) @ linalg.vec(X)).tolist() == [19, 43, 22, 50]


def test_order_of_a_contraction_determines_its_cost():
    plan = linalg.contraction("ij,jk,kl->il", (100, 50), (50, 200), (200, 100))
    assert (plan.flops, plan.naive_flops, plan.largest_intermediate) == (3_000_000, 300_000_000, 10_000)


def test_newton_step_reaches_the_minimum_of_a_quadratic():
    def f(p):
        return p[0] ** 2 + 3 * p[1] ** 2 + 2 * p[0] * p[1]

    start = np.array([5.0, 3.0])
    H = hessian(f)(start)
    assert H.tolist() == [[2, 2], [2, 6]]
    assert np.linalg.eigvalsh(H) == pytest.approx([4 - 2 * 2**0.5, 4 + 2 * 2**0.5])
    np.testing.assert_allclose(start - np.linalg.solve(H, grad(f)(start)), [0, 0], atol=1e-14)


def test_two_formulas_of_the_matrix_cookbook():
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    assert grad(lambda x: x @ A @ x)(np.array([1.0, 2.0])).tolist() == [8, 14]
    X = np.array([[2.0, 0.5], [0.5, 3.0]])
    gradient = grad(lambda X: np.log(np.linalg.det(X)))(X)
    assert gradient.round(4).tolist() == [[0.5217, -0.087], [-0.087, 0.3478]]


def test_gradients_of_a_network_of_three_layers():
    random = np.random.RandomState(42)
    weights = [random.randn(m, n) * 0.5 for m, n in ((4, 3), (2, 4), (1, 2))]
    biases = [np.zeros(m) for m in (4, 2, 1)]
    x, y = np.array([1.0, 0.5, -0.5]), np.array([1.0])

    def loss(weights, biases):
        h = x
        for W, b in zip(weights, biases, strict=True):
            h = 1 / (1 + np.exp(-(W @ h + b)))
        return np.sum((h - y) ** 2) / 2

    value, (dW, db) = value_and_grad(loss, argnums=(0, 1))(weights, biases)
    assert value == pytest.approx(0.111335, abs=6e-7)
    assert [np.linalg.norm(g) for g in dW] == pytest.approx([0.004477, 0.017745, 0.041347], abs=6e-7)
    assert dW[0][0, 0] == pytest.approx(-0.00076023, abs=6e-9)
    # The error signal of a layer is the gradient of its bias; dW is its outer product with the layer's input.
    np.testing.assert_allclose(dW[0], np.outer(db[0], x), rtol=1e-12)


def test_newton_solves_rosenbrock_in_two_steps():
    def rosenbrock(p):
        return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2

    path = [np.array([-1.0, 1.0])]
    for _ in range(2):
        p = path[-1]
        path.append(p - np.linalg.solve(hessian(rosenbrock)(p), grad(rosenbrock)(p)))
    np.testing.assert_allclose(path[1:], [[1, -3], [1, 1]], atol=1e-12)
    assert rosenbrock(path[1]) == pytest.approx(1600)


def test_derivatives_of_softmax_and_cross_entropy():
    z, y = np.array([2.0, 1.0, 0.1]), np.array([1.0, 0.0, 0.0])

    def softmax(z):
        e = np.exp(z - np.max(z))
        return e / np.sum(e)

    J = jacobian(softmax)(z)
    expected = [
        [0.224719, -0.159764, -0.064955],
        [-0.159764, 0.183659, -0.023896],
        [-0.064955, -0.023896, 0.088851],
    ]
    np.testing.assert_allclose(J, expected, atol=6e-7)
    np.testing.assert_allclose(J.sum(axis=1), 0, atol=1e-16)
    gradient = grad(lambda z: -np.sum(y * np.log(softmax(z))))(z)
    np.testing.assert_allclose(gradient, [-0.340999, 0.242433, 0.098566], atol=6e-7)


def test_gradients_of_one_attention_head_with_residual():
    random = np.random.RandomState(42)
    H = random.randn(4, 8)
    W = [random.randn(8, 8) * 0.1 for _ in range(4)]  # query, key, value, output
    dY = random.randn(4, 8)

    def loss(W):
        Q, K, V = (H @ w for w in W[:3])
        S = Q @ K.T / np.sqrt(8)
        e = np.exp(S - np.max(S, axis=1, keepdims=True))
        return np.sum((e / np.sum(e, axis=1, keepdims=True) @ V @ W[3] + H) * dY)

    gradients = grad(loss)(W)
    norms = [0.184735, 0.155924, 1.092928, 1.565520]
    assert [np.linalg.norm(g) for g in gradients] == pytest.approx(norms, abs=6e-7)
    assert gradients[0][0, 0] == pytest.approx(-0.01080495, abs=6e-9)
