"""Division by the gaps between singular values or eigenvalues, and errors where a derivative does not exist.

Single vectors have no derivative where values are equal. There the rules multiply by 0 instead of dividing by
the gap, which alone would give a wrong result silently. Tangents and cotangents therefore pass through
primitives that return their first argument and inspect it (`inspecting_identity`). In forward mode these turn
the tangent into NaN where there is no derivative along it. NaN may still be dropped later, for example with
the vectors that a truncated SVD does not use; if it reaches the result, `jvp` raises the error prepared by
`explain_nan`. In reverse mode these primitives refuse a cotangent for which the derivative does not exist.

``row`` denotes the values in the shape (..., 1, k), which broadcasts over columns.
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


def find_tied(row: np.ndarray, near: float | None = None) -> Array:
    """Return which pairs of values are equal up to rounding, or up to ``near`` times the largest value.

    The result has shape (..., k, k).
    """
    k = row.shape[-1]
    tol = 4 * max(k, 2) * np.finfo(row.dtype).eps if near is None else near
    scale = np.abs(row).max(-1, keepdims=True, initial=0)
    return (np.abs(swap(row) - row) <= tol * scale) & ~np.eye(k, dtype=bool)


def find_vanishing(row: np.ndarray) -> Array:
    """Return which singular values are 0 up to rounding."""
    return row <= 4 * max(row.shape[-1], 2) * np.finfo(row.dtype).eps * row.max(-1, keepdims=True, initial=0)


tied = frozen("tied", find_tied)
vanishing = frozen("vanishing", find_vanishing)


def reciprocal(x: Array, skip: Array) -> Array:
    """Return 1/x, and 0 where ``skip`` holds."""
    return np.where(skip, 0.0, 1 / np.where(skip, 1.0, x))


def inverse_gaps(row: Array) -> Array:
    """Return 1/(s_j - s_i), and 0 on the diagonal and at ties."""
    return reciprocal(row - swap(row), np.logical_or(tied(row), np.eye(shape_of(row)[-1], dtype=bool)))


def jitter_size(dtype: Any) -> float:
    """Return the size of the perturbation at ties, relative to the largest value: well above rounding."""
    return max(1e-7, float(np.sqrt(np.finfo(dtype).eps)))


def decompose_with_ties(
    decompose: Callable[..., Any], a: np.ndarray, ties: str, **options: Any
) -> tuple[Array, ...]:
    """Return the factors of a matrix; with ``ties="jitter"``, of a perturbed one if values are close.

    The perturbation is the same in every call.
    """
    if ties not in ("error", "jitter"):
        raise ArgumentError(
            "ties", f'the policy must be "error" or "jitter", not {ties!r}', 'Use ties="error"'
        )
    out = tuple(decompose(a, **options))
    if ties == "error":
        return out
    s, step = out[-2], jitter_size(a.dtype)  # the values of (w, V) or of (U, s, Vh)
    close = tied(s[..., None, :], near=step / 10).any((-2, -1))
    noise = np.random.default_rng(20).standard_normal(a.shape[-2:])
    if len(out) == 2:
        noise = (noise + noise.T) / 2
    else:
        close |= vanishing(s[..., None, :]).any((-2, -1))
    size = np.abs(s).max(-1, initial=0)
    move = step * np.where(close, np.where(size == 0, 1, size), 0)
    return tuple(decompose((a + move[..., None, None] * noise).astype(a.dtype), **options))


# --- identities that inspect tangents and cotangents ------------------------------------------------------


def inspecting_identity(name: str, tangent: Any = None, cotangent: Any = None) -> Callable[..., Any]:
    """Return a primitive that is the identity in its first argument and inspects what passes through it.

    ``tangent(t, *known, **params)`` and ``cotangent(ct, *known, **params)`` return what passes on, or raise
    an error. The tangent of a cotangent is not inspected: where a cotangent may pass, so may its tangent.
    """

    def inspect(t: Array, *known: Array, reverse: bool, **params: Any) -> Array:
        inspector = cotangent if reverse else tangent
        return t if inspector is None else inspector(t, *known, **params)

    def jvp(y: Array, args: Any, tangents: Any, reverse: bool, **params: Any) -> Any:
        t = tangents[0]
        return t if reverse or t is None else prim(t, *args[1:], reverse=False, **params)

    def back(ct: Array, x: Array, *known: Array, reverse: bool, **params: Any) -> Array:
        return prim(ct, *known, reverse=not reverse, **params)

    prim: Primitive = Primitive(
        name,
        inspect,
        jvp,
        transpose={0: back},
        shape=lambda t, *known, **params: shape_of(t),
        batch=lambda args, batched, **params: prim(*repeated(args, batched), **params),
    )
    return partial(prim, reverse=False)


def nan_where_ties_mix(X: np.ndarray, row: np.ndarray) -> Array:
    """Return X = V^H t V with NaN at tied pairs that the tangent t mixes, and at both of their values."""
    size, eps = np.abs(X), np.finfo(row.dtype).eps
    pairs = tied(row) & (size > 64 * eps * size.max((-2, -1), keepdims=True, initial=0))
    return np.where(pairs | (np.eye(row.shape[-1], dtype=bool) & pairs.any(-1, keepdims=True)), np.nan, X)


def check_uneven(c: np.ndarray, s: np.ndarray, ties: str) -> Array:
    """Refuse different cotangents for equal values: the largest of two equal values has no derivative."""
    row = s[..., None, :]
    uneven = tied(row) & (np.abs(c[..., None] - c[..., None, :]) > 1e-6 * np.abs(c).max(initial=0))
    if ties == "error" and uneven.any():
        cause = f"{describe(row, uneven)}, and the function treats them differently"
        what = f"{cause}, so there is no derivative{at_line()}"
        fix = "Use a symmetric function of them, such as their sum"
        raise TieError("np.linalg.svdvals or eigvalsh", what, fix)
    return c


def check_basis(c: np.ndarray, W: np.ndarray, row: np.ndarray, ties: str, real: bool = False) -> Array:
    """Refuse a cotangent that belongs to a single vector of a tie, or that depends on the choice of basis.

    A function does not depend on the basis if W^T c is Hermitian among the vectors that may be rotated into
    each other. For complex vectors, whose phase is free, this includes the diagonal; with ``real`` (vectors
    of a real matrix) only at complex eigenvalues.
    """
    pairs = tied(row, near=None if ties == "error" else 10 * jitter_size(row.dtype))
    used = (c != 0).any(-2, keepdims=True)
    if ties == "error" and (pairs & (used | swap(used))).any():
        cause = f"{describe(row, pairs)}, and the function uses their vectors"
        what = f"{cause}, so there is no derivative{at_line()}"
        fix = (
            "If the function is the same for every basis (a projection, a polar factor, a norm), use "
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
                free = (
                    describe(row, pairs)
                    if row.any()
                    else "the extra vectors of a full SVD are an arbitrary basis"
                )
            cause = f"the function depends on the choice of basis where {free}"
            what = f"{cause}, so there is no derivative{at_line()}"
            fix = "Use functions of the space, not of single vectors, and take all factors from one call"
            raise TieError("np.linalg.svd or eigh", what, fix)
    return c


def nan_at_null_vectors(X: np.ndarray, row: np.ndarray) -> Array:
    """Return X with NaN at nonzero entries that belong to a singular value 0."""
    return np.where(vanishing(row) & (X != 0), np.nan, X)


def check_null_vectors(c: np.ndarray, row: np.ndarray) -> Array:
    """Refuse a cotangent of the vector of a singular value 0, which has no derivative."""
    if (vanishing(row) & (c != 0)).any():
        what = (
            f"a singular value is 0, and the function uses its vector, so there is no derivative{at_line()}"
        )
        raise TieError("np.linalg.svd", what, "Use the leading vectors only, or low_rank, polar, pinv")
    return c


mark_mixed_ties = inspecting_identity("mark mixed ties", tangent=nan_where_ties_mix)
refuse_uneven_cotangents = inspecting_identity("refuse uneven cotangents", cotangent=check_uneven)
refuse_basis_dependence = inspecting_identity("refuse basis dependence", cotangent=check_basis)
refuse_null_vectors = inspecting_identity("refuse null vectors", nan_at_null_vectors, check_null_vectors)


def describe(row: np.ndarray, pairs: np.ndarray) -> str:
    """Return the first pair of equal values in words, with their numbers and sizes."""
    if not pairs.any():
        return "a singular value is 0"
    *stack, i, j = (int(k) for k in np.argwhere(pairs)[0])
    s = np.broadcast_to(row, (*pairs.shape[:-2], *row.shape[-2:]))[tuple(stack)][0]
    return f"values {i} and {j} are equal ({s[i]:.6g}, {s[j]:.6g})"


def explain_nan(out: Any, dot: Any) -> TieError | None:
    """Return the error that `jvp` raises if a NaN in the tangent of a decomposition reaches the result."""
    if not any(np.isnan(concrete(t)).any() for t in dot):
        return None
    row = concrete(out[-2][..., None, :])
    pairs = tied(row)
    used = "one of them or its vector" if pairs.any() else "its vector"
    cause = f"{describe(row, pairs)}, and the function uses {used}"
    what = f"{cause}, so there is no derivative along this tangent{at_line()}"
    fix = "Use the leading vectors only, or low_rank, polar, pinv"
    if pairs.any():
        fix = (
            "Use grad for a symmetric function of the values; use low_rank, polar, svdfun or eigfun for a "
            "function of the space"
        )
    return TieError("np.linalg.svd or eigh", what, fix)
