"""The transformations: nesting, trees, conventions, memory, depth."""

import gc
import tracemalloc

import numpy as np
import pytest

from eckart.autodiff import (
    check_grads,
    checkpoint,
    eigfun,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    linearize,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)
from eckart.autodiff.core import Primitive
from eckart.autodiff.elementwise import Elementwise
from eckart.autodiff.errors import ArgumentError
from eckart.autodiff.scipy import logsumexp, softmax, svd

RNG = np.random.default_rng(3)


def test_no_perturbation_confusion():
    """d/dx (x d/dy (x + y)) = 1 in every combination of modes (Siskind & Pearlmutter, 2005)."""

    def forward(f, x):
        return jvp(f, (x,), (1.0,))[1]

    def reverse(f, x):
        return grad(f)(x)

    for outer in (forward, reverse):
        for inner in (forward, reverse):
            assert outer(lambda x, inner=inner: x * inner(lambda y: x + y, 2.0), 1.0) == 1.0
            assert outer(lambda x, inner=inner: x * inner(lambda y: x * y * y, 2.0), 3.0) == 24.0


def test_derivatives_of_any_order():
    f, signs = np.sin, [np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin, np.cos]
    for k, want in enumerate(signs):
        g, h = f, f
        for i in range(k + 1):
            g = grad(g)
            h = grad(h) if i % 2 else (lambda x, h=h: jvp(h, (x,), (1.0,))[1])
        assert g(0.7) == pytest.approx(want(0.7), rel=1e-12)
        assert h(0.7) == pytest.approx(want(0.7), rel=1e-12)


def test_arguments_and_results_may_be_trees():
    tree = {"w": [np.ones(2), (3.0, None)], "b": np.array(2.0)}

    def f(p, scale=1.0):
        return scale * (np.sum(p["w"][0]) * p["w"][1][0] + p["b"] ** 2)

    value, g = value_and_grad(f)(tree, scale=2.0)
    assert value == 2 * (6 + 4)
    assert g["w"][0].tolist() == [6.0, 6.0] and g["w"][1] == (4.0, None) and g["b"] == 8.0
    out, pullback = vjp(lambda x: {"a": x * 2, "b": [x.sum()]}, np.ones(2))
    assert out["b"] == [2.0]
    assert pullback({"a": np.array([1.0, 0.0]), "b": [10.0]})[0].tolist() == [12.0, 10.0]


def test_argnums_and_has_aux():
    f = lambda x, y: (x * y**2, "note")  # noqa: E731
    assert grad(f, (0, 1), has_aux=True)(2.0, 3.0) == ((9.0, 12.0), "note")
    assert grad(lambda x, y: x * y**2, -1)(2.0, 3.0) == 12.0
    traced, aux = value_and_grad(lambda x: (x * x, x + 1), has_aux=True)(3.0)[0]
    assert (traced, aux) == (9.0, 4.0)


def test_independent_results_have_derivative_zero():
    x = np.ones(3)
    assert grad(lambda x: 2.0)(x).tolist() == [0, 0, 0]
    assert jvp(lambda x: np.ones(2), (x,), (x,))[1].tolist() == [0, 0]
    assert jacobian(lambda x: np.stack([x[0], 1.0]), mode="fwd")(x).tolist() == [[1, 0, 0], [0, 0, 0]]
    assert grad(lambda x: np.sum(np.floor(x) + np.sign(x)))(x).tolist() == [0, 0, 0]
    assert vmap(lambda x: 5.0)(x).tolist() == [5.0] * 3


@pytest.mark.parametrize("n, m", [(3, 5), (5, 3), (4, 4)])
def test_jacobian_is_the_same_in_both_modes(n, m):
    A = RNG.standard_normal((m, n))
    f = lambda x: np.tanh(A @ x)  # noqa: E731
    x = RNG.standard_normal(n)
    want = (1 - np.tanh(A @ x) ** 2)[:, None] * A
    for mode in ("auto", "fwd", "rev"):
        np.testing.assert_allclose(jacobian(f, mode=mode)(x), want, rtol=1e-12)


def test_mode_auto_chooses_the_cheaper_mode():
    """A primitive whose tangent is NaN in forward mode only shows which mode was chosen."""
    one_sided = Primitive(
        "one sided", lambda x: x, lambda y, args, ts: ts[0] * np.nan if is_forward(ts[0]) else ts[0]
    )
    for n, m in ((2, 50), (50, 2), (3, 3)):
        A = RNG.standard_normal((m, n))
        J = jacobian(lambda x, A=A: A @ one_sided(x))(np.ones(n))
        assert J.shape == (m, n) and np.all(np.isnan(J)) == (n <= m)


def is_forward(t):
    return type(t).__name__ != "Row"


def test_jacobian_of_tensors():
    X = RNG.standard_normal((2, 3))
    J = jacobian(lambda x: np.outer(x[0], x[1]))(X)
    assert J.shape == (3, 3, 2, 3)
    np.testing.assert_allclose(J[1, 2, 0], [0, X[1, 2], 0])
    assert jacobian(np.sin)(0.0) == 1.0


