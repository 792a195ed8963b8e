"""Wengert lists, their costs, and checks of derivatives."""

import numpy as np
import pytest

from eckart.autodiff import check_grad, check_grads, eigfun, grad, trace
from eckart.autodiff import scipy as asp
from eckart.autodiff.core import PRIMITIVES, Primitive
from eckart.autodiff.elementwise import Elementwise
from eckart.autodiff.errors import CheckError
from eckart.autodiff.inspection import costs
from eckart.autodiff.inspection.checks import ANALYTIC


def textbook(x1, x2):
    return x1 * x2 + np.sin(x1)


def test_trace_shows_the_table_of_the_textbook():
    tape = trace(textbook)(2.0, 3.0)
    assert [line.op for line in tape.lines] == ["input", "input", "multiply", "sin", "add"]
    out, one, two = tape.lines[-1], *tape.lines[:2]
    assert round(float(out.primal), 4) == 6.9093
    assert one.adjoint == pytest.approx(3 + np.cos(2)) and two.adjoint == pytest.approx(2.0)
    assert out.tangent == pytest.approx(one.adjoint)  # the default direction is that of the first argument
    assert trace(textbook, tangent=(0.0, 1.0))(2.0, 3.0).lines[-1].tangent == pytest.approx(2.0)
    assert tape.lines[3].where.startswith("test_inspection.py:")
    for text in (str(tape), tape.markdown(), tape.html(), tape.graphviz()):
        assert "6.9093" in text and "2.5839" in text
    assert tape.graphviz().count("->") == 5 and tape.markdown().count("\n|") == 6
    assert tape.totals["function"]["flops"] == 3


def test_adjoint_times_tangent_is_the_same_at_input_and_output():
    """The sum of adjoint times tangent is the same at every cut through the computation."""
    A = np.random.default_rng(1).standard_normal((4, 3))
    tape = trace(
        lambda a: np.sum(np.linalg.svd(a, full_matrices=False)[1] ** 3) + np.linalg.slogdet(a.T @ a)[1]
    )(A)
    start = np.sum(tape.lines[0].adjoint * tape.lines[0].tangent)
    assert start == pytest.approx(float(tape.lines[-1].tangent), rel=1e-10)
    np.testing.assert_allclose(
        tape.lines[0].adjoint,
        grad(lambda a: np.sum(np.linalg.svdvals(a) ** 3) + np.linalg.slogdet(a.T @ a)[1])(A),
        rtol=1e-8,
    )


def test_trace_counts_flops_and_bytes():
    A, B = np.ones((10, 20)), np.ones((20, 5))
    tape = trace(lambda a, b: np.sum(a @ b))(A, B)
    assert [line.flops for line in tape.lines] == [0, 0, 2 * 10 * 20 * 5, 50]
    assert tape.totals["reverse"]["flops"] >= 3 * tape.totals["function"]["flops"] - 200
    assert tape.totals["function"]["bytes"] == A.nbytes + B.nbytes + 10 * 5 * 8 + 8

    def long(x):
        for _ in range(30):
            x = np.sin(x)
        return np.sum(x)

    totals = trace(long)(np.ones(1000)).totals
    assert totals["function"]["bytes"] <= 3 * 8000 + 8 and totals["reverse"]["bytes"] >= 30 * 8000


def test_flops_of_matrix_functions_depend_on_the_number_of_directions():
    """A derivative of expm is expm of a matrix of twice the order; one of eigfun needs more products."""
    S = np.eye(4) + np.full((4, 4), 0.1)
    totals = trace(asp.expm)(S).totals
    assert totals["function"]["flops"] == 25 * 4**3
    assert totals["forward"]["flops"] == 25 * 4**3 + 25 * 8**3
    totals = trace(lambda a: eigfun(a, np.exp, np.exp))(S).totals
    assert totals["forward"]["flops"] - totals["function"]["flops"] == pytest.approx(17 * 4**3, rel=0.1)


def test_tables_of_costs_and_analytic_functions_name_existing_primitives():
    assert {*costs.FREE, *costs.PRODUCTS, *costs.OF_A_MATRIX, *ANALYTIC} <= set(PRIMITIVES)


