"""Functions of the spectrum as primitives, exact where eigenvalues or singular values are equal.

For A = V diag(w) V^H and F = V diag(f(w)) V^H, the derivative along T is V (D * V^H T V) V^H with the divided
differences D_ij = f[w_i, w_j], which are f' where w_i = w_j (Daleckii & Krein, 1965). The second derivative
has f[w_i, w_k, w_j] in their place. For singular values, U diag(f(s)) V^H with an odd f is the off-diagonal
block of the same function of [[0, A], [A^H, 0]] (Noferini, SIAM J. Matrix Anal. 38, 2017): the symmetric
part of U^H T V is multiplied by f[s_i, s_j], the skew part by f[s_i, -s_j], the rest of T by f[s_i, 0].

The tangent of a single eigenvector, which is what fails at ties in the usual rules, is never formed.
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
    """A real function of real numbers with its divided differences, all elementwise."""

    name: str
    f: Scalar
    first: Scalar  # (a, b): f[a, b]
    second: Scalar  # (a, b, c) with a <= b <= c: f[a, b, c]


# --- divided differences ------------------------------------------------------------------------------------

INTERVAL = {0.5 - 0.15**0.5: 5 / 18, 0.5: 4 / 9, 0.5 + 0.15**0.5: 5 / 18}  # Gauss, degree 5: node, weight
TRIANGLE = {  # Strang & Fix (1973), degree 4: second and third barycentric coordinate, weight
    0.091576213509770743: 0.10995174365532187,
    0.44594849091596489: 0.22338158967801147,
}


def smooth(f: Scalar, df: Scalar, d2f: Scalar | None) -> Spectral:
    """Return a smooth function with its divided differences, from its derivatives.

    f[a, b] is the mean of f' from a to b, and f[a, b, c] is half the mean of f'' over the triangle. For close
    arguments these means, computed by Gauss's rules, are more accurate than the quotients: see
    `mean_or_quotient`.
    """

    def slope(a: Array, b: Array) -> tuple[Array, Array]:
        gap, fa, fb = a - b, f(a), f(b)
        samples = [df(b + node * gap) for node in INTERVAL]
        rounding = np.finfo(np.result_type(gap)).eps * (np.abs(fa) + np.abs(fb))
        return mean_or_quotient(samples, list(INTERVAL.values()), 5, fa - fb, rounding, gap)

    def second(a: Array, b: Array, c: Array) -> Array:
        if d2f is None:
            what = f"a second derivative needs the second derivative of f{at_line()}"
            raise MissingRuleError("eigfun or svdfun", what, "Pass d2f")
        corners = [(a, b, c), (b, c, a), (c, a, b)]
        samples = [d2f(x + node * (y + z - 2 * x)) / 2 for node in TRIANGLE for x, y, z in corners]
        weights = [weight for weight in TRIANGLE.values() for _ in corners]
        (upper, upper_error), (lower, lower_error) = slope(c, b), slope(b, a)
        error = upper_error + lower_error
        return mean_or_quotient(samples, weights, 4, upper - lower, error, c - a)[0]

    return Spectral("eigfun or svdfun", f, lambda a, b: slope(a, b)[0], second)


def mean_or_quotient(
    samples: list[Array], weights: list[float], degree: int, rise: Array, rounding: Array, gap: Array
) -> tuple[Array, Array]:
    """Return a divided difference and its error, by the more accurate of two formulas.

    The formulas are the weighted mean of samples of a derivative, and the quotient rise / gap. If samples of
    a smooth function differ by a fraction r of their size, their mean errs by less than about r^degree times
    the difference. The error of the quotient is the rounding of the rise divided by the gap. These estimates
    assume no scale of the arguments: log and sqrt vary with the size of the eigenvalues, exp does not.
    """
    spread, size = np.ptp(samples, 0), np.abs(samples).max(0)
    divisor = np.where(gap == 0, 1, gap)
    mean_error = spread * (spread / np.where(size == 0, 1, size)) ** degree
    quotient_error = np.abs(rounding / divisor)
    use_mean = (gap == 0) | (mean_error <= quotient_error)
    value = np.where(use_mean, sum(c * x for c, x in zip(weights, samples, strict=True)), rise / divisor)
    error = np.where(use_mean, mean_error, quotient_error)
    return value, error + np.finfo(value.dtype).eps * np.abs(value)


def threshold_function(name: str, slope: float, step: float) -> Spectral:
    """Return f(a) = slope a + step sign(a) where abs(a) > 1, and 0 elsewhere, with exact differences.

    Between arguments on the same branch they have a closed form; on different branches the gap is not small.
    """

    def branch(a: Array) -> Array:
        return np.sign(a) * (np.abs(a) > 1)

    def f(a: Array) -> Array:
        return (slope * np.abs(a) + step) * branch(a)

    def first(a: Array, b: Array) -> Array:
        same = branch(a) == branch(b)
        return np.where(same, slope * np.abs(branch(a)), (f(a) - f(b)) / np.where(same, 1, a - b))

    def second(a: Array, b: Array, c: Array) -> Array:
        same = branch(a) == branch(c)  # then b is on it too, and f is linear there
        return np.where(same, 0.0, (first(c, b) - first(b, a)) / np.where(same, 1, c - a))

    return Spectral(name, f, first, second)


KEEP = threshold_function("low_rank or soft_threshold", 1.0, 0.0)
SIGN = threshold_function("polar or soft_threshold", 0.0, 1.0)


# --- primitives ---------------------------------------------------------------------------------------------


def with_derivatives(
    name: str, fun: Callable[..., Any], mirror: Callable[..., Any], check: Any = None
) -> Primitive:
    """Return the primitive F(A, T, U, ...): a function of a matrix A and its derivatives along T, U, ...

    Its derivatives are again values of F. The derivative in A has one more direction; the derivative in a
    direction has that direction replaced by its tangent. The transpose in a direction is F of the mirrored
    matrix along the other directions, also mirrored. ``mirror`` is the transpose, or the conjugate for
    matrices that need not be square. ``check`` is called with the matrix at which F is differentiated, and
    may refuse it.
    """

    def jvp(y: Array, args: Any, tangents: Any, **params: Any) -> Array:
        moved = [(i, t) for i, t in enumerate(tangents) if i > 0 and t is not None]
        terms = [prim(*args[:i], t, *args[i + 1 :], **params) for i, t in moved]
        t = tangents[0]
        if t is not None:
            if check is not None:
                check(concrete(args[0]))
            if is_complex(y) and not is_complex(args[0]):  # e.g. the logarithm of a negative number
                t = t.astype(dtype_of(y))
            terms.append(prim(*args, t, **params))
        return sum(terms[1:], terms[0])

    def back(i: int) -> Callable[..., Any]:
        def transposed(ct: Array, *args: Array, **params: Any) -> Array:
            others = [a for j, a in enumerate(args) if j not in (0, i)]
            return prim(mirror(args[0]), ct, *map(mirror, others), **params)

        return transposed

    prim: Primitive = Primitive(
        name,
        fun,
        jvp,
        transpose={i: back(i) for i in range(1, 9)},  # up to the 8th derivative
        shape=lambda *args, **params: np.broadcast_shapes(*map(shape_of, args)),
        batch=True,
    )
    return prim


def of_eigenvalues(a: np.ndarray, *along: np.ndarray, fun: Spectral) -> Array:
    """Return V diag(f(w)) V^H, or its derivative along one or two directions."""
    w, V = np.linalg.eigh(a)
    if not along:
        return (V * fun.f(w)[..., None, :]) @ adjoint(V)
    T, *rest = (adjoint(V) @ t @ V for t in along)
    if not rest:
        return V @ (fun.first(w[..., :, None], w[..., None, :]) * T) @ adjoint(V)
    if len(rest) > 1:
        what = f"the third derivative is not known{at_line()}"
        raise MissingRuleError(fun.name, what, "Use np.linalg.eigh")
    (U,) = rest
    triples = np.broadcast_arrays(w[..., :, None, None], w[..., None, :, None], w[..., None, None, :])
    D = fun.second(*np.sort(triples, axis=0))  # f[w_i, w_k, w_j] at i, k, j
    inner = np.einsum("...ikj,...ik,...kj->...ij", D, T, U) + np.einsum("...ikj,...ik,...kj->...ij", D, U, T)
    return V @ inner @ adjoint(V)


def of_singular_values(a: np.ndarray, *along: np.ndarray, fun: Spectral) -> Array:
    """Return U diag(f(s)) V^H, or its derivative along one or two directions."""
    if len(along) > 1:
        return of_eigenvalues(dilation(a), *map(dilation, along), fun=fun)[..., : a.shape[-2], a.shape[-2] :]
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    row, column = s[..., None, :], s[..., :, None]
    if not along:
        return (U * fun.f(row)) @ Vh
    near = 2 * np.finfo(s.dtype).eps * max(s.shape[-1], 8) * s.max(-1, keepdims=True, initial=0)
    if fun in (KEEP, SIGN) and np.any(np.abs(s - 1) <= near):
        what = f"a singular value is equal to the threshold, or is 0, so there is no derivative{at_line()}"
        raise TieError(fun.name, what, "Use another rank or threshold, and a matrix of full rank for polar")
    (t,) = along
    K, KH = adjoint(U) @ t @ adjoint(Vh), Vh @ adjoint(t) @ U
    inner = fun.first(column, row) * (K + KH) / 2 + fun.first(column, -row) * (K - KH) / 2
    rest = fun.first(row, np.zeros_like(row))
    left = (t @ adjoint(Vh) - U @ K) * rest  # the part of t outside the column space
    right = (adjoint(t) @ U - adjoint(Vh) @ adjoint(K)) * rest
    return (U @ inner + left) @ Vh + U @ adjoint(right)


def dilation(a: np.ndarray) -> Array:
    """Return [[0, A], [A^H, 0]]; its eigenvalues are the singular values, their negatives, and zeros."""
    *stack, m, n = a.shape
    return np.block([[np.zeros((*stack, m, m)), a], [adjoint(a), np.zeros((*stack, n, n))]])


eigfun_p = with_derivatives("eigfun", of_eigenvalues, swap)
svdfun_p = with_derivatives("svdfun", of_singular_values, np.conj)
