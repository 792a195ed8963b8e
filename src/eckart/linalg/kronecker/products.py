"""Kronecker products that are applied and solved without being formed, and a check of their laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array
from eckart.errors import MatrixError, UsageError
from eckart.linalg.stack import (
    Numbers,
    as_numbers,
    as_stack,
    check_square,
    cut_off,
    relative_difference,
    to_dtype,
)


def vec(X: ArrayLike) -> Array:
    """Stack the columns of a matrix. Equivalent to ``X.flatten("F")``.

    Parameters
    ----------
    X : array_like (m, n)
        The matrix.

    Returns
    -------
    ndarray (m n,)
        The first column, then the second, and so on.

    Examples
    --------
    >>> vec([[1, 2], [3, 4]]).tolist()
    [1, 3, 2, 4]
    """
    return np.asarray(X).flatten("F")


def kron_matvec(factors: Sequence[ArrayLike], x: ArrayLike) -> Numbers:
    """Return (A_1 kron A_2 kron ...) x without forming the Kronecker product.

    Equivalent to ``numpy.kron(A_1, A_2) @ x``.

    Parameters
    ----------
    factors : sequence of array_like
        A_i of shape (m_i, n_i), at least one.
    x : array_like (n_1 n_2 ...,) or (n_1 n_2 ..., k)
        One vector, or k of them as columns.

    Returns
    -------
    ndarray (m_1 m_2 ...,) or (m_1 m_2 ..., k)
        In the common dtype of the factors and x, at least float32.

    Raises
    ------
    MatrixError
        If a factor is not a matrix, the length of x does not fit, an input holds a NaN or an infinity, or
        the result is out of the dtype's range.
    UsageError
        If there is no factor.

    Notes
    -----
    Applies vec(A X B) = (B^T kron A) vec(X) to one factor after another: two n x n factors take 4 n^3 flops
    and n^2 numbers instead of 2 n^4 and n^4.

    References
    ----------
    Van Loan (2000), The ubiquitous Kronecker product, J. Comput. Appl. Math. 123.

    Examples
    --------
    >>> A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> kron_matvec([A, B], [1.0, 0.0, 0.0, 1.0]).tolist()
    [17.0, 23.0, 39.0, 53.0]
    """
    call = "eckart.linalg.kron_matvec(factors, x)"
    matrices, right, dtype = _checked(factors, x, call, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # `to_dtype` checks the result
        for A in matrices:
            right = _along_first(A, right, A.shape[1], lambda A, X: A @ X)
    return to_dtype(right[:, 0] if np.ndim(x) == 1 else right, dtype, call)


def kron_solve(factors: Sequence[ArrayLike], y: ArrayLike) -> Numbers:
    """Solve (A_1 kron A_2 kron ...) x = y without forming the Kronecker product.

    Equivalent to ``numpy.linalg.solve(numpy.kron(A_1, A_2), y)``.

    Parameters
    ----------
    factors : sequence of array_like
        A_i of shape (n_i, n_i), at least one, none of them singular.
    y : array_like (n_1 n_2 ...,) or (n_1 n_2 ..., k)
        One right-hand side, or k of them as columns.

    Returns
    -------
    ndarray (n_1 n_2 ...,) or (n_1 n_2 ..., k)
        In the common dtype of the factors and y, at least float32.

    Raises
    ------
    MatrixError
        If a factor is not square, or is singular to the rounding of its dtype; if the length of y does not
        fit, an input holds a NaN or an infinity, or the result is out of the dtype's range.
    UsageError
        If there is no factor.

    Notes
    -----
    Applies (A kron B)^-1 = A^-1 kron B^-1: two n x n factors take 4/3 n^3 flops for LU and 4 n^3 for the
    solutions, instead of 2/3 n^6. The condition of the product is the product of the conditions.

    Examples
    --------
    >>> kron_solve([[[2.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [0.0, 1.0]]], [4.0, 2.0, 8.0, 4.0]).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    call = "eckart.linalg.kron_solve(factors, y)"
    matrices, right, dtype = _checked(factors, y, call, axis=0)
    for i, A in enumerate(matrices):
        check_square(A, f"factor {i} of {call}")
        s = np.linalg.svd(A, compute_uv=False)
        if (s <= cut_off(s, A.shape, dtype, None, call)).any():
            raise MatrixError(call, f"factor {i} is singular", "Use kron_matvec with the pinv of each factor")
        with np.errstate(all="ignore"):  # `to_dtype` checks the result
            right = _along_first(A, right, A.shape[1], np.linalg.solve)
    return to_dtype(right[:, 0] if np.ndim(y) == 1 else right, dtype, call)


class KroneckerLaws(NamedTuple):
    """Relative Frobenius residuals of three laws of Kronecker products.

    Attributes
    ----------
    mixed_product : float
        Of (A kron B)(C kron D) = (A C) kron (B D).
    inverse : float
        Of (A kron B)^-1 = A^-1 kron B^-1.
    vectorisation : float
        Of vec(A X B) = (B^T kron A) vec(X).
    """

    mixed_product: float
    inverse: float
    vectorisation: float


def kronecker_laws(A: ArrayLike, B: ArrayLike, C: ArrayLike, D: ArrayLike, X: ArrayLike) -> KroneckerLaws:
    """Check three laws of Kronecker products numerically, by forming every product in full.

    Parameters
    ----------
    A, B : array_like (n, n), (p, p)
        Square and invertible, as the law of the inverse requires.
    C, D : array_like (n, q), (p, r)
        For the law of the mixed product.
    X : array_like (n, p)
        For the law of vectorisation.

    Returns
    -------
    KroneckerLaws
        About eps, and eps times the condition of A kron B for the inverse.

    Raises
    ------
    MatrixError
        If the shapes do not chain, A or B is singular, an input holds a NaN or an infinity, or a product is
        out of float64's range.

    Notes
    -----
    2 (n p)^2 (q r + 4/3 n p) flops and (n p)^2 numbers: a check, not a way to use Kronecker products.

    References
    ----------
    Van Loan (2000), The ubiquitous Kronecker product, J. Comput. Appl. Math. 123.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> laws = kronecker_laws(*(random.standard_normal(s) for s in ((3, 3), (2, 2), (3, 4), (2, 5), (3, 2))))
    >>> max(laws) < 1e-13
    True
    """
    call = "eckart.linalg.kronecker_laws(A, B, C, D, X)"
    a, b, c, d, x = (as_stack(M, call)[0] for M in (A, B, C, D, X))
    n, p = a.shape[0], b.shape[0]
    fits = a.shape == (n, n) and b.shape == (p, p) and x.shape == (n, p)
    if not fits or c.ndim != 2 or d.ndim != 2 or c.shape[0] != n or d.shape[0] != p:
        shapes = ", ".join(str(M.shape) for M in (a, b, c, d, x))
        raise MatrixError(call, f"the shapes {shapes} do not chain")
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.kron(a, b)
        try:
            inverses = np.kron(np.linalg.inv(a), np.linalg.inv(b)), np.linalg.inv(product)
        except np.linalg.LinAlgError:
            raise MatrixError(
                call, "A or B is singular, but the law of the inverse needs both inverses"
            ) from None
        laws = KroneckerLaws(
            relative_difference(product @ np.kron(c, d), np.kron(a @ c, b @ d)),
            relative_difference(*inverses),
            relative_difference(np.kron(b.T, a) @ vec(x), vec(a @ x @ b)),
        )
    if not np.isfinite(laws).all():
        raise MatrixError(call, "the products are out of float64's range", "Scale the matrices down")
    return laws


def _along_first(A: Numbers, X: Numbers, n: int, apply: Callable[[Numbers, Numbers], Numbers]) -> Numbers:
    """Apply a factor to the first axis of X (n * rest, k), and move that axis to the end.

    After one such step for each factor, all axes are back in their order.
    """
    rest = X.shape[0] // n
    out = apply(A, X.reshape(n, -1))  # (m, rest * k)
    return np.asarray(out.reshape(len(out), rest, -1).swapaxes(0, 1).reshape(rest * len(out), -1))


def _checked(
    factors: Sequence[ArrayLike], x: ArrayLike, call: str, axis: int
) -> tuple[list[Numbers], Numbers, np.dtype]:
    """Return the factors, the right-hand side (n, k) and the dtype of the result, checked.

    ``axis`` is the axis of the factors that the right-hand side must match.
    """
    pairs = [as_stack(A, call) for A in factors]
    right, of_x = as_numbers(x, call)
    if not pairs:
        raise UsageError(call, "expected at least one factor, got none")
    if any(A.ndim != 2 or 0 in A.shape for A, _ in pairs):
        raise MatrixError(call, f"expected matrices, got shapes {[A.shape for A, _ in pairs]}")
    size = int(np.prod([A.shape[axis] for A, _ in pairs]))
    if right.ndim not in (1, 2) or right.shape[0] != size:
        raise MatrixError(call, f"expected a right-hand side ({size},) or ({size}, k), got {right.shape}")
    right = right.reshape(size, -1) if right.size else right.reshape(size, 0)
    return [A for A, _ in pairs], right, np.result_type(of_x, *(d for _, d in pairs))
