"""QR, SVD and eigendecompositions.

The rules differentiate all columns of the factors. The derivative is therefore right also when only the first
k columns are used afterwards. `gaps` divides by the gaps between values.

References
----------
J. Townsend, "Differentiating the singular value decomposition", 2016, and "Differentiating the QR
decomposition", 2018 (notes). M. B. Giles, NA-08/01, 2008, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core import Array, concrete, dtype_of, shape_of
from ..errors import MissingRuleError, TieError, at_line
from ..hooks import implements
from ..rules.complex import is_complex
from ..rules.products import swap
from . import gaps
from .inverse import adjoint, several_results, symmetric

# --- QR -----------------------------------------------------------------------------------------------------


def qr_jvp(out: Any, args: Any, tangents: Any) -> tuple[Array, Array]:
    """Return the tangents of Q and R: the skew part of C = Q^H t R^-1 rotates Q, the rest changes R.

    (Townsend, 2018.)
    """
    Q, R = out
    size = np.abs(np.linalg.diagonal(concrete(R)))
    if size.size and np.any(size.min(-1) <= np.finfo(size.dtype).eps * size.shape[-1] * size.max(-1)):
        cause = f"the first {size.shape[-1]} columns are linearly dependent up to rounding"
        what = f"{cause}, so there is no derivative{at_line()}"
        raise TieError("np.linalg.qr", what, "Use np.linalg.pinv or np.linalg.svd")
    W = tangents[0] @ np.linalg.inv(R)
    C = adjoint(Q) @ W
    below = np.tril(C, -1)
    rotation = below - adjoint(below)
    if is_complex(Q):
        rotation = rotation + 1j * np.imag(C) * np.eye(shape_of(C)[-1])
    return W - Q @ (C - rotation), (C - rotation) @ R


thin_qr = several_results(np.linalg.qr, qr_jvp)


@implements(np.linalg.qr)
def qr(a: Array, mode: str = "reduced") -> Any:
    """Return `np.linalg.qr`; for a wide matrix [X Y] it is the QR of X together with Q^H Y."""
    m, n = shape_of(a)[-2:]
    if mode not in ("reduced", "r", "complete") or (mode == "complete" and m > n):
        what = f"mode={mode!r} has no derivative for a matrix of shape ({m}, {n}){at_line()}"
        raise MissingRuleError("np.linalg.qr", what, 'Use mode="reduced"')
    out = thin_qr(a[..., : min(m, n)])
    if n > m:
        out = out._replace(R=np.concatenate([out.R, adjoint(out.Q) @ a[..., m:]], axis=-1))
    return out.R if mode == "r" else out


# --- eigh ---------------------------------------------------------------------------------------------------


def eigh_jvp(out: Any, args: Any, tangents: Any, UPLO: str, ties: str) -> tuple[Array, Array]:
    """Return the tangents of w and V: the diagonal of M = V^H t V, and V (M / gaps)."""
    w, V = out
    row = w[..., None, :]
    M = gaps.mark_mixed_ties(adjoint(V) @ symmetric(tangents[0]) @ V, row)
    dw = gaps.refuse_uneven_cotangents(np.real(np.linalg.diagonal(M)), w, ties=ties)
    return dw, gaps.refuse_basis_dependence(V @ (M * gaps.inverse_gaps(row)), V, row, ties=ties)


eigh_of = several_results(
    np.linalg.eigh, eigh_jvp, partial(gaps.decompose_with_ties, np.linalg.eigh), gaps.explain_nan
)


@implements(np.linalg.eigh)
def eigh(a: Array, UPLO: str = "L", ties: str = "error") -> Any:
    """Return the eigenvalues and eigenvectors of Hermitian matrices, as `numpy.linalg.eigh` does.

    Parameters
    ----------
    a : array (..., n, n)
        Hermitian matrices, float or complex. The gradient is Hermitian.
    UPLO : {"L", "U"}, default "L"
        The triangle that is read.
    ties : {"error", "jitter"}, default "error"
        What to do where eigenvalues are equal. "error": refuse functions without a derivative. "jitter":
        decompose a + 1e-7 |a| N (in float32, 3e-4 |a| N) with fixed random numbers N, and refuse functions
        that depend on the choice of basis.

    Returns
    -------
    eigenvalues : array (..., n)
        In ascending order.
    eigenvectors : array (..., n, n)
        The columns are the eigenvectors.

    Raises
    ------
    ArgumentError
        If ``ties`` is unknown.
    TieError
        If it is differentiated in a function that has no derivative at equal eigenvalues.

    Notes
    -----
    The cost is about 9 n^3 flops. At a relative gap g the derivative of an eigenvector errs by about eps / g.

    Examples
    --------
    >>> eigh(np.diag([1.0, 4.0])).eigenvalues
    array([1., 4.])
    """
    return eigh_of(a, UPLO=UPLO, ties=ties)


implements(np.linalg.eigvalsh)(lambda a, UPLO="L": eigh(a, UPLO)[0])

# --- SVD ----------------------------------------------------------------------------------------------------


def svd_jvp(out: Any, args: Any, tangents: Any, full_matrices: bool, ties: str) -> tuple[Any, Any, Any]:
    """Return the tangents of U, s and Vh (Townsend, 2016).

    With K = U^H t V, the rotations of U and V are P + Q and P - Q, where P = (K + K^H) / 2 (s_j - s_i) and
    Q = (K - K^H) / 2 (s_j + s_i). In this form only P is singular at ties. A singular value has derivative 0
    at 0, as norms have.
    """
    (t,), (U_all, s, Vh_all) = tangents, out
    k, row = shape_of(s)[-1], s[..., None, :]
    U, V_all = U_all[..., :k], adjoint(Vh_all)
    m, V = shape_of(U)[-2], V_all[..., :k]
    K = adjoint(U) @ t @ V
    KH, null = adjoint(K), gaps.vanishing(row)
    even = gaps.mark_mixed_ties((K + KH) / 2, row)
    ds = gaps.refuse_uneven_cotangents(np.real(np.linalg.diagonal(even)), s, ties=ties)
    ds = np.where(null[..., 0, :], 0, ds)
    Q = (K - KH) / 2 * gaps.reciprocal(row + swap(row), np.logical_and(null, swap(null)))
    W = np.concatenate([U, V], axis=-2)
    rotated = W @ (even * gaps.inverse_gaps(row)) + np.concatenate([U, -V], axis=-2) @ Q
    rotated = gaps.refuse_basis_dependence(rotated, W, row, ties=ties)
    dU = add_outside(rotated[..., :m, :], U_all, row, lambda: t @ V - U @ K)
    dV = add_outside(rotated[..., m:, :], V_all, row, lambda: adjoint(t) @ U - V @ KH)
    return dU, ds, adjoint(dV)


def add_outside(rotated: Array, U_all: Array, row: Array, rest: Callable[[], Array]) -> Array:
    """Return the tangent of the vectors: its part in their span, and the part outside, if there is one.

    The tangent of the extra vectors of a full SVD keeps them orthogonal to the others.
    """
    (m, n), k = shape_of(U_all)[-2:], shape_of(row)[-1]
    if m == k:
        return rotated
    leaving = gaps.refuse_null_vectors(rest() / np.where(gaps.vanishing(row), 1.0, row), row)
    if n == k:
        return rotated + leaving
    U, extra = U_all[..., :k], U_all[..., k:]
    # the extra vectors are an arbitrary basis, as if their values were equal
    equal = np.zeros((*shape_of(U_all)[:-2], 1, n - k), dtype_of(row))
    moved = gaps.refuse_basis_dependence(-U @ (adjoint(leaving) @ extra), extra, equal, ties="jitter")
    return np.concatenate([rotated + leaving, moved], axis=-1)


svd_of = several_results(
    np.linalg.svd, svd_jvp, partial(gaps.decompose_with_ties, np.linalg.svd), gaps.explain_nan
)


@implements(np.linalg.svd)
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False, ties: str = "error"
) -> Any:
    """Return the singular value decomposition of matrices, as `numpy.linalg.svd` does.

    Parameters
    ----------
    a : array (..., m, n)
        Matrices, float or complex.
    full_matrices : bool, default True
        Whether U and Vh are square. Their extra columns and rows are an arbitrary basis of the complement.
    compute_uv : bool, default True
        Whether to return U and Vh; otherwise only the singular values are returned.
    hermitian : bool, default False
        Accepted as in NumPy, and ignored.
    ties : {"error", "jitter"}, default "error"
        What to do where singular values are equal or 0. "error": refuse functions without a derivative.
        "jitter": decompose a + 1e-7 |a| N (in float32, 3e-4 |a| N) with fixed random numbers N, and refuse
        functions that depend on the choice of basis.

    Returns
    -------
    U : array (..., m, m) or (..., m, min(m, n))
        The left singular vectors.
    S : array (..., min(m, n))
        The singular values in descending order.
    Vh : array (..., n, n) or (..., min(m, n), n)
        The right singular vectors, conjugated and transposed.

    Raises
    ------
    ArgumentError
        If ``ties`` is unknown.
    TieError
        If it is differentiated in a function that has no derivative at equal singular values.

    Notes
    -----
    At a relative gap g the derivative of a singular vector errs by about eps / g. `low_rank`, `polar`,
    `nuclear_norm` and `svdfun` have no such loss.

    Examples
    --------
    >>> svd(np.diag([3.0, 2.0])).S
    array([3., 2.])
    """
    m, n = shape_of(a)[-2:]
    full = full_matrices and compute_uv and m != n
    out = svd_of(a, full_matrices=full, ties=ties)
    return out if compute_uv else out.S


implements(np.linalg.svdvals)(lambda a: svd(a, compute_uv=False))

# --- eig ----------------------------------------------------------------------------------------------------


def eig_jvp(out: Any, args: Any, tangents: Any) -> tuple[Array, Array]:
    """Return the tangents of w and V (Giles, 2008, 3.1); columns keep their unit length, as in LAPACK."""
    w, V = out
    row, eye = w[..., None, :], np.eye(shape_of(w)[-1], dtype=bool)
    refuse_defective(concrete(row), concrete(V))
    M = np.linalg.solve(V, tangents[0] @ V)
    dV = V @ (M * gaps.reciprocal(row - swap(row), eye))
    dV = dV - V * np.sum(np.real(dV * np.conj(V)), axis=-2, keepdims=True)
    dV = gaps.refuse_basis_dependence(dV, V, row, ties="error", real=not is_complex(args[0]))
    return np.linalg.diagonal(M), dV


def refuse_defective(row: np.ndarray, V: np.ndarray) -> None:
    """Refuse equal eigenvalues, and eigenvectors so dependent that derivatives have no correct digit.

    The relative error of the derivatives is about eps cond(V)^2.
    """
    cause = "eigenvalues are equal" if gaps.tied(row, near=1e-13).any() else ""
    if not cause and V.size and np.max(np.linalg.cond(V)) > 0.1 / np.sqrt(np.finfo(V.dtype).eps):
        cause = "the eigenvectors are linearly dependent up to rounding"
    if cause:
        fix = "Use eigfun for a function of a symmetric matrix, or expm, sqrtm, logm of eckart.autodiff.scipy"
        raise TieError("np.linalg.eig", f"{cause}, so there is no derivative{at_line()}", fix)


eig = implements(np.linalg.eig)(several_results(np.linalg.eig, eig_jvp))
implements(np.linalg.eigvals)(lambda a: eig(a)[0])