def test_hessian_and_hvp():
    A = RNG.standard_normal((4, 4))
    x, v = RNG.standard_normal((2, 4))
    f = lambda x: x @ A @ x + np.sum(x**4)  # noqa: E731
    H = hessian(f)(x)
    np.testing.assert_allclose(H, A + A.T + np.diag(12 * x**2), rtol=1e-12)
    np.testing.assert_allclose(hvp(f, x, v), H @ v, rtol=1e-12)
    third = jacobian(hessian(f))(x)
    np.testing.assert_allclose(third[1], np.diag([0, 24 * x[1], 0, 0]), atol=1e-12)


def test_linearized_function_can_be_applied_many_times():
    x, t = RNG.standard_normal((2, 3))
    y, df = linearize(lambda x: np.cumsum(x**2) * x[0], x)
    for _ in range(2):
        np.testing.assert_allclose(df(t), jvp(lambda x: np.cumsum(x**2) * x[0], (x,), (t,))[1])
    assert y.shape == (3,)


def test_elementwise_function_of_three_arguments_and_a_parameter():
    between = Elementwise(
        "between",
        lambda a, b, t, scale=1.0: scale * (a + t * (b - a)),
        lambda y, a, b, t, scale=1.0: scale * (1 - t),
        lambda y, a, b, t, scale=1.0: scale * t,
        lambda y, a, b, t, scale=1.0: scale * (b - a),
    )
    x = np.array([0.3, 2.0])
    for scale in (1.0, 3.0):
        f = lambda x, scale=scale: between(x, 5.0, x * x, scale=scale)  # noqa: E731
        check_grads(f, x)
        np.testing.assert_allclose(f(x), scale * (x + x * x * (5 - x)))
        np.testing.assert_allclose(jacobian(f)(x), np.diag(scale * (1 + 10 * x - 3 * x * x)))
        np.testing.assert_allclose(vmap(f)(np.stack([x, 2 * x])), [f(x), f(2 * x)])


def test_cotangent_is_overwritten_only_at_its_last_use():
    """The reverse pass multiplies in place, but a row that has one parent twice needs its cotangent twice."""
    twice = Elementwise("of two arguments", lambda a, b: a * a / 2 + b, lambda y, a, b: a, None)
    x, ct = np.array([1.0, 2.0]), np.array([5.0, 7.0])
    np.testing.assert_allclose(grad(lambda x: np.sum(3 * twice(x, x)))(x), 3 * x + 3)
    np.testing.assert_allclose(grad(lambda x: np.sum(grad(lambda y: np.sum(y * y * y))(x) * x))(x), 9 * x**2)
    _, pullback = vjp(lambda x: (x + 2 * x, x * x), x)
    for _ in range(2):
        np.testing.assert_array_equal(pullback((ct, ct))[0], 3 * ct + 2 * x * ct)
    np.testing.assert_array_equal(ct, [5, 7])


def test_pullback_can_be_called_again_after_an_error():
    _, pullback = vjp(lambda x: svd(x, full_matrices=False)[0], np.eye(2))
    with pytest.raises(ArithmeticError):
        pullback(np.ones((2, 2)))
    assert pullback(np.zeros((2, 2)))[0].tolist() == [[0, 0], [0, 0]]


def test_gradients_follow_the_convention_for_complex_numbers():
    """A holomorphic f has gradient f', and a real f has df/dx - i df/dy, whose conjugate points uphill."""
    z = np.array(0.3 - 0.7j)
    assert grad(lambda z: np.real(z * z))(z) == pytest.approx(2 * z)
    assert grad(lambda z: np.imag(z * z))(z) == pytest.approx(-2j * z)
    g = grad(lambda z: np.abs(z) ** 2)(z)
    assert g == pytest.approx(2 * np.conj(z))
    assert vjp(lambda z: z**3, z)[1](1.0)[0] == pytest.approx(3 * z**2)
    step = np.conj(g) * 1e-3
    assert np.abs(z + step) > np.abs(z)
    J = jacobian(lambda z: z**2)(np.array([1j, 2.0]))
    np.testing.assert_allclose(J, np.diag([2j, 4]))
    assert grad(lambda x: np.real(np.exp(1j * x)))(0.5) == pytest.approx(-np.sin(0.5))
    assert isinstance(grad(lambda x: np.abs(np.exp(1j * x)))(0.5), float)


def test_chain_of_10_000_operations():
    def chain(x):
        for _ in range(10_000):
            x = np.sin(x)
        return x

    want, y = 1.0, 0.5
    for _ in range(10_000):
        want, y = want * np.cos(y), np.sin(y)
    assert grad(chain)(0.5) == pytest.approx(want, rel=1e-9)


def peak(f, *args):
    f(*args)
    gc.collect()
    tracemalloc.start()
    f(*args)
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top


def steps(x, n, wrap=lambda f: f):
    def piece(x):
        for _ in range(n):
            x = np.tanh(x * 1.1)
        return x

    for _ in range(n):
        x = wrap(piece)(x)
    return np.sum(x)


