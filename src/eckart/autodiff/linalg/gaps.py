"""Dividing by the gaps between singular values or eigenvalues, and noticing where there is no derivative.

At equal values single vectors have none. There the rules multiply by 0 instead of dividing, and what this
would hide is caught by identities on the way that look at what passes (`watch`). Forward they see the
tangent, and make NaN of what has no derivative along it; that may only meet what is cut off afterwards: where
NaN reaches the result, `jvp` raises the error that `doubt` has made. In reverse they see the cotangent, and
refuse one that asks for a derivative that does not exist. A row is the values as (..., 1, k), to broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core import Array, Primitive, concrete, shape_of
from ..errors import ArgumentError, TieError, at_line
from ..rules.elementwise import frozen
from ..rules.products import swap
from ..vmap import repeated


@partial(frozen, "tied")
def tied(row: np.ndarray, near: float | None = None) -> Array:
    """Return which pairs of values are equal to rounding (or to ``near``), of their largest: (..., k, k)."""
    k = row.shape[-1]
    tol = 4 * max(k, 2) * np.finfo(row.dtype).eps if near is None else near
    scale = np.abs(row).max(-1, keepdims=True, initial=0)
    return (np.abs(swap(row) - row) <= tol * scale) & ~np.eye(k, dtype=bool)


@partial(frozen, "vanishing")
def vanishing(row: np.ndarray) -> Array:
    """Return which singular values are 0 to rounding."""
    return row <= 4 * max(row.shape[-1], 2) * np.finfo(row.dtype).eps * row.max(-1, keepdims=True, initial=0)


def reciprocal(x: Array, skip: Array) -> Array:
    """Return 1/x, and 0 where ``skip`` holds."""
    return np.where(skip, 0.0, 1 / np.where(skip, 1.0, x))


def rates(row: Array) -> Array:
    """Return 1/(s_j - s_i), and 0 on the diagonal and at ties."""
    return reciprocal(row - swap(row), np.logical_or(tied(row), np.eye(shape_of(row)[-1], dtype=bool)))


def jitter(dtype: Any) -> float:
    """Return the move away from a tie, as a part of the largest value: well above rounding."""
    return max(1e-7, float(np.sqrt(np.finfo(dtype).eps)))


def apart(decompose: Callable[..., Any], a: np.ndarray, ties: str, **options: Any) -> tuple[Array, ...]:
    """Return the factors; with "jitter", of a matrix moved a little, always alike, where values are close."""
    if ties not in ("error", "jitter"):
        raise ArgumentError("ties", f"{ties!r} is not a policy", 'Write "error" or "jitter"')
    out = tuple(decompose(a, **options))
    if ties == "error":
        return out
    s, step = out[-2], jitter(a.dtype)  # the values of (w, V), or of (U, s, Vh)
    close = tied(s[..., None, :], near=step / 10).any((-2, -1))
    noise = np.random.default_rng(20).standard_normal(a.shape[-2:])
    if len(out) == 2:
        noise = (noise + noise.T) / 2
    else:
        close |= vanishing(s[..., None, :]).any((-2, -1))
    size = np.abs(s).max(-1, initial=0)
    move = step * np.where(close, np.where(size == 0, 1, size), 0)
    return tuple(decompose((a + move[..., None, None] * noise).astype(a.dtype), **options))


# --- identities that look at what passes ------------------------------------------------------------------


def watch(name: str, forward: Any, backward: Any = None) -> Callable[..., Any]:
    """Return the identity in its first argument, with a look at tangents and one at cotangents as they pass.

    What a look returns passes on. The tangent of a cotangent is not looked at: where the cotangent may pass,
    so may its tangent.
    """

    def pass_by(t: Array, *known: Array, reverse: bool, **params: Any) -> Array:
        look = backward if reverse else forward
        return t if look is None else look(t, *known, **params)

    def jvp(y: Array, args: Any, tangents: Any, reverse: bool, **params: Any) -> Any:
        t = tangents[0]
        return t if reverse or t is None else prim(t, *args[1:], reverse=False, **params)

    def back(ct: Array, x: Array, *known: Array, reverse: bool, **params: Any) -> Array:
        return prim(ct, *known, reverse=not reverse, **params)

    prim: Primitive = Primitive(
        name, pass_by, jvp, transpose={0: back}, shape=lambda t, *known, **params: shape_of(t),
        batch=lambda args, batched, **params: prim(*repeated(args, batched), **params),
    )  # fmt: skip
    return partial(prim, reverse=False)


@partial(watch, "mixing")
def mixing(X: np.ndarray, row: np.ndarray) -> Array:
    """Mark the pairs of a tie that a tangent mixes, and both values: they have no derivative along it."""
    size, eps = np.abs(X), np.finfo(row.dtype).eps
    pairs = tied(row) & (size > 64 * eps * size.max((-2, -1), keepdims=True, initial=0))
    return np.where(pairs | (np.eye(row.shape[-1], dtype=bool) & pairs.any(-1, keepdims=True)), np.nan, X)


@partial(watch, "values", None)
def values(c: np.ndarray, s: np.ndarray, ties: str) -> Array:
    """Refuse different cotangents for equal values: the largest of two equal ones has no derivative."""
    row = s[..., None, :]
    uneven = tied(row) & (np.abs(c[..., None] - c[..., None, :]) > 1e-6 * np.abs(c).max(initial=0))
    if ties == "error" and uneven.any():
        what = f"{describe(row, uneven)}, and the function treats them differently{at_line()}: no derivative"
        fix = "Use a symmetric function of them, such as their sum"
        raise TieError("np.linalg.svdvals or eigvalsh", what, fix)
    return c


@partial(watch, "vectors", None)
def vectors(c: np.ndarray, W: np.ndarray, row: np.ndarray, ties: str, real: bool = False) -> Array:
    """Refuse a cotangent that asks for one vector of a tie, or depends on the choice of basis.

    It does not where W^T c is Hermitian among the vectors that may be turned into each other: on the diagonal
    for complex vectors, whose phase is free (``real``: of a real matrix, only those of complex eigenvalues).
    """
    pairs = tied(row, near=None if ties == "error" else 10 * jitter(row.dtype))
    used = (c != 0).any(-2, keepdims=True)
    if ties == "error" and (pairs & (used | swap(used))).any():
        what = f"{describe(row, pairs)}, and the function uses their vectors{at_line()}: no derivative"
        fix = (
            "If the function is the same for every basis (a projection, a polar factor, a norm), call "
            'low_rank, polar, svdfun, eigfun, or eckart.autodiff.scipy.svd(A, ties="jitter")'
        )
        raise TieError("np.linalg.svd or eigh", what, fix)
    phases = np.eye(row.shape[-1], dtype=bool) & np.iscomplexobj(W) & (np.imag(row) != 0 if real else True)
    loose = phases if ties == "error" else phases | pairs
    if loose.any():
        C = swap(W) @ c
        if (np.abs(C - swap(C).conj()) * loose).max() > 1e-3 * np.abs(c).max(initial=0):
            free = "the phase of a complex vector is free"
            if ties == "jitter" and pairs.any():
                free = describe(row, pairs) if row.any() else "the extra vectors of a full svd are any basis"
            what = f"the function depends on the choice of basis where {free}{at_line()}: no derivative"
            fix = "Use functions of the space, not of single vectors, and take its factors from one call"
            raise TieError("np.linalg.svd, eigh or eig", what, fix)
    return c


@partial(watch, "past the values", lambda X, row: np.where(vanishing(row) & (X != 0), np.nan, X))
def past(c: np.ndarray, row: np.ndarray) -> Array:
    """Refuse a cotangent that asks for the vector of a singular value 0; its tangent is no number."""
    if (vanishing(row) & (c != 0)).any():
        what = f"a singular value is 0, and the function uses its vector{at_line()}: no derivative"
        raise TieError("np.linalg.svd", what, "Use the leading vectors only, or low_rank, polar, pinv")
    return c


def describe(row: np.ndarray, pairs: np.ndarray) -> str:
    if not pairs.any():
        return "a singular value is 0"
    *stack, i, j = (int(k) for k in np.argwhere(pairs)[0])
    s = np.broadcast_to(row, (*pairs.shape[:-2], *row.shape[-2:]))[tuple(stack)][0]
    return f"values {i} and {j} are equal ({s[i]:.6g}, {s[j]:.6g})"


def doubt(out: Any, dot: Any) -> TieError | None:
    """Return the error to raise if a derivative that forward mode does not have is used after all."""
    if not any(np.isnan(concrete(t)).any() for t in dot):
        return None
    row = concrete(out[-2][..., None, :])
    pairs = tied(row)
    used = "one of them or its vector" if pairs.any() else "its vector"
    what = f"{describe(row, pairs)}, and the function uses {used}{at_line()}"
    fix = "Call grad for a symmetric function of them, low_rank, polar, svdfun or eigfun for one of the space"
    fix = fix if pairs.any() else "Use the leading vectors only, or low_rank, polar, pinv"
    return TieError("np.linalg.svd or eigh", f"{what}: no derivative along this tangent", fix)
