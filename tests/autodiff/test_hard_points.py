"""Points where rules of linear algebra usually fail: ties, zeros, free bases, extreme scales."""

import numpy as np
import pytest

from eckart.autodiff import (
    eigfun,
    grad,
    hessian,
    jvp,
    low_rank,
    nuclear_norm,
    polar,
    svdfun,
)
from eckart.autodiff import scipy as asp
from eckart.autodiff.errors import TieError

la = np.linalg
R = np.random.default_rng(20)
G, T, W = R.standard_normal((4, 4)), R.standard_normal((4, 4)), R.standard_normal((6, 4))
Q, P, U = la.qr(G)[0], la.qr(T)[0], la.qr(R.standard_normal((6, 6)))[0]
C = R.standard_normal((6, 4)) + 1j * R.standard_normal((6, 4))
H = C.conj().T @ C


def close(a, b, tol):
    """Assert that the error is at most ``tol`` times the largest entry, the scale of rounding errors."""
    assert np.abs(np.asarray(a) - b).max() <= tol * np.abs(b).max()


def hermitian(a):
    return (a + a.T) / 2


# --- values that are equal, exactly or up to rounding ----------------------------------------------------

SPECTRA = {
    "two equal": [3, 3, 1, 0.5],
    "zeros to rounding": [1, 0, 0, 2],
    "all zero": [0, 0, 0, 0],
    "tiny and equal": [1e-9, 1e-9, 2e-9, 3],
    "signs": [1e-8, -1e-8, 0, 3],
    "tiny": [1e-150, 2e-150, 3e-150, 4e-150],
    **{f"gap {gap:g}": [2, 2 - gap, 1, -1] for gap in (1e-3, 1e-4, 1e-5, 1e-7, 1e-9, 1e-12, 1e-14)},
}


@pytest.mark.parametrize("name", SPECTRA)
def test_eigfun_of_exp_equals_expm(name):
    """`eigfun` and the block rule of `expm` share no code; the largest measured difference is 2e-13."""
    A = (Q * np.array(SPECTRA[name], float)) @ Q.T
    f = lambda a: np.sum(G * eigfun(hermitian(a), np.exp, np.exp, np.exp))  # noqa: E731
    g = lambda a: np.sum(G * asp.expm(hermitian(a)))  # noqa: E731
    close(grad(f)(A), grad(g)(A), 1e-11)
    close(hessian(f)(A), hessian(g)(A), 1e-11)


@pytest.mark.parametrize("name", SPECTRA)
def test_svdfun_of_a_cube_equals_the_product(name):
    A = (U[:, :4] * np.abs(np.array(SPECTRA[name], float))) @ P
    f = lambda a: np.sum(W * svdfun(a, lambda s: s**3, lambda s: 3 * s**2, lambda s: 6 * s))  # noqa: E731
    g = lambda a: np.sum(W * (a @ a.T @ a))  # noqa: E731
    if np.any(A) and abs(A).max() > 1e-100:  # cubes of smaller numbers underflow
        close(grad(f)(A), grad(g)(A), 1e-11)
        close(hessian(f)(A), hessian(g)(A), 1e-11)


def test_eigfun_is_accurate_for_eigenvalues_of_very_different_size():
    """For log and sqrt, the distance of two small eigenvalues must not be compared with the largest one."""
    w = np.array([1e-12, 2e-12, 2.00001e-12, 1.0])
    A = np.diag(w)
    t = hermitian(T) * np.sqrt(w) * np.sqrt(w)[:, None]
    for f, df in ((np.log, lambda w: 1 / w), (np.sqrt, lambda w: 0.5 / np.sqrt(w))):
        a, b = w[:, None], w[None, :]
        gap = np.where(a == b, 1, a - b)
        low, high = np.minimum(a, b), np.maximum(a, b)
        exact = np.where(
            a == b, df(a), np.log1p((high - low) / low) / abs(gap) if f is np.log else 1 / (f(a) + f(b))
        )
        np.testing.assert_allclose(
            jvp(lambda x, f=f, df=df: eigfun(x, f, df), (A,), (t,))[1], exact * t, rtol=1e-9
        )


def test_low_rank_with_equal_kept_values_and_dropped_zeros():
    A = (U[:, :2] * 3.0) @ P[:2]  # rank 2, values 3, 3, 0, 0
    t = R.standard_normal((6, 4))
    inside = U[:, :2] @ U[:, :2].T
    outside = np.eye(4) - P[:2].T @ P[:2]
    want = t - (np.eye(6) - inside) @ t @ outside  # the projection onto the tangent space
    close(jvp(lambda a: low_rank(a, 2), (A,), (t,))[1], want, 1e-13)
    close(grad(lambda a: np.sum(t * low_rank(a, 2)))(A), want, 1e-13)