def test_checkpoint_trades_time_for_memory():
    x = RNG.standard_normal(20_000)
    np.testing.assert_allclose(
        grad(lambda x: steps(x, 10, checkpoint))(x), grad(lambda x: steps(x, 10))(x), rtol=1e-12
    )
    assert peak(grad(lambda x: steps(x, 10, checkpoint)), x) < peak(grad(lambda x: steps(x, 10)), x) / 3


def test_reverse_pass_frees_memory_on_the_way():
    """The gradient of n steps holds n coefficients, but not n cotangents at the same time."""
    x, n = RNG.standard_normal(50_000), 40

    def f(x):
        for _ in range(n):
            x = np.sin(x)
        return np.sum(x)

    assert peak(grad(f), x) < (n + 6) * x.nbytes


def test_checkpoint_accepts_trees_and_can_be_nested_and_mapped():
    f = checkpoint(lambda p: (p["a"] * p["b"], np.sin(p["a"])))
    plain = lambda p: (p["a"] * p["b"], np.sin(p["a"]))  # noqa: E731
    x = RNG.standard_normal((2, 3))

    def use(g):
        return lambda x: np.sum(g({"a": x[0], "b": x[1]})[0] * g({"a": x[1], "b": x[0]})[1])

    np.testing.assert_allclose(grad(use(f))(x), grad(use(plain))(x), rtol=1e-12)
    np.testing.assert_allclose(hessian(use(f))(x), hessian(use(plain))(x), atol=1e-12)
    np.testing.assert_allclose(
        vmap(grad(use(f)))(np.stack([x, 2 * x]))[1], grad(use(plain))(2 * x), rtol=1e-12
    )
    np.testing.assert_allclose(linearize(use(f), x)[1](x), np.sum(grad(use(plain))(x) * x), rtol=1e-12)
    y = np.ones(3)
    with pytest.raises(ArgumentError, match="among its arguments"):
        grad(lambda y: np.sum(checkpoint(lambda x: x * y)(y * 1.0)))(y)


def test_vmap_over_any_axis_and_nested():
    A = RNG.standard_normal((3, 4))
    x = RNG.standard_normal((4, 5))
    np.testing.assert_allclose(vmap(lambda a, v: a @ v, (None, 1), 1)(A, x), A @ x)
    outer = vmap(vmap(lambda a, b: a * b, (None, 0)), (0, None))
    np.testing.assert_allclose(outer(A[:, 0], x[:, 0]), np.outer(A[:, 0], x[:, 0]))
    np.testing.assert_allclose(vmap(lambda d: d["a"] * 2)({"a": A}), A * 2)
    with pytest.raises(ArgumentError, match="lengths"):
        vmap(np.add)(np.ones(2), np.ones(3))


def test_vmap_with_a_different_index_in_each_example():
    logits, labels = RNG.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])
    loss = lambda x, k: -(x - logsumexp(x))[k]  # noqa: E731
    got = vmap(grad(loss))(logits, labels)
    np.testing.assert_allclose(got, softmax(logits, axis=1) - np.eye(4)[labels], atol=1e-12)


def test_stop_gradient_makes_its_argument_constant():
    assert grad(lambda x: x * stop_gradient(x))(3.0) == 3.0


def test_python_floats_do_not_widen_float32():
    w = np.ones(2, np.float32)
    assert grad(lambda s, w: np.sum(s * w) * s, 1)(3.0, w).dtype == np.float32
    assert grad(lambda w: np.sum(w * 2.5 / 3))(w).dtype == np.float32


def test_functions_may_branch_loop_and_recurse():
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert grad(power)(2.0, 5) == 80.0
    assert grad(lambda x: x * x if x > 1 else -x)(0.5) == -1.0

    def newton(a):
        x = a
        while abs(x * x - a) > 1e-14:
            x = (x + a / x) / 2
        return x

    assert grad(newton)(2.0) == pytest.approx(0.5 / np.sqrt(2), rel=1e-9)


def test_subgradients_are_those_of_the_documentation():
    zero = np.zeros(3)
    assert grad(np.linalg.norm)(zero).tolist() == [0, 0, 0]
    assert grad(lambda x: np.sum(np.abs(x)))(zero).tolist() == [0, 0, 0]
    assert grad(lambda x: np.sum(np.sqrt(x)))(zero).tolist() == [0, 0, 0]
    assert hessian(np.linalg.norm)(zero).tolist() == [[0] * 3] * 3
    assert grad(lambda x: np.max(x))(np.array([1.0, 2.0, 2.0])).tolist() == [0, 0.5, 0.5]
    assert grad(lambda x: np.sum(np.maximum(x, 0)))(zero).tolist() == [0.5] * 3
    assert (
        grad(lambda x: np.sum(np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0)))(zero - 1).tolist()
        == [0] * 3
    )


def test_spectral_functions_refuse_the_third_derivative():
    f = lambda a: np.sum(eigfun((a + a.T) / 2, np.exp, np.exp, np.exp))  # noqa: E731
    with pytest.raises(NotImplementedError, match="third"):
        jacobian(hessian(f))(np.eye(2))
    with pytest.raises(NotImplementedError, match="d2f"):
        hessian(lambda a: np.sum(eigfun(a, np.exp, np.exp)))(np.eye(2))
