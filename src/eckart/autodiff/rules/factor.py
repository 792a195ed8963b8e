"""QR, SVD and eigendecompositions.

The factors are differentiated in full, so that taking the first k columns afterwards is differentiated right.
The divisions by gaps between values are those of `gaps`.

References
----------
J. Townsend, "Differentiating the singular value decomposition", 2016, and "Differentiating the QR
decomposition", 2018 (notes). M. B. Giles, NA-08/01, 2008, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, concrete, shape_of
from ..errors import ArgumentError, MissingRuleError, TieError, at_line
from ..hooks import implements
from .complex import is_complex
from .gaps import diagonal, doubt, over_p, reciprocal, tied, turned_p, values_p, vanishing
from .spectral import adjoint, symmetric

JITTER = 1e-7  # of the largest value: the move away from a tie


# --- QR -----------------------------------------------------------------------------------------------------


def qr_jvp(out: Any, args: Sequence[Array], tangents: Sequence[Any]) -> tuple[Array, Array]:
    """Townsend (2018): with C = Q^H t R^-1, the skew part of C turns Q, the rest goes to R."""
    Q, R = out
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


def jittered(a: np.ndarray, hermitian: bool) -> Array:
    """Return the matrix moved a little, always in the same way, so that equal values come apart."""
    noise = np.random.default_rng(20).standard_normal(a.shape[-2:])
    noise = (noise + noise.T) / 2 if hermitian else noise
    size = np.linalg.norm(a, 2, axis=(-2, -1), keepdims=True)
    return a + JITTER * np.where(size == 0, 1, size) * noise.astype(a.dtype)


def eigh_fun(a: np.ndarray, lower: bool, ties: str) -> tuple[Array, Array]:
    w, V = np.linalg.eigh(a, "L" if lower else "U")
    if ties == "jitter" and tied(w).any():
        w, V = np.linalg.eigh(jittered(a, True), "L" if lower else "U")
    return w, V


def eigh_jvp(
    out: Any, args: Sequence[Array], tangents: Sequence[Any], lower: bool, ties: str
) -> tuple[Array, Array]:
    w, V = out
    M = adjoint(V) @ symmetric(tangents[0]) @ V
    return np.real(values_p(M, w, ties=ties)), turned_p(M, V, w, ties=ties)


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
    if ties == "jitter" and (tied(s).any() or vanishing(s).any()):
        U, s, Vh = np.linalg.svd(jittered(a, False), full_matrices=full)
    return U, s, Vh


def svd_jvp(
    out: Any, args: Sequence[Array], tangents: Sequence[Any], full: bool, ties: str
) -> tuple[Any, Any, Any]:
    """Townsend (2016), in sum and difference of the turns of U and V, of which one is singular at ties.

    K = U^H t V; the turns are P + Q and P - Q, P = (K + K^H) / 2 (s_j - s_i), Q = (K - K^H) / 2 (s_j + s_i).
    """
    (t,), (U_all, s, Vh_all) = tangents, out
    k = shape_of(s)[-1]
    U, V = U_all[..., :k], adjoint(Vh_all[..., :k, :])
    m = shape_of(U)[-2]
    K = adjoint(U) @ t @ V
    KH = adjoint(K)
    twice = np.expand_dims(s, -2) + np.expand_dims(s, -1)
    null = vanishing(s)
    skip = np.logical_and(np.expand_dims(null, -1), np.expand_dims(null, -2))
    Q = (K - KH) / 2 * reciprocal(twice, skip)
    even = (K + KH) / 2
    both = turned_p(even, np.concatenate([U, V], axis=-2), s, ties=ties)
    both = both + np.concatenate([U, -V], axis=-2) @ Q
    dU, dV = both[..., :m, :], both[..., m:, :]
    if m > k:
        dU = dU + over_p(t @ V - U @ K, s)
    if shape_of(V)[-2] > k:
        dV = dV + over_p(adjoint(t) @ U - V @ KH, s)
    ds = np.real(values_p(even, s, ties=ties))
    return completed(dU, U, U_all, k), ds, adjoint(completed(dV, V, adjoint(Vh_all), k))


def completed(dU: Array, U: Array, U_all: Array, k: int) -> Array:
    """Return the tangent of all columns: the extra ones turn only as far as the first k push them."""
    if shape_of(U_all)[-1] == k:
        return dU
    return np.concatenate([dU, -U @ (adjoint(dU) @ U_all[..., k:])], axis=-1)


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
    values = concrete(w)
    close = np.abs(values[..., :, None] - values[..., None, :]) <= 1e-13 * np.abs(values).max(initial=0)
    off = ~np.eye(values.shape[-1], dtype=bool)
    if (close & off).any():
        raise TieError(
            "np.linalg.eig", f"eigenvalues are equal{at_line()}: no derivative", "Use a symmetric matrix"
        )
    M = np.linalg.solve(V, tangents[0] @ V)
    dV = V @ (M * reciprocal(np.expand_dims(w, -2) - np.expand_dims(w, -1), ~off))
    along = np.sum(np.real(dV * np.conj(V)), axis=-2, keepdims=True)
    return diagonal(M), dV - V * along


eig_p: Primitive = Primitive("linalg.eig", lambda a: tuple(np.linalg.eig(a)), eig_jvp, batch=True)
EigResult: Any = type(np.linalg.eig(np.eye(1)))
implements(np.linalg.eig)(lambda a: EigResult(*eig_p(a)))
implements(np.linalg.eigvals)(lambda a: eig_p(a)[0])
