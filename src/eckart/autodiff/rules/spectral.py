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

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import Array, Primitive, shape_of
from ..errors import MissingRuleError, TieError, at_line
from .complex import is_complex
from .products import swap

Scalar = Callable[..., Any]


class Spectral(NamedTuple):
    """A function of one real number with its divided differences."""

    name: str
    f: Scalar  # (w, cut): f(w), a row
    first: Scalar  # (v, w, cut): f[v_i, w_j], a matrix
    second: Scalar  # (w, cut): f[w_i, w_k, w_j], (..., n, n, n)


def smooth(f: Scalar, df: Scalar, d2f: Scalar | None) -> Spectral:
    """Return a smooth function from its derivatives.

    f[a, b] is the mean of f' from a to b, and f[a, b, c] half the mean of f'' over the triangle. For close
    arguments the means, by Gauss's rules, are more exact than the quotients: see `better`.
    """

    def slope(a: Array, b: Array) -> tuple[Array, Array]:
        gap, fa, fb = a - b, f(a), f(b)
        samples = [df(b + node * gap) for node in INTERVAL]
        rounding = np.finfo(np.result_type(gap)).eps * (np.abs(fa) + np.abs(fb))
        return better(samples, list(INTERVAL.values()), 5, fa - fb, rounding, gap)

    def second(w: Array, cut: Array) -> Array:
        if d2f is None:
            raise MissingRuleError(
                "eigfun", f"second derivatives need the second derivative of f{at_line()}", "Give d2f"
            )
        low, middle, high = triples(w)
        samples = [
            d2f(x + node * (y + z - 2 * x)) / 2
            for node in TRIANGLE
            for x, y, z in ((low, middle, high), (middle, high, low), (high, low, middle))
        ]
        (up, error), (down, more) = slope(high, middle), slope(middle, low)
        weights = [weight for weight in TRIANGLE.values() for _ in range(3)]
        return better(samples, weights, 4, up - down, error + more, high - low)[0]

    return Spectral("smooth", lambda w, cut: f(w), lambda v, w, cut: slope(swap(v), w)[0], second)


INTERVAL = {0.5 - 0.15**0.5: 5 / 18, 0.5: 4 / 9, 0.5 + 0.15**0.5: 5 / 18}  # Gauss: node and weight, degree 5
TRIANGLE = {  # Strang & Fix (1973), degree 4: the second and third barycentric coordinate, and the weight
    0.091576213509770743: 0.10995174365532187,
    0.44594849091596489: 0.22338158967801147,
}


def better(
    samples: list[Array], weights: list[float], degree: int, rise: Array, rounding: Array, gap: Array
) -> tuple[Array, Array]:
    """Return the mean of samples of a derivative or the quotient rise / gap, what errs less, and its error.

    Samples of a smooth function that differ by a part r of their size have a mean that errs by less than
    about r^degree of their difference; the quotient errs by the rounding of the rise over the gap. No scale
    is assumed: log and sqrt vary with the size of the eigenvalues, exp does not.
    """
    spread, size = np.ptp(samples, 0), np.abs(samples).max(0)
    whole = np.where(gap == 0, 1, gap)
    by_mean = spread * (spread / np.where(size == 0, 1, size)) ** degree
    by_quotient = np.abs(rounding / whole)
    near = (gap == 0) | (by_mean <= by_quotient)
    value = np.where(near, sum(c * x for c, x in zip(weights, samples, strict=True)), rise / whole)
    return value, np.where(near, by_mean, by_quotient) + np.finfo(value.dtype).eps * np.abs(value)


def triples(w: Array) -> Array:
    """Return w_i, w_k, w_j over all triples, in order of size: (3, ..., n, n, n)."""
    w = w[..., 0, :]
    three = np.broadcast_arrays(w[..., :, None, None], w[..., None, :, None], w[..., None, None, :])
    return np.sort(np.stack(three), axis=0)


def shrink(name: str, slope: float, step: float) -> Spectral:
    """Return f(w) = slope w + step sign(w) where abs(w) > cut, 0 elsewhere: differences by branch, exact."""

    def branch(w: Array, cut: Array) -> Array:
        return np.sign(w) * (np.abs(w) > cut)

    def f(w: Array, cut: Array) -> Array:
        return (slope * np.abs(w) + step) * branch(w, cut)

    def first(v: Array, w: Array, cut: Array) -> Array:
        return between(swap(v), w, cut)

    def between(a: Array, b: Array, cut: Array) -> Array:
        here, there = branch(a, cut), branch(b, cut)
        same = here == there
        return np.where(same, slope * np.abs(here), (f(a, cut) - f(b, cut)) / np.where(same, 1, a - b))

    def second(w: Array, cut: Array) -> Array:
        (low, middle, high), cut = triples(w), cut[..., None]
        same = branch(low, cut) == branch(high, cut)  # then so is the middle, and there f is straight
        rise = between(high, middle, cut) - between(middle, low, cut)
        return np.where(same, 0.0, rise / np.where(same, 1, high - low))

    return Spectral(name, f, first, second)


KEEP, SIGN = shrink("low rank", 1.0, 0.0), shrink("polar", 0.0, 1.0)


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
