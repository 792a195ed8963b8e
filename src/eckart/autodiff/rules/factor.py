"""QR, SVD and eigendecompositions, and what to do where values are equal.

The factors are differentiated in full, so that taking the first k columns afterwards is differentiated right.
At equal values single vectors have no derivative: ``turned`` and ``over`` are the two divisions by a gap. In
reverse they refuse where the function uses a vector that has none. Forward they give NaN, which may meet only
what is cut off afterwards; where it reaches the result, `jvp` raises the error that ``doubt`` has made.

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
from .linalg import adjoint, product_shape, stacked, swap, symmetric
from .reduce import frozen
from .shape import is_complex

NEAR = 1e-6  # of the largest value: gaps in which a jittered decomposition is watched
JITTER = 1e-7  # of the largest value: the move away from a tie


def diagonal(a: Array) -> Array:
    return np.diagonal(a, 0, -2, -1)


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


qr_p: Primitive = Primitive(
    "linalg.qr", lambda a: tuple(np.linalg.qr(a)), qr_jvp, batch=stacked(lambda: qr_p)
)
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


# --- dividing by gaps -------------------------------------------------------------------------------


def tied_fun(s: np.ndarray, near: float | None) -> Array:
    """Return which pairs of values are equal to rounding (or to ``near``), of their largest: (..., k, k)."""
    tol = 4 * max(s.shape[-1], 2) * np.finfo(s.dtype).eps if near is None else near
    scale = np.abs(s).max(-1, initial=0)[..., None, None]
    return (np.abs(s[..., :, None] - s[..., None, :]) <= tol * scale) & ~np.eye(s.shape[-1], dtype=bool)


def vanishing_fun(s: np.ndarray) -> Array:
    """Return which singular values are 0 to rounding."""
    return s <= 4 * max(s.shape[-1], 2) * np.finfo(s.dtype).eps * s.max(-1, initial=0)[..., None]


tied_p, vanishing = frozen("tied", tied_fun), frozen("vanishing", vanishing_fun)


def tied(s: Array, near: float | None = None) -> Array:
    return tied_p(s, near=near)


def reciprocal(x: Array, skip: Array) -> Array:
    """Return 1/x, and 0 where ``skip`` holds."""
    return np.where(skip, 0.0, 1 / np.where(skip, 1.0, x))


def rates(s: Array) -> Array:
    """Return 1/(s_j - s_i), and 0 on the diagonal and at ties."""
    gap = np.expand_dims(s, -2) - np.expand_dims(s, -1)
    return reciprocal(gap, np.logical_or(tied(s), np.eye(shape_of(s)[-1], dtype=bool)))


def mixed(X: np.ndarray, s: np.ndarray) -> Array:
    """Return which pairs of a tie a tangent mixes: single ones of them have no derivative along it."""
    size, eps = np.abs(X), np.finfo(s.dtype).eps
    return tied(s) & (size > 64 * eps * size.max((-2, -1), keepdims=True, initial=0))


def turned(X: np.ndarray, W: np.ndarray, s: np.ndarray, ties: str) -> Array:
    return W @ np.where(mixed(X, s), np.nan, X * rates(s))


def turned_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], ties: str) -> Array:
    X, W, s = args
    tX, tW, ts = tangents
    F, terms = rates(s), []
    if tX is not None:
        terms.append(turned_p(tX, W, s, ties=ties))
    if tW is not None:
        terms.append(tW @ (X * F))
    if ts is not None:
        terms.append(W @ (X * -F * F * (np.expand_dims(ts, -2) - np.expand_dims(ts, -1))))
    return sum(terms[1:], terms[0])


def turned_back(ct: Array, X: Any, W: Array, s: Array, ties: str) -> Array:
    C = swap(W) @ ct
    check_basis(concrete(ct), concrete(C), s, ties)
    return C * rates(s)


turned_p: Primitive = Primitive(  # W (X / gaps): how vectors W turn, for a Hermitian X
    "eigenvectors",
    turned,
    turned_jvp,
    transpose={0: turned_back},
    shape=lambda X, W, s, ties: product_shape(W, X),
    batch=lambda args, batched, ties: turned_batch(args, batched, ties),
)


def turned_batch(args: Sequence[Array], batched: Sequence[bool], ties: str) -> Array:
    X, W, s = args
    wide = stacked(lambda: lambda *a: a)((X, W, np.expand_dims(s, -2)), batched)
    return turned_p(wide[0], wide[1], wide[2][..., 0, :], ties=ties)


def check_basis(ct: np.ndarray, C: np.ndarray, s: Array, ties: str) -> None:
    """Refuse a cotangent that asks for the derivative of a vector that has none."""
    pairs = concrete(tied(s) if ties == "error" else tied(s, NEAR))
    if not pairs.any():
        return
    used = (ct != 0).any(-2)
    if ties == "error":
        if not (pairs & (used[..., :, None] | used[..., None, :])).any():
            return
        raise TieError(
            "np.linalg.svd or eigh",
            f"{describe(s, pairs)}, and the function uses their vectors, which have no derivative{at_line()}",
            "If the function is the same for every basis (a projection, a polar factor, "
            'a norm), call low_rank, polar, svdfun, eigfun, or eckart.autodiff.scipy.svd(A, ties="jitter")',
        )
    residue = np.abs(C - C.conj().swapaxes(-1, -2)) * pairs
    if residue.max() > 1e-3 * np.abs(ct).max(initial=0):
        raise TieError(
            "np.linalg.svd or eigh",
            f"the function depends on the choice of basis where {describe(s, pairs)}; its "
            f"derivative does not exist{at_line()}",
            "Use functions of the space, not of single vectors",
        )


def describe(s: Array, pairs: np.ndarray) -> str:
    *stack, i, j = (int(k) for k in np.argwhere(pairs)[0])
    values = concrete(s)[tuple(stack)]
    return f"values {i} and {j} are equal ({values[i]:.6g}, {values[j]:.6g})"


def over(X: np.ndarray, s: np.ndarray) -> Array:
    """Return the columns of X divided by the values, 0/0 = 0."""
    null = vanishing(s)[..., None, :]
    return np.where(null, np.where(X == 0, 0, np.nan), X / np.where(null, 1, s[..., None, :]))


def over_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any]) -> Array:
    X, s = args
    tX, ts = tangents
    direct = None if tX is None else over_p(tX, s)
    if ts is None:
        return direct
    inverse = reciprocal(s, vanishing(s))
    moved = X * np.expand_dims(-inverse * inverse * ts, -2)
    return moved if direct is None else direct + moved


def over_back(ct: Array, X: Any, s: Array) -> Array:
    null = concrete(vanishing(s))
    if (null[..., None, :] & (concrete(ct) != 0)).any():
        raise TieError(
            "np.linalg.svd",
            f"a singular value is 0, and the function uses its vector, which has no derivative{at_line()}",
            "Use the leading vectors only, or low_rank, polar, pinv",
        )
    return ct * np.expand_dims(reciprocal(s, vanishing(s)), -2)


over_p: Primitive = Primitive(
    "singular vectors", over, over_jvp, transpose={0: over_back}, shape=lambda X, s: shape_of(X),
    batch=lambda args, batched: over_batch(args, batched),
)  # fmt: skip


def over_batch(args: Sequence[Array], batched: Sequence[bool]) -> Array:
    wide = stacked(lambda: lambda *a: a)((args[0], np.expand_dims(args[1], -2)), batched)
    return over_p(wide[0], wide[1][..., 0, :])


def values_back(ct: Array, X: Any, s: Array, ties: str) -> Array:
    """Refuse different cotangents for equal values: the largest of two equal ones has no derivative."""
    pairs, c = concrete(tied(s)), concrete(ct)
    uneven = np.abs(c[..., :, None] - c[..., None, :]) > 1e-6 * np.abs(c).max(initial=0)
    if ties == "error" and pairs.any() and (pairs & uneven).any():
        raise TieError(
            "np.linalg.svdvals or eigvalsh",
            f"{describe(s, pairs)}, and the function treats them differently: no derivative{at_line()}",
            "Use a symmetric function of them, such as their sum",
        )
    return np.expand_dims(ct, -1) * np.eye(shape_of(s)[-1])


def values(X: np.ndarray, s: np.ndarray, ties: str) -> Array:
    return np.where(mixed(X, s).any(-1), np.nan, diagonal(X))


values_p: Primitive = Primitive(  # the diagonal of a Hermitian X: how the values move
    "singular values",
    values,
    transpose={0: values_back},
    shape=lambda X, s, ties: shape_of(X)[:-1],
    jvp=lambda y, args, tangents, ties: (
        values_p(tangents[0], args[1], ties=ties) if tangents[0] is not None else None
    ),
    batch=lambda args, batched, ties: values_p(*same_rank(args, batched), ties=ties),
)


def same_rank(args: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    size = next(shape_of(a)[0] for a, b in zip(args, batched, strict=True) if b)
    return [a if b else np.broadcast_to(a, (size, *shape_of(a))) for a, b in zip(args, batched, strict=True)]


def doubt(out: Any, dot: Any) -> TieError | None:
    """Return the error to raise if a derivative that forward mode does not have is used after all."""
    if not any(np.isnan(concrete(t)).any() for t in dot):
        return None
    s = out[0] if len(out) == 2 else out[1]  # of (w, V), or of (U, s, Vh)
    pairs = concrete(tied(s))
    what = describe(s, pairs) if pairs.any() else "a singular value is 0"
    return TieError(
        "np.linalg.svd or eigh",
        f"{what}, and the function uses one of them or its vector, which have no derivative along this "
        f"tangent{at_line()}",
        "Call grad for a symmetric function of them, low_rank, polar, svdfun or eigfun for one of the space",
    )


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


eigh_p: Primitive = Primitive("linalg.eigh", eigh_fun, eigh_jvp, batch=stacked(lambda: eigh_p))
eigh_p.doubt = doubt
EighResult: Any = type(np.linalg.eigh(np.eye(1)))


@implements(np.linalg.eigh)
def eigh(a: Array, UPLO: str = "L", ties: str = "error") -> Any:
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


svd_p: Primitive = Primitive("linalg.svd", svd_fun, svd_jvp, batch=stacked(lambda: svd_p))
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


eig_p: Primitive = Primitive(
    "linalg.eig", lambda a: tuple(np.linalg.eig(a)), eig_jvp, batch=stacked(lambda: eig_p)
)
EigResult: Any = type(np.linalg.eig(np.eye(1)))
implements(np.linalg.eig)(lambda a: EigResult(*eig_p(a)))
implements(np.linalg.eigvals)(lambda a: eig_p(a)[0])
