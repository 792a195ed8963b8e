"""Unusual inputs and uses: values and dtypes, operands, traced arrays that escape, memory, threads, depth."""

import copy
import pickle
import threading

import numpy as np
import pytest
import scipy.special as sp

from eckart.autodiff import (
    check_grads,
    checkpoint,
    grad,
    hessian,
    jacobian,
    jvp,
    linearize,
    trace,
    value_and_grad,
    vjp,
    vmap,
)
from eckart.autodiff.core import Primitive
from eckart.autodiff.errors import ArgumentError, MissingRuleError, TracerError

X = np.array([1.0, 2.0])
NAN = np.array([1.0, np.nan, 3.0])


# --- values and dtypes are those of NumPy -------------------------------------------------------------

NARROW = X.astype(np.float32)
SAME = {
    "fmax": (lambda x: np.fmax(x, 2.0), NAN),
    "fmin": (lambda x: np.fmin(2.0, x), NAN),
    "maximum": (lambda x: np.maximum(x, 2.0), NAN),
    "median": (np.median, NAN),
    "median of an axis": (lambda x: np.median(np.stack([x, x + 1]), axis=1, keepdims=True), NAN),
    "float_power": (lambda x: np.float_power(x, 2), NARROW),
    "cumsum": (lambda x: np.cumsum(x, dtype=np.float64), NARROW),
    "cumprod": (lambda x: np.cumprod(x, dtype=np.float64), NARROW),
    "prod": (lambda x: np.prod(x, dtype=np.float64), NARROW),
    "full_like": (lambda x: np.full_like(x, x[1]), X),
    "divmod": (lambda x: np.stack(divmod(x, 0.75)), X),
    "np.divmod": (lambda x: np.stack(np.divmod(7.5, x)), X),
    "empty stack": (lambda x: np.matmul(np.reshape(x[:0], (2, 3, 0)), np.zeros((0, 4))), X),
    "empty tensordot": (lambda x: np.tensordot(np.reshape(x[:0], (2, 0)), np.zeros((0, 3)), 1), X),
    "round": (lambda x: np.round(x * 1.3, 1), X),
    "reshape by name": (lambda x: np.reshape(x, shape=(1, 2)), X),
    "axes without brackets": (lambda x: np.reshape(x, (1, 2, 1)).transpose(1, 0, 2), X),
    "conversion to integers": (lambda x: x.astype(int) * x, X + 0.5),
    "median next to inf": (np.median, np.array([1.0, 2.0, np.inf])),
    "quantile that picks": (lambda x: np.quantile(x, np.array([0.1, 0.9]), method="nearest"), NARROW),
    "interp at one point": (lambda x: np.interp(x, [1.0], [2.0]), X),
    "diff of order 0": (lambda x: np.diff(x, 0, prepend=1.0), X),
    "block of vectors": (lambda x: np.block([x, x]), X),
    "block of blocks": (lambda x: np.block([[[x, x], [x, x]]] * 2), np.ones((2, 1, 2))),
    "split back and forth": (lambda x: np.concatenate(np.split(x, [2, 1])), NAN),
    "take by booleans": (lambda x: np.take(x, np.array([True, False])), X),
    "fftn of whole axes": (lambda x: np.fft.fftn(x, s=(-1, 3), axes=(0, 1)), np.eye(2, 4)),
    "irfftn of a whole axis": (lambda x: np.fft.irfftn(x, s=(2, -1), axes=(0, 1)), np.eye(2, 4)),
    "dots between arrays": (lambda x: x[:, [[0], [1]], ..., [[0, 1]]], np.arange(24.0).reshape(4, 2, 3)),
    "products of small integers": (lambda x: np.prod(np.astype(x * 100, np.int8)), X),
    "running products of masks": (lambda x: np.cumprod(x > 0), X),
    "a number as an array": (lambda x: np.negative(x)[None] * x[()], 2.0),
    "an empty list": (lambda x: x[[]], X),
}


@pytest.mark.parametrize("name", SAME)
def test_value_and_dtype_are_those_of_numpy(name):
    f, x = SAME[name]
    want = f(np.asarray(x))
    for got in (vjp(f, x)[0], jvp(f, (x,), (x,))[0], vmap(f)(np.stack([x, x]))[1]):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype


