"""Functions of the spectrum as primitives, exact where eigenvalues or singular values are equal.

For A = V diag(w) V^H and F = V diag(f(w)) V^H the derivative along T is V (D * V^H T V) V^H with divided
differences D_ij = f[w_i, w_j], which is f' where w_i = w_j (Daleckii & Krein, 1965); the second derivative
has f[w_i, w_k, w_j] in the same place. For singular values, U diag(f(s)) V^H with f odd is the off-diagonal
block of the same function of [[0, A], [A^H, 0]] (Noferini, SIAM J. Matrix Anal. 38, 2017): the symmetric
part of U^H T V is multiplied by f[s_i, s_j], the skew part by f[s_i, -s_j], the rest of T by f[s_i, 0].

No tangent of a single eigenvector is ever formed, which is what fails at ties in the usual rules. Values are
rows (..., 1, n), and ``cut``, a parameter of the function, is (..., 1, 1), so that all of it takes stacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, shape_of
from ..errors import MissingRuleError, TieError, at_line
from .complex import is_complex
from .divided import KEEP, SIGN, Spectral
from .products import swap


def adjoint(a: Array) -> Array:
    """Return the conjugate transpose."""
    return np.conj(swap(a)) if is_complex(a) else swap(a)


def symmetric(t: Array) -> Array:
    """Return (t + t^H)/2: functions of symmetric matrices are differentiated along symmetric directions."""
    return (t + adjoint(t)) / 2


# --- of Hermitian matrices ------------------------------------------------------------------------------


def eigen(a: np.ndarray) -> tuple[Array, Array]:
    w, V = np.linalg.eigh(a)
    return w[..., None, :], V


def eig_value(a: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    w, V = eigen(a)
    return (V * fun.f(w, cut)) @ adjoint(V)


def eig_slope(a: np.ndarray, t: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    w, V = eigen(a)
    return V @ (fun.first(w, w, cut) * (adjoint(V) @ t @ V)) @ adjoint(V)


def eig_bend(a: np.ndarray, t: np.ndarray, u: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    w, V = eigen(a)
    T, U = (adjoint(V) @ x @ V for x in (t, u))
    D = fun.second(w, cut)
    inner = np.einsum("...ikj,...ik,...kj->...ij", D, T, U) + np.einsum("...ikj,...ik,...kj->...ij", D, U, T)
    return V @ inner @ adjoint(V)


def total(left: Any, right: Any) -> Any:
    """Return the sum of the terms that are there."""
    return right if left is None else left if right is None else left + right


def eig_slope_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Spectral) -> Array:
    (a, t, cut), (ta, tt, _) = args, tangents
    bend = None if ta is None else eig_bend_p(a, t, symmetric(ta), cut, fun=fun)
    return total(bend, None if tt is None else eig_slope_p(a, tt, cut, fun=fun))


def eig_bend_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Spectral) -> Array:
    (a, t, u, cut), (ta, tt, tu, _) = args, tangents
    if ta is not None:
        what = f"third derivatives are not known{at_line()}"
        raise MissingRuleError(f"spectral function {fun.name}", what, "Use np.linalg.eigh")
    left = None if tt is None else eig_bend_p(a, tt, u, cut, fun=fun)
    return total(left, None if tu is None else eig_bend_p(a, t, tu, cut, fun=fun))


eig_value_p: Primitive = Primitive(
    "eigfun",
    eig_value,
    lambda y, args, tangents, fun: eig_slope_p(args[0], symmetric(tangents[0]), args[1], fun=fun),
    batch=True,
)
eig_slope_p: Primitive = Primitive(
    "eigfun slope", eig_slope, eig_slope_jvp, shape=lambda a, t, cut, fun: shape_of(t),
    transpose={1: lambda ct, a, t, cut, fun: eig_slope_p(np.conj(a), ct, cut, fun=fun)},
    batch=True,
)  # fmt: skip
eig_bend_p: Primitive = Primitive(
    "eigfun bend", eig_bend, eig_bend_jvp, shape=lambda a, t, u, cut, fun: shape_of(t),
    transpose={
        1: lambda ct, a, t, u, cut, fun: eig_bend_p(np.conj(a), ct, swap(u), cut, fun=fun),
        2: lambda ct, a, t, u, cut, fun: eig_bend_p(np.conj(a), ct, swap(t), cut, fun=fun),
    },
    batch=True,
)  # fmt: skip


# --- of singular values ----------------------------------------------------------------------------------


def singular(a: np.ndarray) -> tuple[Array, Array, Array]:
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    return U, s[..., None, :], Vh


def svd_value(a: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    U, s, Vh = singular(a)
    return (U * fun.f(s, cut)) @ Vh


def svd_slope(a: np.ndarray, t: np.ndarray, cut: np.ndarray, fun: Spectral) -> Array:
    U, s, Vh = singular(a)
    check_branches(fun, s, cut)
    K, KH = adjoint(U) @ t @ adjoint(Vh), Vh @ adjoint(t) @ U
    inner = fun.first(s, s, cut) * (K + KH) / 2 + fun.first(s, -s, cut) * (K - KH) / 2
    rest = swap(fun.first(s, np.zeros_like(cut), cut))  # f[s, 0]
    left = (t @ adjoint(Vh) - U @ K) * rest  # what lies outside the column space
    right = (adjoint(t) @ U - adjoint(Vh) @ adjoint(K)) * rest
    return (U @ inner + left) @ Vh + U @ adjoint(right)


def check_branches(fun: Spectral, s: np.ndarray, cut: np.ndarray) -> None:
    """Refuse a derivative where a singular value lies on the cut, and f jumps or bends."""
    if fun not in (KEEP, SIGN) or not s.size:
        return
    near = np.finfo(s.dtype).eps * max(s.shape[-1], 8) * s.max(-1, keepdims=True)
    if np.any(np.abs(s - cut) <= near):
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
    (a, t, cut), (ta, tt, _) = args, tangents
    along = None if tt is None else svd_slope_p(a, tt, cut, fun=fun)
    if ta is None:
        return along
    m = shape_of(a)[-2]
    return total(eig_bend_p(dilation(a), dilation(t), dilation(ta), cut, fun=fun)[..., :m, m:], along)


svd_value_p: Primitive = Primitive(
    "svdfun", svd_value, lambda y, args, tangents, fun: svd_slope_p(args[0], tangents[0], args[1], fun=fun),
    batch=True,
)  # fmt: skip
svd_slope_p: Primitive = Primitive(
    "svdfun slope", svd_slope, svd_slope_jvp, shape=lambda a, t, cut, fun: shape_of(t),
    transpose={1: lambda ct, a, t, cut, fun: svd_slope_p(np.conj(a), ct, cut, fun=fun)},
    batch=True,
)  # fmt: skip
