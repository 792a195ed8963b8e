"""Functions of the spectrum as primitives, exact where eigenvalues or singular values are equal.

For A = V diag(w) V^H and F = V diag(f(w)) V^H the derivative along T is V (D * V^H T V) V^H with divided
differences D_ij = f[w_i, w_j], which are f' where w_i = w_j (Daleckii & Krein, 1965); the second derivative
has f[w_i, w_k, w_j] in the same place. For singular values, U diag(f(s)) V^H with f odd is the off-diagonal
block of the same function of [[0, A], [A^H, 0]] (Noferini, SIAM J. Matrix Anal. 38, 2017): the symmetric
part of U^H T V is multiplied by f[s_i, s_j], the skew part by f[s_i, -s_j], the rest of T by f[s_i, 0].

No tangent of a single eigenvector is ever formed, which is what fails at ties in the usual rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core import Array, Primitive, concrete, dtype_of, shape_of
from ..errors import MissingRuleError, TieError, at_line
from ..rules.complex import is_complex
from ..rules.products import swap
from .inverse import adjoint

Scalar = Callable[..., Any]


class Spectral(NamedTuple):
    """A real function of numbers with its divided differences, all elementwise."""

    name: str
    f: Scalar
    first: Scalar  # (a, b): f[a, b]
    second: Scalar  # (a, b, c) with a <= b <= c: f[a, b, c]


# --- divided differences ------------------------------------------------------------------------------------

INTERVAL = {0.5 - 0.15**0.5: 5 / 18, 0.5: 4 / 9, 0.5 + 0.15**0.5: 5 / 18}  # Gauss: node and weight, degree 5
TRIANGLE = {  # Strang & Fix (1973), degree 4: the second and third barycentric coordinate, and the weight
    0.091576213509770743: 0.10995174365532187,
    0.44594849091596489: 0.22338158967801147,
}


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

    def second(a: Array, b: Array, c: Array) -> Array:
        if d2f is None:
            what = f"second derivatives need the second derivative of f{at_line()}"
            raise MissingRuleError("eigfun or svdfun", what, "Give d2f")
        corners = [(a, b, c), (b, c, a), (c, a, b)]
        samples = [d2f(x + node * (y + z - 2 * x)) / 2 for node in TRIANGLE for x, y, z in corners]
        weights = [weight for weight in TRIANGLE.values() for _ in corners]
        (up, error), (down, more) = slope(c, b), slope(b, a)
        return better(samples, weights, 4, up - down, error + more, c - a)[0]

    return Spectral("eigfun or svdfun", f, lambda a, b: slope(a, b)[0], second)


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


def shrink(name: str, slope: float, step: float) -> Spectral:
    """Return f(a) = slope a + step sign(a) where abs(a) > 1, 0 elsewhere: differences by branch, exact."""

    def branch(a: Array) -> Array:
        return np.sign(a) * (np.abs(a) > 1)

    def f(a: Array) -> Array:
        return (slope * np.abs(a) + step) * branch(a)

    def first(a: Array, b: Array) -> Array:
        same = branch(a) == branch(b)
        return np.where(same, slope * np.abs(branch(a)), (f(a) - f(b)) / np.where(same, 1, a - b))

    def second(a: Array, b: Array, c: Array) -> Array:
        same = branch(a) == branch(c)  # then so is b, and there f is straight
        return np.where(same, 0.0, (first(c, b) - first(b, a)) / np.where(same, 1, c - a))

    return Spectral(name, f, first, second)


KEEP = shrink("low_rank or soft_threshold", 1.0, 0.0)
SIGN = shrink("polar or soft_threshold", 0.0, 1.0)


# --- primitives ---------------------------------------------------------------------------------------------


def with_derivatives(
    name: str, fun: Callable[..., Any], mirror: Callable[..., Any], check: Any = None
) -> Primitive:
    """Return the primitive F(A, T, U, ..) of a function of a matrix and its derivatives along T, U, ...

    So F is its own derivative: in A it has one more direction, in a direction another one in its place. The
    transpose in a direction is F of the mirrored matrix (transposed, or conjugated where it need not be
    square) along the mirrored other directions. ``check`` may refuse the matrix that it is derived at.
    """

    def jvp(y: Array, args: Any, tangents: Any, **params: Any) -> Array:
        moved = [(i, t) for i, t in enumerate(tangents) if i > 0 and t is not None]
        terms = [prim(*args[:i], t, *args[i + 1 :], **params) for i, t in moved]
        t = tangents[0]
        if t is not None:
            if check is not None:
                check(concrete(args[0]))
            if is_complex(y) and not is_complex(args[0]):  # as of the logarithm of a negative number
                t = t.astype(dtype_of(y))
            terms.append(prim(*args, t, **params))
        return sum(terms[1:], terms[0])

    def back(i: int) -> Callable[..., Any]:
        def transposed(ct: Array, *args: Array, **params: Any) -> Array:
            others = [a for j, a in enumerate(args) if j not in (0, i)]
            return prim(mirror(args[0]), ct, *map(mirror, others), **params)

        return transposed

    prim: Primitive = Primitive(
        name, fun, jvp, transpose={i: back(i) for i in range(1, 9)}, batch=True,  # to the 8th derivative
        shape=lambda *args, **params: np.broadcast_shapes(*map(shape_of, args)),
    )  # fmt: skip
    return prim


def of_eigenvalues(a: np.ndarray, *along: np.ndarray, fun: Spectral) -> Array:
    w, V = np.linalg.eigh(a)
    if not along:
        return (V * fun.f(w)[..., None, :]) @ adjoint(V)
    T, *rest = (adjoint(V) @ t @ V for t in along)
    if not rest:
        return V @ (fun.first(w[..., :, None], w[..., None, :]) * T) @ adjoint(V)
    if len(rest) > 1:
        what = f"third derivatives are not known{at_line()}"
        raise MissingRuleError(fun.name, what, "Use np.linalg.eigh")
    (U,) = rest
    triples = np.broadcast_arrays(w[..., :, None, None], w[..., None, :, None], w[..., None, None, :])
    D = fun.second(*np.sort(triples, axis=0))  # f[w_i, w_k, w_j] at i, k, j
    inner = np.einsum("...ikj,...ik,...kj->...ij", D, T, U) + np.einsum("...ikj,...ik,...kj->...ij", D, U, T)
    return V @ inner @ adjoint(V)


def of_singular_values(a: np.ndarray, *along: np.ndarray, fun: Spectral) -> Array:
    if len(along) > 1:
        return of_eigenvalues(dilation(a), *map(dilation, along), fun=fun)[..., : a.shape[-2], a.shape[-2] :]
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    row, column = s[..., None, :], s[..., :, None]
    if not along:
        return (U * fun.f(row)) @ Vh
    near = 2 * np.finfo(s.dtype).eps * max(s.shape[-1], 8) * s.max(-1, keepdims=True, initial=0)
    if fun in (KEEP, SIGN) and np.any(np.abs(s - 1) <= near):
        what = f"a singular value lies on the cut, or is 0{at_line()}: no derivative"
        raise TieError(fun.name, what, "Cut at another place; give polar a matrix of full rank")
    (t,) = along
    K, KH = adjoint(U) @ t @ adjoint(Vh), Vh @ adjoint(t) @ U
    inner = fun.first(column, row) * (K + KH) / 2 + fun.first(column, -row) * (K - KH) / 2
    rest = fun.first(row, np.zeros_like(row))
    left = (t @ adjoint(Vh) - U @ K) * rest  # what lies outside the column space
    right = (adjoint(t) @ U - adjoint(Vh) @ adjoint(K)) * rest
    return (U @ inner + left) @ Vh + U @ adjoint(right)


def dilation(a: np.ndarray) -> Array:
    """Return [[0, A], [A^H, 0]], whose eigenvalues are plus and minus the singular values, and zeros."""
    *stack, m, n = a.shape
    return np.block([[np.zeros((*stack, m, m)), a], [adjoint(a), np.zeros((*stack, n, n))]])


eigfun_p = with_derivatives("eigfun", of_eigenvalues, swap)
svdfun_p = with_derivatives("svdfun", of_singular_values, np.conj)
