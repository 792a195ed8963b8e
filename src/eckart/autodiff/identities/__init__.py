"""Formulas of matrix calculus, each with its gradient as a function, and verified by differentiation.

The numbering of the first fifteen follows the course notes they come from; the others are from K. B. Petersen &
M. S. Pedersen, "The Matrix Cookbook" (2012), and section 4 of the literature on spectral functions. The gradient
of f(X) is the array of df/dX_ij. Over symmetric matrices it is (G + G^T) / 2 for the G of the unrestricted formula
(Srinivasan & Panda, arXiv:1911.06491); the often quoted G + G^T - diag(G) is not a gradient.

Run ``python -m eckart.autodiff.identities`` to verify the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..api import grad
from ..checks import differences
from ..jacobians import jacobian
from ..rules.spectral_functions import nuclear_norm
from ..scipy import expm, logsumexp, softmax, sqrtm

BOUND = 1e-7  # on the errors that `verify` states


class Identity(NamedTuple):
    """A formula: its name, LaTeX, conditions, the function, its gradient in closed form, and an example.

    ``gradient`` takes what ``f`` takes: the variable first, then the constants of ``constants``.
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
    """The largest relative errors of the closed form: against automatic differentiation and differences."""

    identity: Identity
    autodiff: float
    differences: float


def symmetric(G: Any) -> Any:
    """Return the gradient over symmetric matrices from the unrestricted one: (G + G^T) / 2.

    Examples
    --------
    >>> symmetric(np.array([[1.0, 2.0], [0.0, 3.0]]))
    array([[1., 1.],
           [1., 3.]])
    """
    return (G + G.T) / 2


inv, tr = np.linalg.inv, np.trace


def logdet(A: Any) -> Any:
    return np.linalg.slogdet(A)[1]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def pinv_gradient(X: Any, M: Any) -> Any:
    """Golub & Pereyra (1973): the gradient of tr(M^T X^+)."""
    P = np.linalg.pinv(X)
    m, n = X.shape
    first = -P.T @ M @ P.T
    second = (np.eye(m) - X @ P) @ M.T @ P @ P.T
    third = P.T @ P @ M.T @ (np.eye(n) - P @ X)
    return first + second + third


def sqrtm_gradient(X: Any, A: Any) -> Any:
    """Return the G with S G + G S = A^T for S the square root of X: a Sylvester equation."""
    w, V = np.linalg.eigh(X)
    s = np.sqrt(w)
    return V @ ((V.T @ A.T @ V) / (s[:, None] + s[None, :])) @ V.T


