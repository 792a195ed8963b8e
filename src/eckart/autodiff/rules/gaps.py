"""Dividing by gaps between singular values or eigenvalues, and what to do where they are equal.

There single vectors have no derivative: ``turned`` and ``over`` are the two divisions. In reverse they refuse
where the function uses a vector that has none. Forward they give NaN, which may meet only what is cut off
afterwards; where it reaches the result, `jvp` raises the error that ``doubt`` has made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, concrete, shape_of
from ..errors import TieError, at_line
from ..vmap import align, repeated
from .linalg import product_shape
from .reduce import frozen
from .spectral import swap

NEAR = 1e-6  # of the largest value: gaps in which a jittered decomposition is watched


def diagonal(a: Array) -> Array:
    return np.diagonal(a, 0, -2, -1)


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
    X, W, row = align((X, W, np.expand_dims(s, -2)), batched)
    return turned_p(X, W, row[..., 0, :], ties=ties)


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
    X, row = align((args[0], np.expand_dims(args[1], -2)), batched)
    return over_p(X, row[..., 0, :])


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
    batch=lambda args, batched, ties: values_p(*repeated(args, batched), ties=ties),
)


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