def test_fmax_and_fmin_differentiate_the_argument_that_is_not_nan():
    """At ties both arguments share the derivative, also in float32."""
    for f in (np.fmax, np.fmin):
        assert grad(lambda x, f=f: f(x[0], x[1]))(np.array([np.nan, 1.0])).tolist() == [0, 1]
        assert grad(lambda x, f=f: f(x[0], x[1]))(np.array([1.0, np.nan])).tolist() == [1, 0]
        assert grad(lambda x, f=f: np.sum(f(x, NARROW)))(NARROW).tolist() == [0.5, 0.5]
    g = grad(lambda x: np.sum(np.max(x, axis=1)))(np.array([[1, 2, 2], [3, 1, 2]], np.float32))
    assert g.tolist() == [[0, 0.5, 0.5], [1, 0, 0]] and g.dtype == np.float32


def test_nanmax_and_nanmin_of_only_nan_are_nan():
    x = np.array([[1.0, np.nan], [2.0, np.nan]])
    for f, want in ((np.nanmax, 2.0), (np.nanmin, 1.0)):
        np.testing.assert_array_equal(vjp(lambda x, f=f: f(x, axis=0), x)[0], [want, np.nan])
        np.testing.assert_array_equal(vjp(lambda x, f=f: f(x, 0, keepdims=True), x)[0], [[want, np.nan]])
        np.testing.assert_array_equal(grad(f)(x), (x == want).astype(float))


def test_sequences_inside_an_index_are_arrays():
    """A tuple or a range inside an index acts like an array; an entry indexed twice gets both cotangents."""
    for index in (((0, 0), (1, 1)), (range(2), (1, 1)), ([0, 0], (1, 1)), ((0, 0),)):
        want = np.zeros((2, 3))
        np.add.at(want, tuple(map(list, index)), 1.0)
        np.testing.assert_array_equal(grad(lambda x, i=index: np.sum(x[i]))(np.ones((2, 3))), want)
    many = np.arange(210.0).reshape(5, 2, 7, 3)
    np.testing.assert_array_equal(vmap(lambda x: x[(0, 0), :, (1, 1)])(many)[3], many[3][[0, 0], :, [1, 1]])
    for dtype in (np.uint8, np.int8, np.uint64):
        g = grad(lambda x, dtype=dtype: np.sum(x[np.array([7, 7], dtype)]))(np.ones(300))
        assert g[7] == np.sum(g) == 2


def test_memory_orders_other_than_c_are_refused():
    x = np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])
    for order in "FAK":
        for f in (
            lambda x, o=order: np.ravel(x, o),
            lambda x, o=order: x.flatten(o),
            lambda x, o=order: np.ravel(x, order=o),
        ):
            with pytest.raises(TracerError, match="order='C'"):
                grad(lambda x, f=f: np.sum(f(x)))(x)


def test_powers_of_python_numbers_follow_numpy():
    with np.errstate(all="ignore"):
        for x, n in ((0.0, -1.0), (-1.0, 0.5), (1e200, 2), (1e200, 3.0)):
            value, g = value_and_grad(lambda x, n=n: np.power(x, n))(x)
            np.testing.assert_equal(value, np.power(x, n))
            np.testing.assert_allclose(g, n * np.power(x, n - 1.0))
        np.testing.assert_equal(vjp(lambda x: np.power(2.0, x), 5000.0)[0], np.inf)


def test_root_of_an_array_has_derivative_0_at_0():
    for n in (0.5, np.float64(0.5), np.array(0.5), np.full(2, 0.5)):
        assert grad(lambda x, n=n: np.sum(x**n))(np.array([0.0, 4.0])).tolist() == [0, 0.25]


# --- operands that are not traced -----------------------------------------------------------------------


def test_lists_and_tuples_are_accepted_as_operands():
    for f, want in (
        (lambda x: x / [1.0, 4.0], [1, 0.25]),
        (lambda x: (2.0, 4.0) / x, [-2, -1]),
        (lambda x: x ** [2, 3], [2, 12]),
        (lambda x: (3.0, 1.0) * x, [3, 1]),
        (lambda x: x @ (3.0, 1.0), [3, 1]),
        (lambda x: np.matmul([[1.0, 2.0], [0.0, 1.0]], x), [1, 3]),
        (lambda x: np.maximum(x, (1.5, 1.5)), [0, 1]),
        (lambda x: np.where([True, False], x, 0.0), [1, 0]),
    ):
        np.testing.assert_allclose(grad(lambda x, f=f: np.sum(f(x)))(X), want)
        np.testing.assert_allclose(hessian(lambda x, f=f: np.sum(x * f(x)))(X).shape, (2, 2))