def test_trace_shows_several_results_and_constants():
    tape = trace(lambda x: (np.linalg.qr(x), np.where(x > 0, x, 0.0), np.argmax(x)))(np.eye(2) + 1)
    assert {"linalg.qr[0]", "linalg.qr[1]", "where", "argmax", "greater"} <= {line.op for line in tape.lines}
    assert "const" in str(tape)


def test_trace_passes_through_integers():
    """A number computed from a traced integer has tangent and adjoint 0."""
    tape = trace(lambda x: np.interp(x, [0.0, 1.0, 3.0], [0.0, 2.0, 4.0]))(np.array([0.5, 2.0]))
    assert tape.lines[-1].primal.tolist() == [1.0, 3.0]
    assert tape.lines[0].adjoint.tolist() == tape.lines[-1].tangent.tolist() == [2.0, 1.0]
    assert "-0 " not in str(trace(lambda x: np.sum(0.0 * -x))(1.0))


wrong_sin = Elementwise("wrong sin", np.sin, lambda y, x: 1.001 * np.cos(x))
double = Primitive("double", lambda x: 2 * x, transpose={0: lambda ct, x: 2.1 * ct})


def uses_wrong_sin(x):
    y = np.cos(x)
    return wrong_sin(y) * x


@pytest.mark.parametrize("modes", [("fwd", "rev"), ("fwd",), ("rev",)])
def test_check_names_a_wrong_rule(modes):
    with pytest.raises(
        CheckError, match=r"entry .*step .*`wrong sin` is at fault, at test_inspection.py:\d+"
    ):
        check_grads(uses_wrong_sin, np.array([1.0, 2.0, 3.0]), modes=modes)


def test_check_names_a_wrong_transpose_without_a_step():
    with pytest.raises(
        CheckError, match=r"forward and reverse disagree.*`double` is at fault, at test_inspection"
    ):
        check_grads(lambda x: double(x) * x, np.array([1.0, 2.0]))


def test_check_names_a_wrong_rule_between_comparisons_and_integers():
    with pytest.raises(CheckError, match="`wrong sin` is at fault"):
        check_grads(lambda x: np.where(x > 0, wrong_sin(x), x[np.argmax(x)]), np.array([1.0, 2.0, -1.0]))


def test_check_accepts_correct_rules():
    x = np.random.default_rng(0).standard_normal((3, 3))
    check_grads(lambda a, b: np.linalg.solve(a, b["right"]), (x + 3 * np.eye(3), {"right": x}))
    check_grads(lambda a: np.linalg.norm(a, "nuc"), x)
    check_grads(lambda a: np.sin(a) @ a, x.astype(np.float32))
    check_grads(lambda z: np.abs(z) * z, x + 1j)
    check_grads(np.exp, x, order=3)
    check_grads(np.exp, x, modes=("rev",))


def test_check_finds_an_error_of_second_order():
    bend = Elementwise(
        "wrong bend", np.exp, lambda y, x: np.exp(np.asarray(x.value if hasattr(x, "value") else x))
    )
    with pytest.raises(
        CheckError, match=r"the gradient of f: entry \(1,\) .* is 0, but differences .* give 0\.68"
    ):
        check_grads(lambda x: bend(x), np.array([0.3, 0.5]))


@pytest.mark.parametrize(
    "f",
    [
        np.std,
        np.var,
        np.real,
        lambda x: np.conj(x) * x,
        np.fft.fft,
        np.fft.rfft,
        lambda x: np.sort(x) * x,
        np.vdot,
    ],
)
def test_complex_step_is_not_used_for_functions_that_are_not_analytic(f):
    x = np.array([0.3, -0.2, 0.7])
    check_grads(f, (x, x) if f is np.vdot else x)


def test_check_grad_compares_a_gradient_derived_by_hand():
    A = np.array([[2.0, 1.0], [0.0, 3.0]])
    x = np.array([1.0, 2.0])
    assert check_grad(lambda x: x @ A @ x, lambda x: (A + A.T) @ x, x) < 1e-10
    with pytest.raises(CheckError, match=r"entry \(0,\) of your gradient is 8, .* give 6"):
        check_grad(lambda x: x @ A @ x, lambda x: 2 * A @ x, x)
    with pytest.raises(CheckError, match="shape"):
        check_grad(lambda x: x @ A @ x, lambda x: A, x)
    column = x[:, None]
    assert check_grad(lambda x: x.T @ A @ x, lambda x: (A + A.T) @ x, column) < 1e-10  # the result is 1 x 1