def identities() -> list[Identity]:
    """Return the table of formulas.

    Returns
    -------
    list of Identity

    Examples
    --------
    >>> row = identities()[3]
    >>> row.name, row.latex
    ('trace of a product', '\\\\partial \\\\operatorname{tr}(AX) = A^\\\\top')
    >>> np.allclose(row.gradient(row.x, *row.constants), grad(row.f)(row.x, *row.constants))
    True
    """
    rng = np.random.default_rng(20)
    a, b, x = rng.standard_normal((3, 4))
    A, B, C, X = rng.standard_normal((4, 4, 4))
    X = X + 4 * np.eye(4)  # well conditioned
    S, D = (A + A.T) / 2, X @ X.T
    Y, T, K = rng.standard_normal((5, 3)), rng.standard_normal((3, 5)), rng.standard_normal((2, 2))
    rows: list[tuple[str, str, str, Any, Any, Any, tuple[Any, ...]]] = [
        ("linear form", r"a^\top x = a", "", lambda x, a: a @ x, lambda x, a: a, x, (a,)),
        ("quadratic form", r"x^\top A x = (A + A^\top) x", "", lambda x, A: x @ A @ x, lambda x, A: (A + A.T) @ x, x, (A,)),
        ("symmetric quadratic form", r"x^\top A x = 2 A x", "A symmetric", lambda x, A: x @ A @ x, lambda x, A: 2 * A @ x, x, (S,)),
        ("trace of a product", r"\operatorname{tr}(AX) = A^\top", "", lambda X, A: tr(A @ X), lambda X, A: A.T, X, (A,)),
        ("inner product", r"\operatorname{tr}(X^\top A) = A", "", lambda X, A: tr(X.T @ A), lambda X, A: A, X, (A,)),
        ("trace of three", r"\operatorname{tr}(AXB) = A^\top B^\top", "", lambda X, A, B: tr(A @ X @ B), lambda X, A, B: A.T @ B.T, Y, (rng.standard_normal((2, 5)), rng.standard_normal((3, 2)))),
        ("trace of a quadratic", r"\operatorname{tr}(X^\top A X) = (A + A^\top) X", "", lambda X, A: tr(X.T @ A @ X), lambda X, A: (A + A.T) @ X, Y[:4], (A,)),
        ("squared Frobenius norm", r"\|X\|_F^2 = 2X", "", lambda X: np.linalg.norm(X) ** 2, lambda X: 2 * X, Y, ()),
        ("log determinant", r"\ln\det X = X^{-\top}", "det X > 0", logdet, lambda X: inv(X).T, X, ()),
        ("determinant", r"\det X = \det(X) X^{-\top}", "X regular", np.linalg.det, lambda X: np.linalg.det(X) * inv(X).T, X, ()),
        ("squared norm", r"\|x\|^2 = 2x", "", lambda x: x @ x, lambda x: 2 * x, x, ()),
        ("least squares", r"\|Ax - b\|^2 = 2 A^\top (Ax - b)", "", lambda x, A, b: (A @ x - b) @ (A @ x - b), lambda x, A, b: 2 * A.T @ (A @ x - b), x, (A, b)),
        ("trace of an inverse", r"\operatorname{tr}(X^{-1} B) = -(X^{-1} B X^{-1})^\top", "X regular", lambda X, B: tr(inv(X) @ B), lambda X, B: -(inv(X) @ B @ inv(X)).T, X, (B,)),
        ("sigmoid", r"\sigma(x) = \sigma(x) \odot (1 - \sigma(x))", "elementwise: the diagonal of the Jacobian", sigmoid, lambda x: np.diag(sigmoid(x) * (1 - sigmoid(x))), x, ()),
        ("softmax", r"s_i = s_i (\delta_{ij} - s_j)", "the Jacobian", softmax, lambda x: np.diag(softmax(x)) - np.outer(softmax(x), softmax(x)), x, ()),
        ("bilinear form", r"a^\top X b = a b^\top", "", lambda X, a, b: a @ X @ b, lambda X, a, b: np.outer(a, b), X, (a, b)),
        ("trace of AXBX", r"\operatorname{tr}(AXBX) = A^\top X^\top B^\top + B^\top X^\top A^\top", "", lambda X, A, B: tr(A @ X @ B @ X), lambda X, A, B: A.T @ X.T @ B.T + B.T @ X.T @ A.T, X, (A, B)),
        ("trace of AXBX'C", r"\operatorname{tr}(AXBX^\top C) = A^\top C^\top X B^\top + C A X B", "", lambda X, A, B, C: tr(A @ X @ B @ X.T @ C), lambda X, A, B, C: A.T @ C.T @ X @ B.T + C @ A @ X @ B, X, (A, B, C)),
        ("trace of a cube", r"\operatorname{tr}(X^3) = 3 (X^2)^\top", "", lambda X: tr(np.linalg.matrix_power(X, 3)), lambda X: 3 * (X @ X).T, X, ()),
        ("matrix least squares", r"\|AX - B\|_F^2 = 2 A^\top (AX - B)", "", lambda X, A, B: np.sum((A @ X - B) ** 2), lambda X, A, B: 2 * A.T @ (A @ X - B), X, (A, B)),
        ("Frobenius norm", r"\|X\|_F = X / \|X\|_F", "X not 0", np.linalg.norm, lambda X: X / np.linalg.norm(X), Y, ()),
        ("determinant of a product", r"\det(AXB) = \det(AXB) X^{-\top}", "X regular", lambda X, A, B: np.linalg.det(A @ X @ B), lambda X, A, B: np.linalg.det(A @ X @ B) * inv(X).T, X, (A, B)),
        ("determinant of a quadratic", r"\det(X^\top A X) = \det(X^\top A X)(AX(X^\top AX)^{-1} + A^\top X(X^\top A^\top X)^{-1})", "X'AX regular", lambda X, A: np.linalg.det(X.T @ A @ X), lambda X, A: np.linalg.det(X.T @ A @ X) * (A @ X @ inv(X.T @ A @ X) + A.T @ X @ inv(X.T @ A.T @ X)), Y[:4], (A,)),
        ("log determinant of a Gram matrix", r"\ln\det(XX^\top) = 2 (X^+)^\top", "X of full row rank", lambda X: logdet(X @ X.T), lambda X: 2 * np.linalg.pinv(X).T, T, ()),
        ("inverse in a bilinear form", r"a^\top X^{-1} b = -X^{-\top} a b^\top X^{-\top}", "X regular", lambda X, a, b: a @ inv(X) @ b, lambda X, a, b: -inv(X).T @ np.outer(a, b) @ inv(X).T, X, (a, b)),
        ("trace with an inverse", r"\operatorname{tr}(A X^{-1} B) = -(X^{-1} B A X^{-1})^\top", "X regular", lambda X, A, B: tr(A @ inv(X) @ B), lambda X, A, B: -(inv(X) @ B @ A @ inv(X)).T, X, (A, B)),
        ("trace of a resolvent", r"\operatorname{tr}((X + A)^{-1}) = -((X + A)^{-2})^\top", "X + A regular", lambda X, A: tr(inv(X + A)), lambda X, A: -(inv(X + A) @ inv(X + A)).T, X, (A,)),
        ("log sum exp", r"\ln\sum_{ij} e^{X_{ij}} = \operatorname{softmax}(X)", "", logsumexp, softmax, Y, ()),
        ("weighted squares", r"\operatorname{tr}(A (X \odot X)) = 2 A^\top \odot X", "", lambda X, A: tr(A @ (X * X)), lambda X, A: 2 * A.T * X, X, (A,)),
        ("Kronecker product", r"\langle A \otimes B, X \otimes C \rangle = A \langle B, C \rangle", "", lambda X, A, B, C: np.sum(np.kron(A, B) * np.kron(X, C)), lambda X, A, B, C: A * np.sum(B * C), X, (A, K, K.T)),
        ("nuclear norm", r"\|X\|_* = U V^\top", "X of full rank", nuclear_norm, lambda X: np.matmul(*np.linalg.svd(X, full_matrices=False)[::2]), Y, ()),
        ("spectral norm", r"\|X\|_2 = u_1 v_1^\top", "sigma_1 simple", lambda X: np.linalg.norm(X, 2), lambda X: np.outer(np.linalg.svd(X)[0][:, 0], np.linalg.svd(X)[2][0]), Y, ()),
        ("trace of the exponential", r"\operatorname{tr} e^X = (e^X)^\top", "", lambda X: tr(expm(X)), lambda X: expm(X).T, X / 4, ()),
        ("pseudo-inverse", r"\operatorname{tr}(M^\top X^+) = -X^{+\top} M X^{+\top} + (I - XX^+) M^\top X^+ X^{+\top} + X^{+\top} X^+ M^\top (I - X^+X)", "X of constant rank", lambda X, M: tr(M.T @ np.linalg.pinv(X)), pinv_gradient, Y, (T,)),
        ("square root", r"\operatorname{tr}(A X^{1/2}) = G,\ X^{1/2} G + G X^{1/2} = A^\top", "X positive definite", lambda X, A: tr(A @ sqrtm(X)), sqrtm_gradient, D, (A,)),
        ("eigenvalue", r"\lambda_i(X) = q_i q_i^\top", "X symmetric, lambda_i simple", lambda X: np.linalg.eigvalsh((X + X.T) / 2)[1], lambda X: np.outer(*[np.linalg.eigh(X)[1][:, 1]] * 2), S, ()),
        ("log determinant, symmetric", r"\ln\det X = X^{-1}", "over symmetric X: (G + G')/2", lambda X: logdet((X + X.T) / 2), lambda X: symmetric(inv(X).T), D, ()),
    ]  # fmt: skip
    return [Identity(i + 1, n, rf"\partial {t}", *rest) for i, (n, t, *rest) in enumerate(rows)]


def verify(row: Identity) -> Verified:
    """Compare a closed form with automatic differentiation and with differences, entry by entry."""
    closed = np.asarray(row.gradient(row.x, *row.constants))
    scalar = np.ndim(row.f(row.x, *row.constants)) == 0
    found = (grad if scalar else jacobian)(row.f)(row.x, *row.constants)
    columns = []
    for at in np.ndindex(row.x.shape):
        unit = np.zeros_like(row.x)
        unit[at] = 1
        columns.append(differences(lambda x: row.f(x, *row.constants), [row.x], [unit]).value)
    by_steps = np.moveaxis(np.stack(columns), 0, -1).reshape(closed.shape)
    scale = np.abs(closed).max()
    return Verified(
        row, float(np.abs(closed - found).max() / scale), float(np.abs(closed - by_steps).max() / scale)
    )