def test_division_by_a_python_zero_follows_numpy():
    with np.errstate(divide="ignore"):
        assert vjp(lambda x: x / 0, X)[0].tolist() == [np.inf, np.inf]
        assert vjp(lambda x: x / 0, 1.0)[0] == np.inf


def test_subclasses_of_arrays_are_refused():
    for x in (np.ma.array([1.0, 2.0], mask=[0, 1]), X.view(type("Units", (np.ndarray,), {}))):
        with pytest.raises(ArgumentError, match=r"not a plain array.*np\.asarray"):
            grad(lambda x: np.sum(x * x))(x)


def test_complex_tangents_of_real_numbers_are_refused():
    with pytest.raises(ArgumentError, match="complex tangent"):
        jvp(np.sin, (X,), (X * 1j,))
    with pytest.raises(ArgumentError, match="complex cotangent"):
        vjp(np.sin, X)[1](X * 1j)
    assert jvp(np.sin, (X + 0j,), (X,))[1].dtype == complex


def test_argnums_selects_each_positional_argument_once():
    with pytest.raises(ArgumentError, match=r"\(0, -2\) does not select distinct positional arguments"):
        grad(lambda x, y: x * y, (0, -2))(2.0, 3.0)
    with pytest.raises(ArgumentError, match="positional arguments, of which there are 0"):
        grad(np.sum)(x=X)
    with pytest.raises(ArgumentError, match="one real number, not object"):
        grad(lambda x: (y for y in x))(X)


def test_error_names_an_option_without_a_rule():
    mask = np.array([True, False])
    for f, message in (
        (lambda x: np.sum(x, where=mask), "where="),
        (lambda x: x.sum(initial=1.0), "initial="),
        (lambda x: np.add.reduce(x, where=mask), "where="),
        (lambda x: np.max(x, initial=0.0), "initial="),
        (lambda x: np.mean(x, where=mask), "where="),
        (lambda x: np.sin(x, dtype=np.float32), "dtype="),
        (lambda x: np.sum(x, 0, None, None, True), "this number of arguments"),
        (lambda x: np.multiply.outer(x, x), "this method"),
        (lambda x: np.add.reduceat(x, [0, 1]), "this method"),
    ):
        with pytest.raises(MissingRuleError, match=message) as error:
            grad(lambda x, f=f: np.sum(f(x)))(X)
        assert "test_edges.py:" in str(error.value)
    for g in (lambda x: np.add.at(np.zeros(2), [0], x), lambda x: np.sum(np.cos(X, out=(x,)))):
        with pytest.raises(TracerError, match="written into"):
            grad(g)(X)


# --- traced arrays that leave the function --------------------------------------------------------------


def escaped_array(transform):
    """Return a traced array that a function has stored."""
    box = []

    def f(x):
        box.append(x)
        return np.sum(x)

    transform(f)
    return box[0]


MAKERS = [
    lambda f: grad(f)(X),
    lambda f: jvp(f, (X,), (X,)),
    lambda f: vmap(f)(np.stack([X, X])),
    lambda f: trace(f)(X),
    lambda f: linearize(f, X),
]


@pytest.mark.parametrize("make", MAKERS)
def test_traced_array_is_refused_after_its_function_has_returned(make):
    old = escaped_array(make)
    for use in (
        lambda: np.sin(old),
        lambda: np.sum(old),
        lambda: old @ X,
        lambda: old + 1,
        lambda: grad(lambda x: np.sum(x * old))(X),
        lambda: jvp(lambda x: old, (X,), (X,)),
        lambda: grad(lambda x: (np.sum(x), {"kept": old}), has_aux=True)(X),
        lambda: vmap(lambda x: old)(X),
    ):
        with pytest.raises(TracerError, match="has returned"):
            use()


def test_traced_array_of_an_inner_function_cannot_be_returned_through_a_list():
    def f(x):
        box = []
        grad(lambda y: (box.append(y * x), y * x)[1])(1.0)
        return box[0]

    with pytest.raises(TracerError, match="has_aux"):
        grad(f)(2.0)