@pytest.mark.parametrize("gap", [1e-12, 1e-13, 1e-14, 0])
def test_jitter_is_accurate_near_ties(gap):
    """At a gap g the plain rule errs by about eps / g; the jitter of 1e-7 errs by about 1e-7."""
    A = (U[:, :4] * np.array([3, 3 - gap, 1, 0.5])) @ P
    got = grad(
        lambda a: (lambda u, s, v: np.sum(W * ((u * s) @ v)))(*asp.svd(a, full_matrices=False, ties="jitter"))
    )(A)
    close(got, W, 1e-6)


def test_jitter_in_float32_exceeds_rounding():
    """The derivative of exp at a tie contains f', so a rule that puts 0 for 1 / gap would be wrong."""
    A = np.diag([2.0, 2.0, 1.0, 0.5]).astype(np.float32)
    exact = grad(lambda a: np.sum(G * eigfun(hermitian(a), np.exp, np.exp)))(A)
    h = lambda a: (lambda w, v: np.sum(G * ((v * np.exp(w)) @ v.T)))(*asp.eigh(hermitian(a), ties="jitter"))  # noqa: E731
    close(grad(h)(A), exact, 1e-2)
    close(jvp(h, (A,), (A,))[1], np.sum(exact * A), 1e-2)


# --- dependence on the choice of basis ----------------------------------------------------------------------

BASIS_DEPENDENT = {
    "phase of eigh": (lambda a: np.sum(np.real(la.eigh(a)[1])), H),
    "phase of svd": (lambda a: np.sum(np.real(la.svd(a, full_matrices=False)[0])), C),
    "phase of V": (lambda a: np.imag(la.svd(a, full_matrices=False)[2][0, 1]), C),
    "phase of eig": (lambda a: np.sum(np.real(la.eig(a)[1])), C[:4]),
    "phase of eig, real matrix": (
        lambda a: np.sum(np.imag(la.eig(a)[1])),
        np.array([[0.0, 1, 2], [-1, 0, 1], [0, 1, 1]]),
    ),
    "extra columns": (lambda a: la.svd(a)[0][0, 5], W),
    "extra rows": (lambda a: la.svd(a)[2][4, 0], W.T),
}


@pytest.mark.parametrize("name", BASIS_DEPENDENT)
def test_function_that_depends_on_the_basis_is_refused_in_reverse(name):
    f, x = BASIS_DEPENDENT[name]
    with pytest.raises(TieError, match="depends on the choice of basis"):
        grad(f)(x)


def test_function_that_does_not_depend_on_the_basis_is_accepted():
    grad(lambda a: np.abs(la.eigh(a)[1][0, 0]))(H)
    grad(lambda a: (lambda u, s, v: np.real(u[0, 0] * v[0, 1]))(*la.svd(a)))(C)
    grad(lambda a: np.real(la.eig(a)[1][0, 0]))(np.diag([1.0, 2.0, 3.0]) + 0.1)  # real vectors have no phase
    project = lambda a: (lambda u: u @ u.T)(la.svd(a)[0][:, 4:])  # noqa: E731
    pinned = lambda a: np.eye(6) - a @ la.pinv(a)  # noqa: E731
    M = R.standard_normal((6, 6))
    close(grad(lambda a: np.sum(M * project(a)))(W), grad(lambda a: np.sum(M * pinned(a)))(W), 1e-12)
    tied = (U[:, :4] * 3.0) @ P  # ties inside the range do not matter for its complement
    close(grad(lambda a: np.sum(M * project(a)))(tied), grad(lambda a: np.sum(M * pinned(a)))(tied), 1e-12)


# --- zeros and defective matrices -------------------------------------------------------------------------


def test_singular_values_and_norms_have_derivative_0_at_0():
    A = W.copy()
    A[:, 3] = A[:, 0] + A[:, 1]  # rank 3
    np.testing.assert_array_equal(grad(lambda a: la.svdvals(a)[3])(A), 0)
    close(grad(lambda a: la.svdvals(a).sum())(A), grad(nuclear_norm)(A), 1e-12)
    for order in (2, -2, "nuc", "fro", 1, -1, np.inf):
        np.testing.assert_array_equal(grad(lambda a, p=order: la.norm(a, p))(np.zeros((3, 2))), 0)
        np.testing.assert_array_equal(
            jvp(lambda a, p=order: la.norm(a, p), (np.zeros((3, 2)),), (W[:3, :2],))[1], 0
        )


