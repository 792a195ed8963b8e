"""QR, SVD and eigendecompositions.

The factors are differentiated in full, so that taking the first k columns afterwards is differentiated right.
The divisions by gaps between values are those of `gaps`.

References
----------
J. Townsend, "Differentiating the singular value decomposition", 2016, and "Differentiating the QR
decomposition", 2018 (notes). M. B. Giles, NA-08/01, 2008, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, concrete, dtype_of, shape_of
from ..errors import ArgumentError, MissingRuleError, TieError, at_line
from ..hooks import implements
from .complex import is_complex
from .gaps import (
    as_row,
    diagonal,
    doubt,
    mixing_p,
    over,
    rates,
    reciprocal,
    tied_fun,
    values_p,
    vanishing,
    vanishing_fun,
    vectors_p,
)
from .products import swap
from .spectral import adjoint, symmetric

JITTER = 1e-7  # of the largest value: the move away from a tie


# --- QR -----------------------------------------------------------------------------------------------------


def qr_jvp(out: Any, args: Sequence[Array], tangents: Sequence[Any]) -> tuple[Array, Array]:
    """Townsend (2018): with C = Q^H t R^-1, the skew part of C turns Q, the rest goes to R."""
    Q, R = out
    size = np.abs(diagonal(concrete(R)))
    if size.size and np.any(size.min(-1) <= np.finfo(size.dtype).eps * size.shape[-1] * size.max(-1)):
        raise TieError(
            "np.linalg.qr",
            f"the first {size.shape[-1]} columns are dependent to rounding{at_line()}: no derivative",
            "Use pinv, or the svd",
        )
    W = tangents[0] @ np.linalg.inv(R)
    C = adjoint(Q) @ W
    below = np.tril(C, -1)
    turn = below - adjoint(below)
    if is_complex(Q):
        turn = turn + 1j * np.imag(C) * np.eye(shape_of(C)[-1])
    return W - Q @ (C - turn), (C - turn) @ R


qr_p: Primitive = Primitive("linalg.qr", lambda a: tuple(np.linalg.qr(a)), qr_jvp, batch=True)
QRResult: Any = type(np.linalg.qr(np.eye(1)))


@implements(np.linalg.qr)
def qr(a: Array, mode: str = "reduced") -> Any:
    """Return `np.linalg.qr`; a wide matrix [X Y] is the QR of X, and Q^H Y."""
    m, n = shape_of(a)[-2:]
    if mode not in ("reduced", "r", "complete") or (mode == "complete" and m > n):
        raise MissingRuleError(
            "np.linalg.qr",
            f"mode={mode!r} of a matrix {m} x {n} has no derivative{at_line()}: the extra columns of "
            "Q are any basis",
            'Use mode="reduced"',
        )
    Q, R = qr_p(a[..., : min(m, n)])
    if n > m:
        R = np.concatenate([R, adjoint(Q) @ a[..., m:]], axis=-1)
    return R if mode == "r" else QRResult(Q, R)


# --- eigh ---------------------------------------------------------------------------------------------------


def apart(a: np.ndarray, s: np.ndarray, ties: str, hermitian: bool) -> Array | None:
    """Return the matrices with close values moved a little, always in the same way; None without any."""
    row = as_row(s)
    close = tied_fun(row, JITTER / 10).any((-2, -1))
    if not hermitian:
        close |= vanishing_fun(row).any((-2, -1))
    if ties == "error" or not close.any():
        return None
    noise = np.random.default_rng(20).standard_normal(a.shape[-2:])
    noise = symmetric(noise) if hermitian else noise
    size = np.abs(s).max(-1, initial=0)
    move = JITTER * np.where(close, np.where(size == 0, 1, size), 0)
    return (a + move[..., None, None] * noise).astype(a.dtype)


def eigh_fun(a: np.ndarray, lower: bool, ties: str) -> tuple[Array, Array]:
    w, V = np.linalg.eigh(a, "L" if lower else "U")
    moved = apart(a, w, ties, True)
    return (w, V) if moved is None else eigh_fun(moved, lower, "error")


def eigh_jvp(
    out: Any, args: Sequence[Array], tangents: Sequence[Any], lower: bool, ties: str
) -> tuple[Array, Array]:
    w, V = out
    row = as_row(w)
    M = mixing_p(adjoint(V) @ symmetric(tangents[0]) @ V, row)
    dw = values_p(np.real(diagonal(M)), w, ties=ties, singular=False)
    return dw, vectors_p(V @ (M * rates(row)), V, row, ties=ties, real=False)


eigh_p: Primitive = Primitive("linalg.eigh", eigh_fun, eigh_jvp, batch=True)
eigh_p.doubt = doubt
EighResult: Any = type(np.linalg.eigh(np.eye(1)))


@implements(np.linalg.eigh)
def eigh(a: Array, UPLO: str = "L", ties: str = "error") -> Any:
    """`numpy.linalg.eigh`; ``ties="jitter"`` decomposes a + 1e-7 |a| N where eigenvalues are equal."""
    return EighResult(*eigh_p(a, lower=UPLO.upper() == "L", ties=known_policy(ties)))


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Array, UPLO: str = "L", ties: str = "error") -> Array:
    return eigh_p(a, lower=UPLO.upper() == "L", ties=known_policy(ties))[0]


def known_policy(ties: str) -> str:
    if ties not in ("error", "jitter"):
        raise ArgumentError("ties", f"{ties!r} is not a policy", 'Write "error" or "jitter"')
    return ties


# --- SVD ----------------------------------------------------------------------------------------------------


def svd_fun(a: np.ndarray, full: bool, ties: str) -> tuple[Array, Array, Array]:
    U, s, Vh = np.linalg.svd(a, full_matrices=full)
    moved = apart(a, s, ties, False)
    return (U, s, Vh) if moved is None else svd_fun(moved, full, "error")


def svd_jvp(
    out: Any, args: Sequence[Array], tangents: Sequence[Any], full: bool, ties: str
) -> tuple[Any, Any, Any]:
    """Townsend (2016), in sum and difference of the turns of U and V, of which one is singular at ties.

    K = U^H t V; the turns are P + Q and P - Q, P = (K + K^H) / 2 (s_j - s_i), Q = (K - K^H) / 2 (s_j + s_i).
    A singular value has derivative 0 at 0, as every norm.
    """
    (t,), (U_all, s, Vh_all) = tangents, out
    k, row = shape_of(s)[-1], as_row(s)
    U, V_all = U_all[..., :k], adjoint(Vh_all)
    m, V = shape_of(U)[-2], V_all[..., :k]
    K = adjoint(U) @ t @ V
    KH, null = adjoint(K), vanishing(row)
    even = mixing_p((K + KH) / 2, row)
    ds = values_p(np.real(diagonal(even)), s, ties=ties, singular=True)
    Q = (K - KH) / 2 * reciprocal(row + swap(row), np.logical_and(null, swap(null)))
    W = np.concatenate([U, V], axis=-2)
    turn = W @ (even * rates(row)) + np.concatenate([U, -V], axis=-2) @ Q
    turn = vectors_p(turn, W, row, ties=ties, real=False)
    dU = outside(turn[..., :m, :], U_all, row, lambda: t @ V - U @ K)
    dV = outside(turn[..., m:, :], V_all, row, lambda: adjoint(t) @ U - V @ KH)
    return dU, ds, adjoint(dV)


def outside(turn: Array, U_all: Array, row: Array, rest: Callable[[], Array]) -> Array:
    """Add the part of the tangent that leaves the space of the k vectors, and its push to extra vectors."""
    (m, n), k = shape_of(U_all)[-2:], shape_of(row)[-1]
    if m == k:
        return turn
    leaving = over(rest(), row)
    if n == k:
        return turn + leaving
    U, extra = U_all[..., :k], U_all[..., k:]
    any_basis = np.zeros((*shape_of(U_all)[:-2], 1, n - k), dtype_of(row))  # as if all were equal
    pushed = vectors_p(-U @ (adjoint(leaving) @ extra), extra, any_basis, ties="jitter", real=False)
    return np.concatenate([turn + leaving, pushed], axis=-1)


svd_p: Primitive = Primitive("linalg.svd", svd_fun, svd_jvp, batch=True)
svd_p.doubt = doubt
SVDResult: Any = type(np.linalg.svd(np.eye(1)))


@implements(np.linalg.svd)
def svd(
    a: Array,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    ties: str = "error",
) -> Any:
    """`numpy.linalg.svd`; ``ties="jitter"`` decomposes a + 1e-7 |a| N where singular values are equal."""
    full = full_matrices and compute_uv and shape_of(a)[-2] != shape_of(a)[-1]
    out = svd_p(a, full=full, ties=known_policy(ties))
    return SVDResult(*out) if compute_uv else out[1]


implements(np.linalg.svdvals)(lambda a: svd(a, compute_uv=False))


# --- eig ----------------------------------------------------------------------------------------------------


def eig_jvp(out: Any, args: Sequence[Array], tangents: Sequence[Any]) -> tuple[Array, Array]:
    """Giles (2008), 3.1, with the columns kept at unit length as LAPACK returns them."""
    w, V = out
    row, eye = as_row(w), np.eye(shape_of(w)[-1], dtype=bool)
    refuse_defective(concrete(row), concrete(V))
    M = np.linalg.solve(V, tangents[0] @ V)
    dV = V @ (M * reciprocal(row - swap(row), eye))
    dV = dV - V * np.sum(np.real(dV * np.conj(V)), axis=-2, keepdims=True)
    return diagonal(M), vectors_p(dV, V, row, ties="error", real=not is_complex(args[0]))


def refuse_defective(row: np.ndarray, V: np.ndarray) -> None:
    """Refuse equal eigenvalues, and eigenvectors so dependent that their derivatives have no digit left.

    The relative error of the derivatives is about eps cond(V)^2.
    """
    what = "eigenvalues are equal" if tied_fun(row, 1e-13).any() else ""
    if not what and V.size and np.max(np.linalg.cond(V)) > 0.1 / np.sqrt(np.finfo(V.dtype).eps):
        what = "the eigenvectors are dependent to rounding"
    if what:
        raise TieError(
            "np.linalg.eig",
            f"{what}{at_line()}: no derivative",
            "Use eigfun for a function of a symmetric matrix, or expm, sqrtm, logm of eckart.autodiff.scipy",
        )


eig_p: Primitive = Primitive("linalg.eig", lambda a: tuple(np.linalg.eig(a)), eig_jvp, batch=True)
EigResult: Any = type(np.linalg.eig(np.eye(1)))
implements(np.linalg.eig)(lambda a: EigResult(*eig_p(a)))
implements(np.linalg.eigvals)(lambda a: eig_p(a)[0])