def test_copies_keep_the_derivative_and_pickles_are_refused():
    assert grad(lambda x: np.sum(copy.deepcopy({"x": x})["x"] * copy.copy(x)))(X).tolist() == [2, 4]
    with pytest.raises(TracerError, match="drop the derivative"):
        grad(lambda x: np.sum(pickle.loads(pickle.dumps(x))))(X)


def test_methods_that_change_an_array_are_refused():
    for name in ("sort", "fill", "partition", "put", "resize"):
        with pytest.raises(TracerError, match=r"np\.sort"):
            grad(lambda x, name=name: getattr(x, name)(0))(X)
    with pytest.raises(TracerError, match="`round`"):
        grad(lambda x: round(x[0]))(X)
    with pytest.raises(TracerError, match=r"np\.broadcast_to"):
        grad(lambda x: np.sum(np.full(3, x[0])))(X)


def test_missing_attribute_raises_an_error_with_the_line():
    with pytest.raises(AttributeError, match=r"`x\.flat`.*test_edges\.py"):
        grad(lambda x: x.flat[0])(X)
    assert grad(lambda x: np.sum(x) * (2.0 if hasattr(x, "strides") else 3.0))(X).tolist() == [3, 3]


def test_traced_numbers_can_be_formatted():
    shown = []
    grad(lambda x: (shown.append(f"{x[1]:.2f} {x}"), np.sum(x))[1])(X)
    assert shown == ["2.00 Dual(array([1., 2.]))"]


def test_in_place_operators_create_a_new_array():
    def f(x):
        y = x
        y += 1.0
        y *= y
        return np.sum(y)

    assert grad(f)(X).tolist() == [4, 6]


# --- vmap, checkpoint, trace --------------------------------------------------------------------------------


def test_masks_can_be_combined_under_vmap_and_trace():
    f = lambda x: np.where((x > 0) & ~(x > 3) ^ (x == 9) | (x < -5), x, 0.0)  # noqa: E731
    x = np.array([-7.0, -1.0, 2.0, 4.0, 9.0])
    np.testing.assert_array_equal(vmap(f)(x), f(x))
    np.testing.assert_array_equal(trace(f)(x).lines[-1].primal, f(x))


def test_rule_may_index_tangents_by_mapped_values():
    ordered = Primitive("ordered", np.sort, lambda y, args, tangents: tangents[0][np.argsort(args[0])])
    x = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    gradient = grad(lambda x: np.sum(ordered(x) * np.arange(3.0)))
    np.testing.assert_array_equal(vmap(gradient)(x), [gradient(x[0]), gradient(x[1])])


def test_keyword_arguments_are_passed_through():
    assert vmap(lambda x, s=1.0: x * s)(X, s=3.0).tolist() == [3, 6]
    assert jacobian(lambda x, s=1.0: x * s)(X, s=3.0).tolist() == [[3, 0], [0, 3]]
    assert trace(lambda x, s=1.0: x * s)(2.0, s=3.0).lines[-1].primal == 6.0
    f = checkpoint(lambda x, k=1, mode="": np.sum(x**k) if mode == "power" else x[0])
    assert grad(lambda x: f(x, k=3, mode="power"))(X).tolist() == [3, 12]


def test_checkpoint_accepts_and_returns_untraced_values():
    f = checkpoint(lambda x, at, axis: (np.sum(x[at] ** 2, axis), np.argmax(x), x.astype(np.float32)))

    def g(x):
        total, best, narrow = f(x, np.array([0, 1, 1]), 0)
        assert narrow.dtype == np.float32 and np.asarray(best).dtype.kind == "i"
        return total + x[best] + np.sum(narrow)

    np.testing.assert_allclose(grad(g)(X), [3, 10])
    np.testing.assert_allclose(jvp(g, (X,), (np.array([1.0, 0.0]),))[1], 3)


def test_vmap_explains_axes_that_do_not_fit():
    with pytest.raises(ArgumentError, match="in_axes=None"):
        vmap(np.multiply)(X, 3.0)
    with pytest.raises(ArgumentError, match="empty batch"):
        vmap(Primitive("no batch rule", np.copy))(np.zeros((0, 2)))
    with pytest.raises(ArgumentError, match="length 1, but the number of positional arguments is 2"):
        vmap(np.multiply, (0,))(X, X)
    assert vmap(np.sin)(np.zeros((0, 2))).shape == (0, 2)