@pytest.mark.parametrize("p", [-2, -1, 0, 0.5, 1, 1.5, 2, 3, np.inf, -np.inf])
def test_norms_of_vectors_with_zeros_are_finite_to_second_order(p):
    for x in (np.zeros(3), np.array([0.0, 1.0, 2.0])):
        assert np.isfinite(grad(lambda x: la.norm(x, p))(x)).all()
        assert np.isfinite(hessian(lambda x: la.norm(x, p))(x)).all()
    for x in (np.zeros(3), np.array([0.0, 1.0, 2.0]), np.array([1.0, np.inf])):
        with np.errstate(divide="ignore", invalid="ignore"):  # norms of negative order divide by 0
            assert la.norm(x, p) == pytest.approx(jvp(lambda x: la.norm(x, p), (x,), (x,))[0])


J = la.inv(G) @ (2 * np.eye(4) + np.diag(np.ones(3), 1)) @ G  # defective: one Jordan block

WITHOUT_DERIVATIVE = {
    "qr of dependent columns": (
        lambda a: la.qr(a)[0].sum(),
        np.stack([W[:, 0], W[:, 1], W[:, 0] + W[:, 1]], 1),
    ),
    "qr of a wide matrix that begins with dependent columns": (
        lambda a: la.qr(a)[1].sum(),
        np.array([[1.0, 2, 3], [2, 4, 5]]),
    ),
    "qr of zero": (lambda a: la.qr(a)[1].sum(), np.zeros((3, 2))),
    "slogdet": (lambda a: la.slogdet(a)[1], np.diag([1.0, 0.0])),
    "eig of a defective matrix": (lambda a: np.abs(la.eigvals(a)[0]), J),
    "sqrtm of a singular matrix": (lambda a: asp.sqrtm(a).sum(), np.diag([1.0, 0.0])),
    "logm of a singular matrix": (lambda a: np.real(asp.logm(a).sum()), np.diag([1.0, 0.0])),
    "polar of a singular matrix": (lambda a: polar(a).sum(), np.diag([1.0, 0.0])),
    "polar of zero": (lambda a: polar(a).sum(), np.zeros((3, 2))),
}


@pytest.mark.filterwarnings("ignore:.*singular")  # SciPy warns when it computes the value
@pytest.mark.parametrize("name", WITHOUT_DERIVATIVE)
def test_both_modes_refuse_points_without_a_derivative(name):
    f, x = WITHOUT_DERIVATIVE[name]
    for derive in (lambda: grad(f)(x), lambda: jvp(f, (x,), (R.standard_normal(x.shape),))):
        with pytest.raises(TieError, match=r"so there is no derivative.* at test_hard_points\.py"):
            derive()


def test_pinv_is_differentiable_only_where_the_rank_is_constant():
    X, Y = R.standard_normal((6, 2)), R.standard_normal((2, 4))
    dX, dY = R.standard_normal((6, 2)), R.standard_normal((2, 4))
    right = lambda X, Y: Y.T @ la.inv(Y @ Y.T) @ la.inv(X.T @ X) @ X.T  # noqa: E731
    got = jvp(lambda X, Y: la.pinv(X @ Y), (X, Y), (dX, dY))[1]
    close(got, jvp(right, (X, Y), (dX, dY))[1], 1e-12)
    f = lambda X, Y: np.sum(W.T * la.pinv(X @ Y))  # noqa: E731
    close(grad(f)(X, Y), grad(lambda X, Y: np.sum(W.T * right(X, Y)))(X, Y), 1e-12)
    for g in (la.pinv, lambda a: la.lstsq(a, W[:, 0])[0]):
        with pytest.raises(TieError, match="rank"):
            jvp(g, (X @ Y,), (W,))


def test_matrix_functions_of_defective_matrices():
    """Compare expm with its power series, and sqrtm and logm with the functions they invert."""
    N = np.diag([1.0, 2.0, 3.0], 1)  # nilpotent
    t = R.standard_normal((4, 4))
    series = sum(
        sum(la.matrix_power(N, i) @ t @ la.matrix_power(N, k - 1 - i) for i in range(k))
        / float(np.prod(np.arange(1, k + 1)))
        for k in range(1, 12)
    )
    close(jvp(asp.expm, (N,), (t,))[1], series, 1e-13)
    B = 2 * np.eye(4) + N
    close(jvp(lambda a: asp.sqrtm(a) @ asp.sqrtm(a), (B,), (t,))[1], t, 1e-12)
    close(jvp(lambda a: asp.expm(asp.logm(a)), (B,), (t,))[1], t, 1e-11)


