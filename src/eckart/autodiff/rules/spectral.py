"""Functions of the spectrum as primitives, exact where eigenvalues or singular values are equal.

For A = V diag(w) V^H and F = V diag(f(w)) V^H the derivative along T is V (D * V^H T V) V^H with divided
differences D_ij = f[w_i, w_j], which is f' where w_i = w_j (Daleckii & Krein, 1965); the second derivative
has f[w_i, w_k, w_j] in the same place. For singular values, U diag(f(s)) V^H with f odd is the off-diagonal
block of the same function of [[0, A], [A^H, 0]] (Noferini, SIAM J. Matrix Anal. 38, 2017): the symmetric
part of U^H T V is multiplied by f[s_i, s_j], the skew part by f[s_i, -s_j], the rest of T by f[s_i, 0].

No tangent of a single eigenvector is ever formed, which is what fails at ties in the usual rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import Array, Primitive, shape_of
from ..errors import MissingRuleError, TieError, at_line
from ..vmap import align
from .complex import is_complex

Scalar = Callable[..., Any]


class Spectral(NamedTuple):
    """A function of one real number with its divided differences; ``cut`` is a parameter of it."""

    name: str
    f: Scalar  # (w, cut)
    first: Scalar  # f[a, b], (a, b, cut)
    second: Scalar  # f[a, b, c], (a, b, c, cut)


def smooth(f: Scalar, df: Scalar, d2f: Scalar | None) -> Spectral:
    """Return a smooth function from its derivatives, which stand in for quotients of close arguments.

    Arguments closer than 1e-5 (first differences) or 1e-3 (second) of their size count as close: relative
    errors of the order of 1e-10 and 1e-6.
    """

    def first(a: Array, b: Array, cut: Array) -> Array:
        near = np.abs(a - b) <= 1e-5 * np.maximum(np.abs(a), np.abs(b))
        return np.where(near, df((a + b) / 2), (f(a) - f(b)) / np.where(near, 1, a - b))

    def second(a: Array, b: Array, c: Array, cut: Array) -> Array:
        if d2f is None:
            raise MissingRuleError(
                "eigfun", f"second derivatives need the second derivative of f{at_line()}", "Give d2f"
            )
        low, middle, high = np.moveaxis(np.sort(np.stack(np.broadcast_arrays(a, b, c)), axis=0), 0, 0)
        near = high - low <= 1e-3 * np.maximum(np.abs(high), np.abs(low))
        quotient = (first(high, middle, cut) - first(middle, low, cut)) / np.where(near, 1, high - low)
        return np.where(near, d2f((low + middle + high) / 3) / 2, quotient)

    return Spectral("smooth", lambda w, cut: f(w), first, second)


def shrink(name: str, slope: float, step: float) -> Spectral:
    """Return f(w) = slope w + step sign(w) where abs(w) > cut, 0 elsewhere: differences by branch, exact."""

    def branch(w: Array, cut: Array) -> Array:
        return np.sign(w) * (np.abs(w) > cut)

    def f(w: Array, cut: Array) -> Array:
        return (slope * np.abs(w) + step) * branch(w, cut)

    def first(a: Array, b: Array, cut: Array) -> Array:
        here, there = branch(a, cut), branch(b, cut)
        same = here == there
        return np.where(same, slope * np.abs(here), (f(a, cut) - f(b, cut)) / np.where(same, 1, a - b))

    def second(a: Array, b: Array, c: Array, cut: Array) -> Array:
        a, b, c = np.broadcast_arrays(a, b, c)
        i, k = branch(a, cut), branch(c, cut)
        # the outer two are to lie on different branches, so that their distance is not 0
        a, b, c = np.where(i == k, b, a), np.where(i == k, a, b), c
        i, k = branch(a, cut), branch(c, cut)
        swap = (i == k) & (branch(b, cut) != i)
        a, b = np.where(swap, b, a), np.where(swap, a, b)
        same = branch(a, cut) == branch(c, cut)
        return np.where(same, 0.0, (first(a, b, cut) - first(b, c, cut)) / np.where(same, 1, a - c))

    return Spectral(name, f, first, second)


KEEP, SIGN = shrink("low rank", 1.0, 0.0), shrink("polar", 0.0, 1.0)


def swap(a: Array) -> Array:
    """Return the transpose of the last two axes."""
    return np.swapaxes(a, -1, -2)


def adjoint(a: Array) -> Array:
    """Return the conjugate transpose."""
    return np.conj(swap(a)) if is_complex(a) else swap(a)


def symmetric(t: Array) -> Array:
    """Return (t + t^H)/2: functions of symmetric matrices are differentiated along symmetric directions."""
    return (t + adjoint(t)) / 2


def lead(args: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    """Align matrices behind the batch axis, and ``cut`` (last), which has two axes fewer."""
    *matrices, cut = align([*args[:-1], np.expand_dims(args[-1], (-2, -1))], batched)
    return [*matrices, cut[..., 0, 0]]


def spread(cut: Array) -> Array:
    return np.asarray(cut)[..., None]


# --- of Hermitian matrices ------------------------------------------------------------------------------


def eig_value(a: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    w, V = np.linalg.eigh(a)
    return (V * fun.f(w, spread(cut))[..., None, :]) @ adjoint(V)


def eig_slope(a: np.ndarray, t: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    w, V = np.linalg.eigh(a)
    D = fun.first(w[..., :, None], w[..., None, :], spread(spread(cut)))
    return V @ (D * (adjoint(V) @ t @ V)) @ adjoint(V)


def eig_bend(a: np.ndarray, t: np.ndarray, u: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    w, V = np.linalg.eigh(a)
    T, U = (adjoint(V) @ x @ V for x in (t, u))
    D = fun.second(
        w[..., :, None, None], w[..., None, :, None], w[..., None, None, :], cut[..., None, None, None]
    )
    inner = np.einsum("...ikj,...ik,...kj->...ij", D, T, U) + np.einsum("...ikj,...ik,...kj->...ij", D, U, T)
    return V @ inner @ adjoint(V)


def eig_slope_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Spectral) -> Array:
    a, t, cut = args
    ta, tt, _ = tangents
    along = None if tt is None else eig_slope_p(a, tt, cut, fun=fun)
    if ta is None:
        return along
    bend = eig_bend_p(a, t, symmetric(ta), cut, fun=fun)
    return bend if along is None else along + bend


def eig_bend_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Spectral) -> Array:
    a, t, u, cut = args
    if tangents[0] is not None:
        raise MissingRuleError(
            f"spectral function {fun.name}",
            f"third derivatives are not known{at_line()}",
            "Use np.linalg.eigh",
        )
    terms = []
    if tangents[1] is not None:
        terms.append(eig_bend_p(a, tangents[1], u, cut, fun=fun))
    if tangents[2] is not None:
        terms.append(eig_bend_p(a, t, tangents[2], cut, fun=fun))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def batched(prim: Any) -> Any:
    return lambda args, marks, fun: prim()(*lead(args, marks), fun=fun)


eig_value_p: Primitive = Primitive(
    "eigfun",
    eig_value,
    lambda y, args, tangents, fun: eig_slope_p(args[0], symmetric(tangents[0]), args[1], fun=fun),
    batch=batched(lambda: eig_value_p),
)
eig_slope_p: Primitive = Primitive(
    "eigfun slope", eig_slope, eig_slope_jvp, shape=lambda a, t, cut, fun: shape_of(t),
    transpose={1: lambda ct, a, t, cut, fun: eig_slope_p(np.conj(a), ct, cut, fun=fun)},
    batch=batched(lambda: eig_slope_p),
)  # fmt: skip
eig_bend_p: Primitive = Primitive(
    "eigfun bend", eig_bend, eig_bend_jvp, shape=lambda a, t, u, cut, fun: shape_of(t),
    transpose={
        1: lambda ct, a, t, u, cut, fun: eig_bend_p(np.conj(a), ct, swap(u), cut, fun=fun),
        2: lambda ct, a, t, u, cut, fun: eig_bend_p(np.conj(a), ct, swap(t), cut, fun=fun),
    },
    batch=batched(lambda: eig_bend_p),
)  # fmt: skip


# --- of singular values ----------------------------------------------------------------------------------


def svd_value(a: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    return (U * fun.f(s, spread(cut))[..., None, :]) @ Vh


def svd_slope(a: np.ndarray, t: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    check_branches(fun, s, cut)
    K, KH = adjoint(U) @ t @ adjoint(Vh), Vh @ adjoint(t) @ U
    si, sj, level = s[..., :, None], s[..., None, :], spread(spread(cut))
    inner = fun.first(si, sj, level) * (K + KH) / 2 + fun.first(si, -sj, level) * (K - KH) / 2
    rest = fun.first(s, np.zeros_like(s), spread(cut))[..., None, :]  # f[s, 0]
    left = (t @ adjoint(Vh) - U @ K) * rest  # what lies outside the column space
    right = (adjoint(t) @ U - adjoint(Vh) @ adjoint(K)) * rest
    return (U @ inner + left) @ Vh + U @ adjoint(right)


def check_branches(fun: Spectral, s: np.ndarray, cut: np.ndarray) -> None:
    """Refuse a derivative where a singular value lies on the cut, and f jumps or bends."""
    if fun not in (KEEP, SIGN) or not s.size:
        return
    near = np.finfo(s.dtype).eps * max(s.shape[-1], 8) * s.max(-1, keepdims=True)
    if np.any(np.abs(s - spread(cut)) <= near):
        raise TieError(
            fun.name,
            f"a singular value lies on the cut, or vanishes{at_line()}: no derivative",
            "Cut at another place",
        )


def dilation(a: Array) -> Array:
    """Return [[0, A], [A^H, 0]], whose eigenvalues are plus and minus the singular values, and zeros."""
    m, n = shape_of(a)[-2:]
    ah = adjoint(a)
    top = np.concatenate([np.zeros((*shape_of(a)[:-2], m, m)), a], axis=-1)
    return np.concatenate([top, np.concatenate([ah, np.zeros((*shape_of(a)[:-2], n, n))], axis=-1)], axis=-2)


def svd_slope_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Spectral) -> Array:
    a, t, cut = args
    ta, tt, _ = tangents
    along = None if tt is None else svd_slope_p(a, tt, cut, fun=fun)
    if ta is None:
        return along
    m = shape_of(a)[-2]
    bend = eig_bend_p(dilation(a), dilation(t), dilation(ta), cut, fun=fun)[..., :m, m:]
    return bend if along is None else along + bend


svd_value_p: Primitive = Primitive(
    "svdfun", svd_value, lambda y, args, tangents, fun: svd_slope_p(args[0], tangents[0], args[1], fun=fun),
    batch=batched(lambda: svd_value_p),
)  # fmt: skip
svd_slope_p: Primitive = Primitive(
    "svdfun slope", svd_slope, svd_slope_jvp, shape=lambda a, t, cut, fun: shape_of(t),
    transpose={1: lambda ct, a, t, cut, fun: svd_slope_p(np.conj(a), ct, cut, fun=fun)},
    batch=batched(lambda: svd_slope_p),
)  # fmt: skip