def test_primitive_without_a_batch_rule_is_mapped_by_a_loop():
    both = Primitive("in two ways", lambda x, y: (x + y, np.sum(x)))
    total, sums = vmap(lambda x: both(x, NARROW))(np.stack([NARROW, 2 * NARROW]))
    assert total.tolist() == [[2, 4], [3, 6]] and sums.tolist() == [3, 6] and total.dtype == np.float32


def test_functions_with_branches_can_be_traced_and_checked():
    f = lambda x: x * x if x > 0 else -x  # noqa: E731
    assert [line.op for line in trace(f)(2.0).lines] == ["input", "greater", "multiply"]
    check_grads(f, 2.0)


def test_jacobian_of_a_complex_function_of_real_arrays():
    """In reverse mode a real cotangent gives only the real part, so two passes are needed."""
    f = lambda x: np.exp(1j * x[:2]) * x[2]  # noqa: E731
    x = np.array([0.3, 0.7, 2.0])
    want = np.stack([(f(x + 1e-6 * t) - f(x - 1e-6 * t)) / 2e-6 for t in np.eye(3)], axis=-1)
    for mode in ("fwd", "rev", "auto"):
        np.testing.assert_allclose(jacobian(f, mode=mode)(x), want, atol=1e-9)


def test_derivatives_of_a_function_that_is_not_a_ufunc_can_be_nested():
    """SciPy's `polygamma` is not a ufunc, so it must be called on plain arrays at every depth."""
    x = np.array([1.5, 2.5])
    third = lambda x: sp.polygamma(2, x)  # noqa: E731
    np.testing.assert_allclose(vmap(grad(grad(grad(sp.gammaln))))(x), third(x))
    np.testing.assert_allclose(
        vmap(lambda x: grad(grad(lambda y: sp.gammaln(y * 1.0)))(x))(x), sp.polygamma(1, x)
    )


def test_tangent_has_the_shape_of_its_value():
    """This includes a `where` with a branch that is wider than the one that depends on x."""
    wide, f = np.ones((2, 2)), lambda x: np.reshape(np.where(x > 0, x, wide), (4,))
    for x, want in ((0.5, np.ones(4)), (-0.5, np.zeros(4))):
        np.testing.assert_array_equal(linearize(f, x)[1](1.0), want)
        np.testing.assert_array_equal(linearize(lambda x: np.where(x > 0, x, wide), x)[1](1.0).ravel(), want)
        for mode in ("fwd", "rev"):
            np.testing.assert_array_equal(jacobian(f, mode=mode)(x), want)


def test_jacobians_may_be_empty():
    assert jacobian(lambda x: np.linalg.inv(np.reshape(x, (0, 0))))(np.zeros(0)).shape == (0, 0, 0)
    assert hessian(lambda x: np.sum(x**2))(np.zeros(0)).shape == (0, 0)
    assert jacobian(lambda x: x[:0], mode="rev")(X).shape == (0, 2)


# --- memory, threads, depth ---------------------------------------------------------------------------------


def test_gradients_share_no_memory():
    """Gradients may be clipped in place: none shares memory with another, the seed or a constant."""
    w = np.array([2.0, 3.0])
    a, b = grad(lambda a, b: np.sum(np.sum(a + b, axis=0) * w), (0, 1))(np.ones((3, 2)), np.ones((3, 2)))
    c, d, e = vjp(lambda x, y, z: (x + y).T + z.T, w, w, w)[1](w)
    arrays = [a, b, c, d, e, w]
    for i, one in enumerate(arrays):
        assert one.flags.writeable and not any(np.shares_memory(one, other) for other in arrays[:i])
    for f in (lambda x: np.sum(np.sum(x, axis=0)), lambda x: np.sum(x.T[0]), lambda x: np.dot(x[0], w)):
        assert grad(f)(np.ones((3, 2))).flags.writeable