def test_complex_logarithm_of_a_real_matrix():
    """The matrix has a negative eigenvalue, so the imaginary part has a derivative too."""
    A = la.inv(G) @ np.diag([-1.0, 1.0, 2.0, 3.0]) @ G
    for part in (np.real, np.imag):
        f = lambda a, part=part: np.sum(T * part(asp.logm(a)))  # noqa: E731
        along = jvp(f, (A,), (T,))[1]
        assert along == pytest.approx((f(A + 1e-6 * T) - f(A - 1e-6 * T)) / 2e-6, rel=1e-6)
        assert np.sum(grad(f)(A) * T) == pytest.approx(along)


# --- extreme scales -----------------------------------------------------------------------------------------

BIG = 2.0**498  # 8e149; scaling by a power of two is exact
HOMOGENEOUS = {  # f(c x) = c^d f(x), so the gradient at c x is c^(d - 1) times the gradient at x
    "norm": (la.norm, 1, W),
    "norm 2": (lambda a: la.norm(a, 2), 1, W),
    "norm nuc": (lambda a: la.norm(a, "nuc"), 1, W),
    "norm 3": (lambda a: la.norm(a[0], 3), 1, W),
    "norm -1": (lambda a: la.norm(a[0], -1), 1, W),
    "svd": (
        lambda a: (lambda u, s, v: np.sum(W * ((u[:, :2] * s[:2]) @ v[:2])))(*la.svd(a, full_matrices=False)),
        1,
        W[::-1],
    ),
    "low_rank": (lambda a: np.sum(W * low_rank(a, 2)), 1, W[::-1]),
    "polar": (lambda a: np.sum(W * polar(a)), 0, W[::-1]),
    "eigh": (lambda a: np.sum(G * (la.eigh(a)[1][:, :1] * la.eigh(a)[1][:, 0])), 0, hermitian(T)),
    "inv": (lambda a: np.sum(G * la.inv(a)), -1, T),
    "solve": (lambda a: np.sum(la.solve(a, G)), -1, T),
    "slogdet": (lambda a: la.slogdet(a)[1], 0, T),
    "pinv": (lambda a: np.sum(W.T * la.pinv(a)), -1, W[::-1]),
    "lstsq": (lambda a: np.sum(la.lstsq(a, W)[0]), -1, W[::-1]),
    "qr": (lambda a: np.sum(W * la.qr(a)[0]), 0, W[::-1]),
    "cholesky": (lambda a: np.sum(G * la.cholesky(a)), 0.5, T @ T.T),
    "sqrtm": (lambda a: np.sum(G * asp.sqrtm(a)), 0.5, T @ T.T + np.eye(4)),
    "eigvals": (lambda a: np.sum(np.abs(la.eigvals(a))), 1, T),
    "arctan2": (lambda a: np.sum(np.arctan2(a[0], a[1]) * [1, 2, 3, 4]), 0, W),
    "hypot": (lambda a: np.sum(np.hypot(a[0], a[1]) * [1, 2, 3, 4]), 1, W),
    "divide": (lambda a: np.sum(a[0] / a[1] * [1, 2, 3, 4]), 0, W),
}


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("c", [1 / BIG, 2.0**-300, 2.0**300, BIG])
def test_derivatives_scale_with_the_argument(name, c):
    f, degree, x = HOMOGENEOUS[name]
    if name in ("pinv", "lstsq", "inv", "solve"):
        c = c**0.5  # the gradient has a factor c^-2, which must not overflow
    close(grad(f)(c * x), grad(f)(x) * c ** (degree - 1), 1e-10)
    if 0 < abs(np.log2(c) * (degree - 2)) < 650:
        t = (
            hermitian(R.standard_normal((4, 4)))
            if name in ("eigh", "cholesky", "sqrtm")
            else R.standard_normal(x.shape)
        )
        second = lambda x: jvp(lambda x: jvp(f, (x,), (t,))[1], (x,), (t,))[1]  # noqa: E731
        assert second(c * x) == pytest.approx(second(x) * c ** (degree - 2), rel=1e-8)


@pytest.mark.filterwarnings("ignore:logm result may be inaccurate")  # its error is 1e-13
@pytest.mark.parametrize("fun", [asp.expm, asp.logm, asp.sqrtm, asp.cosm])
def test_matrix_functions_are_accurate_for_any_weight_of_the_loss(fun):
    """In the block [[A, T], [0, A]] a large T must not drown A in rounding errors.

    In reverse over reverse mode, T is a cotangent and contains the weight.
    """
    A = T @ T.T + np.eye(4)

    def twice(weight):
        f = lambda a: np.sum(weight * G * fun(a))  # noqa: E731
        return grad(lambda a: np.sum(T * grad(f)(a)))(A)

    for weight in (1e8, 1e-8, 1e100):
        close(twice(weight) / weight, twice(1.0), 1e-11)
