"""Kronecker products: used without being formed, and checked by their laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    held,
    relative_difference,
)


def vec(X: ArrayLike) -> Array:
    """Return the columns of X (m, n) under one another, (m n,). Equivalent to ``X.flatten("F")``.

    Examples
    --------
    >>> vec([[1, 2], [3, 4]]).tolist()
    [1, 3, 2, 4]
    """
    return np.asarray(X).flatten("F")


def kron_matvec(factors: Sequence[ArrayLike], x: ArrayLike) -> Numbers:
    """Return (A_1 kron A_2 kron ...) x, without forming the product.

    Equivalent to ``numpy.kron(A_1, A_2) @ x``.

    Parameters
    ----------
    factors : sequence of array_like
        A_i of shape (m_i, n_i), one at least.
    x : array_like (n_1 n_2 ...,) or (n_1 n_2 ..., k)

    Returns
    -------
    ndarray (m_1 m_2 ...,) or (m_1 m_2 ..., k)
        In the common dtype of the factors and x, float32 at least.

    Raises
    ------
    MatrixError
        A factor that is no matrix, a length that does not fit, a NaN or an infinity, or a result out of
        the dtype's range.
    UsageError
        No factor.

    Notes
    -----
    By vec(A X B) = (B^T kron A) vec(X), one factor after the other: two n x n factors take 4 n^3 flops and
    n^2 numbers in place of 2 n^4 and n^4.

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
    with np.errstate(over="ignore", invalid="ignore"):  # `held` looks at what comes out
        for A in matrices:
            right = _along_first(A, right, A.shape[1], lambda A, X: A @ X)
    return held(right[:, 0] if np.ndim(x) == 1 else right, dtype, call)


def kron_solve(factors: Sequence[ArrayLike], y: ArrayLike) -> Numbers:
    """Solve (A_1 kron A_2 kron ...) x = y, without forming the product.

    Equivalent to ``numpy.linalg.solve(numpy.kron(A_1, A_2), y)``.

    Parameters
    ----------
    factors : sequence of array_like
        A_i of shape (n_i, n_i), none of them singular.
    y : array_like (n_1 n_2 ...,) or (n_1 n_2 ..., k)

    Returns
    -------
    ndarray (n_1 n_2 ...,) or (n_1 n_2 ..., k)
        In the common dtype of the factors and y, float32 at least.

    Raises
    ------
    MatrixError
        A factor that is not square, or is singular to the rounding of its dtype; a length that does not
        fit, a NaN or an infinity, or a result out of the dtype's range.
    UsageError
        No factor.

    Notes
    -----
    By (A kron B)^-1 = A^-1 kron B^-1: two n x n factors take 4/3 n^3 flops for LU and 4 n^3 for the
    solutions, in place of 2/3 n^6. The condition of the product is the product of the conditions.

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
            raise MatrixError(call, f"factor {i} is singular", "Apply kron_matvec to the pinv of each factor")
        with np.errstate(all="ignore"):  # `held` looks at what comes out
            right = _along_first(A, right, A.shape[1], np.linalg.solve)
    return held(right[:, 0] if np.ndim(y) == 1 else right, dtype, call)


class KroneckerLaws(NamedTuple):
    """Relative Frobenius residuals of the three laws."""

    mixed_product: float
    """(A kron B)(C kron D) = (A C) kron (B D)"""
    inverse: float
    """(A kron B)^-1 = A^-1 kron B^-1"""
    vectorisation: float
    """vec(A X B) = (B^T kron A) vec(X)"""


def kronecker_laws(A: ArrayLike, B: ArrayLike, C: ArrayLike, D: ArrayLike, X: ArrayLike) -> KroneckerLaws:
    """Check the three laws on matrices of yours, by forming every product in full.

    Parameters
    ----------
    A, B : array_like (n, n), (p, p)
        Square and invertible, for the law of the inverse.
    C, D : array_like (n, q), (p, r)
    X : array_like (n, p)

    Returns
    -------
    KroneckerLaws
        About eps, and eps times the condition of A kron B for the inverse.

    Raises
    ------
    MatrixError
        Shapes that do not chain, a singular A or B, a NaN or an infinity, or products out of float64's range.

    Notes
    -----
    2 (n p)^2 (q r + 4/3 n p) flops and (n p)^2 numbers: this is the way not to use Kronecker products.

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
        raise MatrixError(call, f"shapes {a.shape}, {b.shape}, {c.shape}, {d.shape}, {x.shape} do not chain")
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.kron(a, b)
        try:
            inverses = np.kron(np.linalg.inv(a), np.linalg.inv(b)), np.linalg.inv(product)
        except np.linalg.LinAlgError:
            raise MatrixError(
                call, "A or B is singular, and the law of the inverse needs both inverses"
            ) from None
        found = KroneckerLaws(
            relative_difference(product @ np.kron(c, d), np.kron(a @ c, b @ d)),
            relative_difference(*inverses),
            relative_difference(np.kron(b.T, a) @ vec(x), vec(a @ x @ b)),
        )
    if not np.isfinite(found).all():
        raise MatrixError(call, "products are out of float64's range", "Scale the matrices")
    return found


def _along_first(A: Numbers, X: Numbers, n: int, apply: Any) -> Numbers:
    """Apply a factor to the first axis of the remaining n * rest, and send the result to the back.

    After as many turns as there are factors every axis is back in its place.
    """
    rest = X.shape[0] // n
    out = apply(A, X.reshape(n, -1))  # (m, rest * k)
    return np.asarray(out.reshape(len(out), rest, -1).swapaxes(0, 1).reshape(rest * len(out), -1))


def _checked(
    factors: Sequence[ArrayLike], x: ArrayLike, call: str, axis: int
) -> tuple[list[Numbers], Numbers, np.dtype]:
    pairs = [as_stack(A, call) for A in factors]
    right, of_x = as_numbers(x, call)
    if not pairs:
        raise UsageError(call, "expected one factor at least, got none")
    if any(A.ndim != 2 or 0 in A.shape for A, _ in pairs):
        raise MatrixError(call, f"expected matrices, got shapes {[A.shape for A, _ in pairs]}")
    size = int(np.prod([A.shape[axis] for A, _ in pairs]))
    if right.ndim not in (1, 2) or right.shape[0] != size:
        raise MatrixError(call, f"expected ({size},) or ({size}, k) on the right, got {right.shape}")
    right = right.reshape(size, -1) if right.size else right.reshape(size, 0)
    return [A for A, _ in pairs], right, np.result_type(of_x, *(d for _, d in pairs))