def test_mapped_and_second_derivatives_share_no_memory():
    x, w = np.ones((2, 3)), np.ones((2, 3))
    plus = lambda a, b: np.sum((a + b.T) ** 2)  # noqa: E731
    square = np.ones((3, 3))
    for results in (
        vmap(grad(lambda a, b: np.sum(a + b), (0, 1)))(x, x),
        [vmap(grad(np.sum))(x), vmap(grad(lambda x: 3.0))(x)],
        [*vmap(vjp(lambda a, b: a + b, x[0], x[0])[1])(w), w],
        [*jvp(grad(plus, (0, 1)), (square, square), (square, square))[1], square],
        [*linearize(lambda x: (x, x, x[::-1]), x)[1](w), w],
        vmap(grad(lambda a, b: np.real(np.sum((a + b) * (1 + 2j))), (0, 1)))(x, x),
        [hessian(np.sum)(x[0]), jacobian(lambda x: w[0])(x[0])],
    ):
        for i, one in enumerate(results):
            assert one.flags.writeable and not any(np.shares_memory(one, other) for other in results[:i])


def test_shared_cotangent_is_not_overwritten():
    """x reaches the result along four paths with coefficient 1."""
    w = np.array([2.0, 3.0])

    def f(x):
        y = x + x
        z = y + x
        return np.sum(((z + y) - (-x)) * w + y * w)

    np.testing.assert_allclose(grad(f)(X), 8 * w)
    _, pullback = vjp(lambda x: (x, x + x, x * w), X)
    seed = np.ones(2)
    for _ in range(2):
        np.testing.assert_allclose(pullback((seed, seed, seed))[0], 3 + w)
    assert seed.tolist() == [1, 1]


def test_threads_can_differentiate_at_the_same_time():
    def f(x):
        return grad(lambda y: np.sum(np.sin(y) * x) * x[0])(x)[0] * x[1]

    points = [np.array([1.0, k]) for k in range(4)]
    want, gradients = [grad(f)(x) for x in points], [[] for _ in points]

    def work(k):
        for _ in range(50):
            gradients[k].append(grad(f)(points[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert len(gradients[k]) == 50 and all(np.array_equal(g, want[k]) for g in gradients[k])


def test_error_in_the_function_leaves_no_state():
    class Stop(Exception):
        pass

    def f(x):
        y = np.sin(x) * x
        if stop:
            raise Stop
        return np.sum(y)

    for transform in (
        lambda: grad(f)(X),
        lambda: grad(lambda x: grad(f)(x)[0])(X),
        lambda: vmap(grad(f))(X[None]),
    ):
        stop = True
        with pytest.raises(Stop):
            transform()
        stop = False
        transform()


def test_errstate_is_respected():
    with np.errstate(all="raise"):
        with pytest.raises(FloatingPointError):
            grad(lambda x: np.sum(np.log(x)))(np.zeros(2))
        assert grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(np.zeros(2)).tolist() == [0, 0]


def test_chain_of_100_000_operations():
    def f(x):
        for _ in range(50_000):
            x = np.sin(x) * 1.0
        return x

    value, pullback = vjp(f, 0.5)
    want = value_and_grad(f)(0.5)
    assert (value, *pullback(1.0)) == want
    assert linearize(f, 0.5)[1](1.0) == pytest.approx(want[1], rel=1e-9)
    assert jvp(f, (0.5,), (1.0,))[1] == pytest.approx(want[1], rel=1e-9)


def test_traced_arrays_can_be_iterated_over():
    assert grad(lambda x: sum(y * y for y in x))(X).tolist() == [2, 4]
    assert grad(lambda x: sum(a * b for a, b in zip(reversed(x), x, strict=True)))(X).tolist() == [4, 2]
    assert grad(lambda x: max(*x, key=lambda y: y))(X).tolist() == [0, 1]
    assert grad(lambda x: x[0] if x[0] in [1.0] else x[1])(X).tolist() == [1, 0]


def test_mask_of_the_wrong_shape_is_refused_as_by_numpy():
    for index in (np.array([True, False]), (slice(None), np.ones(2, bool))):
        with pytest.raises(IndexError, match="boolean"):
            grad(lambda x, index=index: np.sum(x[index]))(np.ones((3, 4)))


def test_jacobians_are_writable():
    """This includes Jacobians that are computed as broadcast views."""
    for derivative in (
        hessian(lambda x: np.sum(x) ** 2)(np.ones(3)),
        jacobian(lambda x: np.broadcast_to(x, (2, 3)))(np.ones(3)),
        vmap(lambda x: np.broadcast_to(x, (2,)))(np.ones(3)),
    ):
        derivative += 1.0
