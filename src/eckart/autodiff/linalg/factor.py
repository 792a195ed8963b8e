"""QR, SVD and eigendecompositions.

The factors are differentiated in full, so that taking the first k columns afterwards is differentiated right.
The divisions by gaps between values are those of `gaps`.

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
    """Townsend (2018): with C = Q^H t R^-1, the skew part of C turns Q, the rest goes to R."""
    Q, R = out
    size = np.abs(np.linalg.diagonal(concrete(R)))
    if size.size and np.any(size.min(-1) <= np.finfo(size.dtype).eps * size.shape[-1] * size.max(-1)):
        what = f"the first {size.shape[-1]} columns are dependent to rounding{at_line()}: no derivative"
        raise TieError("np.linalg.qr", what, "Use pinv, or the svd")
    W = tangents[0] @ np.linalg.inv(R)
    C = adjoint(Q) @ W
    below = np.tril(C, -1)
    turn = below - adjoint(below)
    if is_complex(Q):
        turn = turn + 1j * np.imag(C) * np.eye(shape_of(C)[-1])
    return W - Q @ (C - turn), (C - turn) @ R


thin_qr = several_results(np.linalg.qr, qr_jvp)


@implements(np.linalg.qr)
def qr(a: Array, mode: str = "reduced") -> Any:
    """Return `np.linalg.qr`; a wide matrix [X Y] is the QR of X, and Q^H Y."""
    m, n = shape_of(a)[-2:]
    if mode not in ("reduced", "r", "complete") or (mode == "complete" and m > n):
        what = (
            f"mode={mode!r} of a matrix {m} x {n} has no derivative{at_line()}: extra columns are any basis"
        )
        raise MissingRuleError("np.linalg.qr", what, 'Use mode="reduced"')
    out = thin_qr(a[..., : min(m, n)])
    if n > m:
        out = out._replace(R=np.concatenate([out.R, adjoint(out.Q) @ a[..., m:]], axis=-1))
    return out.R if mode == "r" else out


# --- eigh ---------------------------------------------------------------------------------------------------


def eigh_jvp(out: Any, args: Any, tangents: Any, UPLO: str, ties: str) -> tuple[Array, Array]:
    w, V = out
    row = w[..., None, :]
    M = gaps.mixing(adjoint(V) @ symmetric(tangents[0]) @ V, row)
    dw = gaps.values(np.real(np.linalg.diagonal(M)), w, ties=ties)
    return dw, gaps.vectors(V @ (M * gaps.rates(row)), V, row, ties=ties)


eigh_of = several_results(np.linalg.eigh, eigh_jvp, partial(gaps.apart, np.linalg.eigh), gaps.doubt)


@implements(np.linalg.eigh)
def eigh(a: Array, UPLO: str = "L", ties: str = "error") -> Any:
    """`numpy.linalg.eigh`; ``ties="jitter"`` decomposes a + 1e-7 |a| N (float32: 3e-4) at ties."""
    return eigh_of(a, UPLO=UPLO, ties=ties)


implements(np.linalg.eigvalsh)(lambda a, UPLO="L": eigh(a, UPLO)[0])

# --- SVD ----------------------------------------------------------------------------------------------------


def svd_jvp(out: Any, args: Any, tangents: Any, full_matrices: bool, ties: str) -> tuple[Any, Any, Any]:
    """Townsend (2016), in sum and difference of the turns of U and V, of which one is singular at ties.

    K = U^H t V; the turns are P + Q and P - Q, P = (K + K^H) / 2 (s_j - s_i), Q = (K - K^H) / 2 (s_j + s_i).
    A singular value has derivative 0 at 0, as every norm.
    """
    (t,), (U_all, s, Vh_all) = tangents, out
    k, row = shape_of(s)[-1], s[..., None, :]
    U, V_all = U_all[..., :k], adjoint(Vh_all)
    m, V = shape_of(U)[-2], V_all[..., :k]
    K = adjoint(U) @ t @ V
    KH, null = adjoint(K), gaps.vanishing(row)
    even = gaps.mixing((K + KH) / 2, row)
    ds = np.where(null[..., 0, :], 0, gaps.values(np.real(np.linalg.diagonal(even)), s, ties=ties))
    Q = (K - KH) / 2 * gaps.reciprocal(row + swap(row), np.logical_and(null, swap(null)))
    W = np.concatenate([U, V], axis=-2)
    turn = W @ (even * gaps.rates(row)) + np.concatenate([U, -V], axis=-2) @ Q
    turn = gaps.vectors(turn, W, row, ties=ties)
    dU = outside(turn[..., :m, :], U_all, row, lambda: t @ V - U @ K)
    dV = outside(turn[..., m:, :], V_all, row, lambda: adjoint(t) @ U - V @ KH)
    return dU, ds, adjoint(dV)


def outside(turn: Array, U_all: Array, row: Array, rest: Callable[[], Array]) -> Array:
    """Add the part of the tangent that leaves the space of the k vectors, and its push to extra vectors."""
    (m, n), k = shape_of(U_all)[-2:], shape_of(row)[-1]
    if m == k:
        return turn
    leaving = gaps.past(rest() / np.where(gaps.vanishing(row), 1.0, row), row)
    if n == k:
        return turn + leaving
    U, extra = U_all[..., :k], U_all[..., k:]
    any_basis = np.zeros((*shape_of(U_all)[:-2], 1, n - k), dtype_of(row))  # as if all were equal
    pushed = gaps.vectors(-U @ (adjoint(leaving) @ extra), extra, any_basis, ties="jitter")
    return np.concatenate([turn + leaving, pushed], axis=-1)


svd_of = several_results(np.linalg.svd, svd_jvp, partial(gaps.apart, np.linalg.svd), gaps.doubt)


@implements(np.linalg.svd)
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False, ties: str = "error"
) -> Any:
    """`numpy.linalg.svd`; ``ties="jitter"`` decomposes a + 1e-7 |a| N (float32: 3e-4) at ties."""
    m, n = shape_of(a)[-2:]
    full = full_matrices and compute_uv and m != n
    out = svd_of(a, full_matrices=full, ties=ties)
    return out if compute_uv else out.S


implements(np.linalg.svdvals)(lambda a: svd(a, compute_uv=False))

# --- eig ----------------------------------------------------------------------------------------------------


def eig_jvp(out: Any, args: Any, tangents: Any) -> tuple[Array, Array]:
    """Giles (2008), 3.1, with the columns kept at unit length as LAPACK returns them."""
    w, V = out
    row, eye = w[..., None, :], np.eye(shape_of(w)[-1], dtype=bool)
    refuse_defective(concrete(row), concrete(V))
    M = np.linalg.solve(V, tangents[0] @ V)
    dV = V @ (M * gaps.reciprocal(row - swap(row), eye))
    dV = dV - V * np.sum(np.real(dV * np.conj(V)), axis=-2, keepdims=True)
    return np.linalg.diagonal(M), gaps.vectors(dV, V, row, ties="error", real=not is_complex(args[0]))


def refuse_defective(row: np.ndarray, V: np.ndarray) -> None:
    """Refuse equal eigenvalues, and eigenvectors so dependent that their derivatives have no digit left.

    The relative error of the derivatives is about eps cond(V)^2.
    """
    what = "eigenvalues are equal" if gaps.tied(row, near=1e-13).any() else ""
    if not what and V.size and np.max(np.linalg.cond(V)) > 0.1 / np.sqrt(np.finfo(V.dtype).eps):
        what = "the eigenvectors are dependent to rounding"
    if what:
        fix = "Use eigfun for a function of a symmetric matrix, or expm, sqrtm, logm of eckart.autodiff.scipy"
        raise TieError("np.linalg.eig", f"{what}{at_line()}: no derivative", fix)


eig = implements(np.linalg.eig)(several_results(np.linalg.eig, eig_jvp))
implements(np.linalg.eigvals)(lambda a: eig(a)[0])
