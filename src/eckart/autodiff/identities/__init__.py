"""Formulas of matrix calculus, each with its gradient as a function and verified by differentiation.

The first fifteen are numbered as in the course notes they come from. The others are from K. B. Petersen &
M. S. Pedersen, "The Matrix Cookbook" (2012), and from the literature on spectral functions. The gradient of
f(X) is the array of df/dX_ij. Over symmetric matrices it is (G + G^T) / 2, where G is the unrestricted
gradient (Srinivasan & Panda, arXiv:1911.06491); the often quoted G + G^T - diag(G) is not a gradient.

Run ``python -m eckart.autodiff.identities`` to verify the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import diag, outer
from numpy import trace as tr
from numpy.linalg import det, eigh, inv, norm, pinv, slogdet, svd
from scipy.linalg import solve_sylvester
from scipy.special import expit

from ..inspection.checks import differences
from ..jacobians import basis, jacobian
from ..linalg.spectral_functions import nuclear_norm
from ..scipy import expm, logsumexp, softmax, sqrtm

ROUNDING, BOUND = 1e-12, 1e-8  # upper bounds of the two errors of `Verified`


class Identity(NamedTuple):
    """A formula of matrix calculus.

    ``f`` and ``gradient`` have the same arguments: the variable, for which ``x`` is an example, and then
    ``constants``. ``latex`` is the formula, and ``conditions`` says where it holds.
    """

    number: int
    name: str
    latex: str
    conditions: str
    f: Callable[..., Any]
    gradient: Callable[..., Any]
    x: np.ndarray
    constants: tuple[np.ndarray, ...]


class Verified(NamedTuple):
    """The largest errors of a closed form, compared with automatic differentiation and with differences.

    Errors are relative to the largest entry of the closed form. ``autodiff`` is rounding, a few n eps times
    the condition number of X; ``differences`` is the error of the differences, about eps^(4/5).
    """

    identity: Identity
    autodiff: float
    differences: float

    @property
    def holds(self) -> bool:
        """Whether both errors are within their bounds."""
        return self.autodiff <= ROUNDING and self.differences <= BOUND  # not for NaN


def verify(row: Identity) -> Verified:
    """Compare a closed form with automatic differentiation and with differences, entry by entry."""
    closed = np.asarray(row.gradient(row.x, *row.constants))
    columns = [differences(lambda x: row.f(x, *row.constants), [row.x], [t]).value for t in basis(row.x)]
    by_steps = np.stack(columns, axis=-1).reshape(closed.shape)
    others = (jacobian(row.f)(row.x, *row.constants), by_steps)
    return Verified(row, *[float(np.abs(closed - other).max() / np.abs(closed).max()) for other in others])


def symmetric(G: Any) -> Any:
    """Return the gradient over symmetric matrices from the unrestricted one.

    Examples
    --------
    >>> symmetric(np.array([[1.0, 2.0], [0.0, 3.0]]))
    array([[1., 1.],
           [1., 3.]])
    """
    return (G + G.T) / 2


def logdet(A: Any) -> Any:
    """Return ln det A."""
    return slogdet(A)[1]


def pinv_gradient(X: Any, M: Any) -> Any:
    """Return the gradient of tr(M^T X^+) (Golub & Pereyra, 1973)."""
    P = pinv(X)
    first, second = -P.T @ M @ P.T, (np.eye(len(X)) - X @ P) @ M.T @ P @ P.T
    return first + second + P.T @ P @ M.T @ (np.eye(len(P)) - P @ X)


def identities() -> list[Identity]:
    """Return the table of formulas of matrix calculus.

    Returns
    -------
    list of Identity
        38 formulas. Each has the fields ``number``, ``name``, ``latex``, ``conditions``, ``f``, ``gradient``,
        ``x`` (an example of the variable, float64) and ``constants`` (the other arguments of ``f`` and
        ``gradient``).

    Notes
    -----
    The examples are random matrices from a fixed seed, so the table is the same in every call.
    ``python -m eckart.autodiff.identities`` verifies each formula and prints its errors.

    Examples
    --------
    >>> row = identities()[3]
    >>> row.name, row.latex
    ('trace of a product', '\\\\partial_X \\\\operatorname{tr}(AX) = A^\\\\top')
    >>> from eckart.autodiff import grad
    >>> np.allclose(row.gradient(row.x, *row.constants), grad(row.f)(row.x, *row.constants))
    True
    """
    rng = np.random.default_rng(20)
    a, b, v = rng.standard_normal((3, 4))
    A, B, C, X = rng.standard_normal((4, 4, 4))
    X = X + 4 * np.eye(4)  # well conditioned
    S, D, Z = (A + A.T) / 2, X @ X.T, X / 4
    tall, wide, K = rng.standard_normal((5, 3)), rng.standard_normal((3, 5)), rng.standard_normal((2, 2))
    square, left, right = tall[:4], rng.standard_normal((2, 5)), rng.standard_normal((3, 2))
    rows: list[Identity] = []

    def row(
        name: str, f_tex: str, g_tex: str, f: Any, g: Any, x: Any, *constants: Any, given: str = ""
    ) -> None:
        latex = rf"\partial_{'x' if x.ndim == 1 else 'X'} {f_tex} = {g_tex}"
        rows.append(Identity(len(rows) + 1, name, latex, given, f, g, x, constants))

    # The formatter is off so that the formulas read as a table.
    # fmt: off
    row("linear form", r"a^\top x", "a", lambda x, a: a @ x, lambda x, a: a, v, a)
    row("quadratic form", r"x^\top A x", r"(A + A^\top) x", lambda x, A: x @ A @ x,
        lambda x, A: (A + A.T) @ x, v, A)
    row("symmetric quadratic form", r"x^\top A x", "2 A x",
        lambda x, A: x @ A @ x, lambda x, A: 2 * A @ x, v, S, given="A symmetric")
    row("trace of a product", r"\operatorname{tr}(AX)", r"A^\top", lambda X, A: tr(A @ X), lambda X, A: A.T,
        X, A)
    row("inner product", r"\operatorname{tr}(X^\top A)", "A", lambda X, A: tr(X.T @ A), lambda X, A: A, X, A)
    row("trace of three", r"\operatorname{tr}(AXB)", r"A^\top B^\top",
        lambda X, A, B: tr(A @ X @ B), lambda X, A, B: A.T @ B.T, tall, left, right)
    row("trace of a quadratic", r"\operatorname{tr}(X^\top A X)", r"(A + A^\top) X",
        lambda X, A: tr(X.T @ A @ X), lambda X, A: (A + A.T) @ X, square, A)
    row("squared Frobenius norm", r"\|X\|_F^2", "2 X", lambda X: norm(X) ** 2, lambda X: 2 * X, tall)
    row("log determinant", r"\ln\det X", r"X^{-\top}", logdet, lambda X: inv(X).T, X, given="det X > 0")
    row("determinant", r"\det X", r"\det(X) X^{-\top}", det, lambda X: det(X) * inv(X).T, X,
        given="X regular")
    row("squared norm", r"\|x\|^2", "2 x", lambda x: x @ x, lambda x: 2 * x, v)
    row("least squares", r"\|A x - b\|^2", r"2 A^\top (A x - b)",
        lambda x, A, b: (A @ x - b) @ (A @ x - b), lambda x, A, b: 2 * A.T @ (A @ x - b), v, A, b)
    row("trace of an inverse", r"\operatorname{tr}(X^{-1} B)", r"-(X^{-1} B X^{-1})^\top",
        lambda X, B: tr(inv(X) @ B), lambda X, B: -(inv(X) @ B @ inv(X)).T, X, B, given="X regular")
    row("sigmoid", r"\sigma", r"\operatorname{diag}(\sigma \odot (1 - \sigma))",
        lambda x: 1 / (1 + np.exp(-x)), lambda x: diag(expit(x) * (1 - expit(x))), v,
        given="elementwise; the Jacobian")
    row("softmax", "s_i", r"s_i (\delta_{ij} - s_j)",
        softmax, lambda x: diag(softmax(x)) - outer(softmax(x), softmax(x)), v, given="the Jacobian")
    row("bilinear form", r"a^\top X b", r"a b^\top", lambda X, a, b: a @ X @ b, lambda X, a, b: outer(a, b),
        X, a, b)
    row("trace of AXBX", r"\operatorname{tr}(AXBX)", r"A^\top X^\top B^\top + B^\top X^\top A^\top",
        lambda X, A, B: tr(A @ X @ B @ X), lambda X, A, B: A.T @ X.T @ B.T + B.T @ X.T @ A.T, X, A, B)
    row("trace of AXBX'C", r"\operatorname{tr}(AXBX^\top C)", r"A^\top C^\top X B^\top + C A X B",
        lambda X, A, B, C: tr(A @ X @ B @ X.T @ C), lambda X, A, B, C: A.T @ C.T @ X @ B.T + C @ A @ X @ B,
        X, A, B, C)
    row("trace of a cube", r"\operatorname{tr}(X^3)", r"3 (X^2)^\top",
        lambda X: tr(np.linalg.matrix_power(X, 3)), lambda X: 3 * (X @ X).T, X)
    row("matrix least squares", r"\|A X - B\|_F^2", r"2 A^\top (A X - B)",
        lambda X, A, B: np.sum((A @ X - B) ** 2), lambda X, A, B: 2 * A.T @ (A @ X - B), X, A, B)
    row("Frobenius norm", r"\|X\|_F", r"X / \|X\|_F", norm, lambda X: X / norm(X), tall, given="X not 0")
    row("determinant of a product", r"\det(AXB)", r"\det(AXB) X^{-\top}",
        lambda X, A, B: det(A @ X @ B), lambda X, A, B: det(A @ X @ B) * inv(X).T, X, A, B, given="X regular")
    row("determinant of a quadratic", r"\det(X^\top A X)",
        r"\det(X^\top A X) (A X (X^\top A X)^{-1} + A^\top X (X^\top A^\top X)^{-1})",
        lambda X, A: det(X.T @ A @ X),
        lambda X, A: det(X.T @ A @ X) * (A @ X @ inv(X.T @ A @ X) + A.T @ X @ inv(X.T @ A.T @ X)), square, A,
        given="X'AX regular")
    row("log determinant of a Gram matrix", r"\ln\det(XX^\top)", r"2 (X^+)^\top",
        lambda X: logdet(X @ X.T), lambda X: 2 * pinv(X).T, wide, given="X of full row rank")
    row("inverse in a bilinear form", r"a^\top X^{-1} b", r"-X^{-\top} a b^\top X^{-\top}",
        lambda X, a, b: a @ inv(X) @ b, lambda X, a, b: -inv(X).T @ outer(a, b) @ inv(X).T, X, a, b,
        given="X regular")
    row("trace with an inverse", r"\operatorname{tr}(A X^{-1} B)", r"-(X^{-1} B A X^{-1})^\top",
        lambda X, A, B: tr(A @ inv(X) @ B), lambda X, A, B: -(inv(X) @ B @ A @ inv(X)).T, X, A, B,
        given="X regular")
    row("trace of a resolvent", r"\operatorname{tr}((X + A)^{-1})", r"-((X + A)^{-2})^\top",
        lambda X, A: tr(inv(X + A)), lambda X, A: -(inv(X + A) @ inv(X + A)).T, X, A, given="X + A regular")
    row("log sum exp", r"\ln\sum_{ij} e^{X_{ij}}", r"\operatorname{softmax}(X)", logsumexp, softmax, tall)
    row("weighted squares", r"\operatorname{tr}(A (X \odot X))", r"2 A^\top \odot X",
        lambda X, A: tr(A @ (X * X)), lambda X, A: 2 * A.T * X, X, A)
    row("Kronecker product", r"\langle A \otimes B, X \otimes C \rangle", r"A \langle B, C \rangle",
        lambda X, A, B, C: np.sum(np.kron(A, B) * np.kron(X, C)), lambda X, A, B, C: A * np.sum(B * C),
        X, A, K, K.T)
    row("nuclear norm", r"\|X\|_*", r"U V^\top", nuclear_norm,
        lambda X: np.matmul(*svd(X, full_matrices=False)[::2]), tall, given="X of full rank")
    row("spectral norm", r"\|X\|_2", r"u_1 v_1^\top", lambda X: norm(X, 2),
        lambda X: outer(svd(X)[0][:, 0], svd(X)[2][0]), tall, given="sigma_1 simple")
    row("trace of the exponential", r"\operatorname{tr}(e^X)", r"(e^X)^\top", lambda X: tr(expm(X)),
        lambda X: expm(X).T, Z)
    full = (r"\operatorname{tr}(M^\top X^+)", r"-X^{+\top} M X^{+\top} + (I - X X^+) M^\top X^+ X^{+\top} "
            r"+ X^{+\top} X^+ M^\top (I - X^+ X)", lambda X, M: tr(M.T @ pinv(X)), pinv_gradient)
    row("pseudo-inverse", *full, tall, wide, given="X of constant rank")
    row("square root", r"\operatorname{tr}(A X^{1/2})", r"G \text{ with } X^{1/2} G + G X^{1/2} = A^\top",
        lambda X, A: tr(A @ sqrtm(X)), lambda X, A: solve_sylvester(sqrtm(X), sqrtm(X), A.T), D, A,
        given="X positive definite")
    row("eigenvalue", r"\lambda_i(X)", r"q_i q_i^\top", lambda X: np.linalg.eigvalsh(symmetric(X))[1],
        lambda X: outer(eigh(X)[1][:, 1], eigh(X)[1][:, 1]), S, given="X symmetric, lambda_i simple")
    row("log determinant, symmetric", r"\ln\det X", "X^{-1}", lambda X: logdet(symmetric(X)),
        lambda X: symmetric(inv(X).T), D, given="over symmetric X: (G + G')/2")
    row("pseudo-inverse of a wide matrix", *full, wide, tall, given="X of constant rank")
    # fmt: on
    return rows
