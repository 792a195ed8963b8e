"""Error messages: they show the call, the user's line and a fix."""

import math

import numpy as np
import pytest
import scipy

from eckart.autodiff import grad, jacobian, jvp, low_rank, polar, vjp, vmap
from eckart.autodiff.core import Primitive
from eckart.autodiff.errors import (
    ArgumentError,
    AutodiffError,
    CheckError,
    MissingRuleError,
    TieError,
    TracerError,
)
from eckart.autodiff.scipy import eigh, svd

X = np.array([1.0, 2.0])


def assigns(x):
    y = np.zeros(2)
    y[0] = x[0]
    return y.sum()


def assigns_slice(x):
    y = np.zeros(2)
    y[:] = x
    return y.sum()


def assigns_into(x):
    x[0] = 1.0
    return x.sum()


def adds_into(x):
    y = np.zeros(2)
    y += x
    return y.sum()


LEAKS = {
    "float": (lambda x: float(x[0]), "^`float`.*drop the derivative"),
    "int": (lambda x: int(x[0]), "drop the derivative"),
    "item": (lambda x: x[0].item(), "drop the derivative"),
    "tolist": (lambda x: x.tolist(), "drop the derivative"),
    "asarray": (lambda x: np.asarray(x).sum(), "^`np.asarray`.*drop the derivative"),
    "index": (lambda x: [1, 2][x[0]], "to index, use plain integers"),
    "math": (
        lambda x: math.sin(x[0]),
        "^`float`: the math module does not accept traced arrays.*Use the NumPy function, such as np.exp",
    ),
    "array": (lambda x: np.array([x[0], x[1]]).sum(), "np.stack"),
    "scipy.linalg": (lambda x: scipy.linalg.expm(x[None] * x[:, None]).sum(), "eckart.autodiff.scipy"),
    "scipy.special": (lambda x: scipy.special.softmax(x)[0], "eckart.autodiff.scipy"),
    "scipy.fft": (lambda x: abs(scipy.fft.fft(x)[0]), "np.fft"),
    "assign": (assigns, "np.where, np.stack"),
    "assign slice": (assigns_slice, "np.where, np.stack"),
    "assign into": (assigns_into, "np.where, np.stack"),
    "add into": (adds_into, "y = y [+] x"),
    "out": (lambda x: np.sin(x, out=np.zeros(2)).sum(), "y = y [+] x"),
    "out of a function": (lambda x: np.sum(x, out=np.zeros(())), "Remove out="),
    "length": (lambda x: len(x[0]), "no length"),
    "iterate": (lambda x: [y for y in x[0]], "cannot be iterated"),
    "order": (lambda x: np.reshape(x, (2, 1), order="F").sum(), r"np\.reshape\(x\.T"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_error_for_a_leaking_tracer_shows_the_line_and_a_fix(name):
    f, message = LEAKS[name]
    with pytest.raises(TracerError, match=message) as error:
        grad(f)(X)
    assert "test_messages.py:" in str(error.value)
    assert isinstance(error.value, TypeError) and isinstance(error.value, AutodiffError)


MISSING = {
    "nanmedian": (lambda x: np.nanmedian(x), "np.isnan"),
    "no alternative": (lambda x: np.trim_zeros(x), "docs/autodiff.md"),
    "ufunc": (lambda x: np.nextafter(x, 0.0), "`np.nextafter`.*docs/autodiff.md"),
    "ufunc of scipy": (lambda x: scipy.special.ellipk(x / 9), "`scipy.special.ellipk`.*docs/autodiff.md"),
    "option": (lambda x: np.add(x, x, where=np.array([True, False])), "np.where"),
    "outer": (lambda x: np.add.outer(x, x), "np.where or astype"),
    "qr": (lambda x: np.linalg.qr(np.stack([x, x, x]), mode="complete")[0].sum(), "reduced"),
}


@pytest.mark.parametrize("name", MISSING)
def test_error_for_a_missing_rule_shows_the_line_and_a_fix(name):
    f, message = MISSING[name]
    with pytest.raises(MissingRuleError, match=message) as error:
        grad(lambda x: np.sum(f(x)))(X)
    assert "test_messages.py:" in str(error.value)


def test_primitive_without_a_rule_is_refused():
    bare = Primitive("bare", lambda x: x)
    for derive in (lambda: grad(lambda x: bare(x).sum())(X), lambda: jvp(bare, (X,), (X,))):
        with pytest.raises(MissingRuleError, match=r"`bare`.*shape.*\(2,\)"):
            derive()


def test_rule_that_is_not_linear_in_its_tangent_is_refused():
    for name, square in (("t * t", lambda t: t * t), ("t @ t", lambda t: t @ t), ("sin t", np.sin)):
        bent = Primitive(name, lambda x: x, lambda y, args, ts, square=square: square(ts[0]))
        with pytest.raises(MissingRuleError, match="not linear"):
            grad(lambda x, bent=bent: np.sum(bent(x)))(X)


@pytest.mark.parametrize(
    "x, cast",
    [(np.arange(3), "astype"), (3, r"float\(x\)"), (np.array([True]), "astype"), ("text", "astype")],
)
def test_error_for_integers_shows_the_conversion(x, cast):
    for derive in (lambda: grad(np.sum)(x), lambda: jvp(np.sum, (x,), (x,)), lambda: vjp(np.sum, x)):
        with pytest.raises(ArgumentError, match=cast):
            derive()


def test_invalid_arguments_are_refused():
    with pytest.raises(ArgumentError, match="one real number"):
        grad(lambda x: x * 2)(X)
    with pytest.raises(ArgumentError, match=r"np\.real"):
        grad(lambda x: x[0] * 1j)(X)
    with pytest.raises(ArgumentError, match="Pass one tangent of the same shape for each argument"):
        jvp(np.sin, (X,), (np.ones(3),))
    for x in (X, 2.0):
        with pytest.raises(ArgumentError, match=r"Write jvp\(f, \(x,\), \(t,\)\)"):
            jvp(np.sin, x, x)
    with pytest.raises(
        ArgumentError, match=r"one tangent for each array was expected \(1 in all\), but 2 were given"
    ):
        jvp(np.sin, (X,), (X, X))
    with pytest.raises(ArgumentError, match="Pass one cotangent of the same shape for each result"):
        vjp(np.sin, X)[1](np.ones(3))
    with pytest.raises(ArgumentError, match="mode"):
        jacobian(np.sin, mode="forward")
    with pytest.raises(ArgumentError, match="one array"):
        jacobian(lambda t: t[0])((X, X))
    with pytest.raises(ArgumentError, match="argnums"):
        grad(np.sum, 3)(X)
    with pytest.raises(ArgumentError, match="policy"):
        svd(X[None], ties="lorentz")
    with pytest.raises(TracerError, match=r"np\.where"):
        vmap(lambda x: x if x > 0 else -x)(X)
    with pytest.raises(ArgumentError, match="index"):
        grad(lambda x: np.arange(3.0)[:2][0] + x[x])(X)
    assert issubclass(CheckError, AssertionError)


# --- ties ---------------------------------------------------------------------------------------------

TIED = np.diag([2.0, 2.0, 1.0])
G = np.random.default_rng(0).standard_normal((3, 3))


def test_single_vector_of_a_tie_is_refused():
    for f in (
        lambda a: np.linalg.svd(a)[0][0, 0],
        lambda a: np.linalg.eigh(a)[1][0, 1],
        lambda a: np.linalg.svd(a)[2][1, 2],
    ):
        with pytest.raises(TieError, match=r"values . and . are equal"):
            grad(f)(TIED)
        with pytest.raises(TieError, match=r"values . and . are equal"):
            jvp(f, (TIED,), (G,))
        with pytest.raises(TieError, match=r"values . and . are equal"):
            jacobian(lambda a, f=f: a * f(a), mode="fwd")(TIED)


def test_single_value_of_a_tie_is_refused():
    with pytest.raises(TieError, match="treats them differently"):
        grad(lambda a: np.linalg.norm(a, 2))(TIED)
    with pytest.raises(TieError, match="treats them differently"):
        grad(lambda a: np.linalg.eigvalsh(a)[1])(TIED)
    for f in (np.linalg.svdvals, np.linalg.eigvalsh):
        with pytest.raises(TieError, match=r"values . and . are equal"):
            jvp(lambda a, f=f: f(a)[1], (TIED,), (G,))


def test_forward_mode_accepts_a_tangent_that_does_not_mix_the_vectors_of_a_tie():
    t = np.diag([3.0, -1.0, 5.0])
    for f in (np.linalg.svdvals, np.linalg.eigvalsh):
        np.testing.assert_allclose(np.sort(jvp(f, (TIED,), (t,))[1]), [-1.0, 3.0, 5.0])
    assert np.isfinite(jvp(lambda a: np.linalg.svd(a)[0], (TIED,), (t,))[1]).all()


def test_forward_mode_refuses_only_the_vector_of_a_singular_value_0():
    A = np.diag([3.0, 2.0, 0.0])[:, :2] @ np.diag([1.0, 0.0])  # 3 x 2, values 3 and 0
    with pytest.raises(TieError, match="a singular value is 0, and the function uses its vector"):
        jvp(lambda a: np.linalg.svd(a)[0][:, 1], (A,), (G[:, :2],))
    t = jvp(lambda a: np.linalg.svd(a)[0][:, 0], (A,), (G[:, :2],))[1]
    np.testing.assert_allclose(t, [0, G[1, 0] / 3, G[2, 0] / 3], atol=1e-12)


def test_values_outside_a_tie_are_differentiated():
    assert grad(lambda a: np.linalg.svdvals(a)[2])(TIED)[2, 2] == pytest.approx(1.0)
    want = grad(lambda a: np.linalg.svdvals(a).sum())(TIED)
    np.testing.assert_allclose(want, np.eye(3), atol=1e-12)


def test_truncated_svd_is_differentiated_through_the_full_factors():
    """At rank 1, two singular values are 0 and their vectors are not used, so the gradient exists."""
    A = 3.0 * np.outer(G[:, 0], G[0])

    def truncated(a):
        U, s, Vh = np.linalg.svd(a)
        return np.sum(G * ((U[:, :1] * s[:1]) @ Vh[:1]))

    np.testing.assert_allclose(grad(truncated)(A), grad(lambda a: np.sum(G * low_rank(a, 1)))(A), atol=1e-12)


def test_jitter_is_accurate_for_functions_of_the_space():
    f = lambda a: (lambda U, s, Vh: np.sum(G * ((U * s) @ Vh)))(*svd(a, ties="jitter"))  # noqa: E731
    np.testing.assert_allclose(grad(f)(TIED), G, atol=1e-6)  # f(A) = <G, A>
    h = lambda a: (lambda w, V: np.sum(G * ((V * w) @ V.T)))(*eigh(a, ties="jitter"))  # noqa: E731
    np.testing.assert_allclose(grad(h)(TIED), (G + G.T) / 2, atol=1e-6)


def test_jitter_refuses_functions_that_depend_on_the_basis():
    with pytest.raises(TieError, match="depends on the choice of basis"):
        grad(lambda a: svd(a, ties="jitter")[0][0, 1])(TIED)
    with pytest.raises(TieError, match="depends on the choice of basis"):
        grad(lambda a: eigh(a, ties="jitter")[1][0, 1] ** 2)(TIED)


def test_low_rank_and_polar_refuse_a_cut_through_a_tie():
    with pytest.raises(TieError, match="cut"):
        grad(lambda a: np.sum(G * low_rank(a, 1)))(TIED)
    with pytest.raises(TieError, match="full rank"):
        grad(lambda a: np.sum(polar(a) * G))(np.diag([1.0, 0.0, 0.0]))
    with pytest.raises(ArgumentError, match="negative"):
        low_rank(TIED, -1)


def test_eig_refuses_equal_eigenvalues():
    with pytest.raises(TieError, match="eigenvalues are equal"):
        grad(lambda a: np.abs(np.linalg.eig(a)[0]).sum())(np.eye(2))


def test_third_derivatives_of_det_at_zero():
    """The third derivative of det along G, G, G is 6 det(G), which a gradient by cofactors would miss."""
    det = np.linalg.det
    third = jvp(lambda a: jvp(grad(det), (a,), (G,))[1], (np.zeros((3, 3)),), (G,))[1]
    assert np.sum(third * G) == pytest.approx(6 * det(G))
