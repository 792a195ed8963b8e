"""Functions of the spectrum, exact where eigenvalues or singular values are equal.

For A = V diag(w) V^H and F = V diag(f(w)) V^H the derivative along T is V (D * V^H T V) V^H with divided
differences D_ij = f[w_i, w_j], which is f' where w_i = w_j (Daleckii & Krein, 1965); the second derivative
has f[w_i, w_k, w_j] in the same place. For singular values, U diag(f(s)) V^H with f odd is the off-diagonal
block of the same function of [[0, A], [A^H, 0]] (Noferini, SIAM J. Matrix Anal. 38, 2017): the symmetric
part of U^H T V is multiplied by f[s_i, s_j], the skew part by f[s_i, -s_j], the rest of T by f[s_i, 0].

No tangent of a single eigenvector is ever formed, which is what fails at ties in the usual rules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core import Array, Primitive, Tracer, concrete, dtype_of, shape_of
from ..errors import ArgumentError, MissingRuleError, TieError, at_line
from .complex import is_complex
from .divided import KEEP, SIGN, Scalar, Spectral, smooth
from .linalg import adjoint, symmetric
from .products import swap
from .reduce import frozen, stop_gradient


def with_derivatives(
    name: str, fun: Callable[..., Any], mirror: Callable[..., Any], check: Any = None
) -> Primitive:
    """Return the primitive F(A, T, U, ..) of a function of a matrix and its derivatives along T, U, ...

    So F is its own derivative: in A it has one more direction, in a direction another one in its place. The
    transpose in a direction is F of the mirrored matrix (transposed, or conjugated where it need not be
    square) along the mirrored other directions. ``check`` may refuse the matrix that it is derived at.
    """

    def jvp(y: Array, args: Any, tangents: Any, **params: Any) -> Array:
        terms, t = [], tangents[0]
        if t is not None:
            if check is not None:
                check(concrete(args[0]))
            if is_complex(y) and not is_complex(args[0]):  # as of the logarithm of a negative number
                t = t.astype(dtype_of(y))
            terms.append(prim(*args, t, **params))
        for i in range(1, len(args)):
            if tangents[i] is not None:
                terms.append(prim(*args[:i], tangents[i], *args[i + 1 :], **params))
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
        raise MissingRuleError(f"spectral function {fun.name}", what, "Use np.linalg.eigh")
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
    if fun in (KEEP, SIGN):
        refuse_the_cut(fun.name, s)
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


def refuse_the_cut(name: str, s: np.ndarray) -> None:
    """Refuse a derivative where a singular value lies on the cut, at 1, where f jumps or bends."""
    near = 2 * np.finfo(s.dtype).eps * max(s.shape[-1], 8) * s.max(-1, keepdims=True, initial=0)
    if np.any(np.abs(s - 1) <= near):
        what = f"a singular value lies on the cut, or vanishes{at_line()}: no derivative"
        raise TieError(name, what, "Cut at another place")


eigfun_p = with_derivatives("eigfun", of_eigenvalues, swap)
svdfun_p = with_derivatives("svdfun", of_singular_values, np.conj)


# --- as a user calls them ---------------------------------------------------------------------------------


def eigfun(A: Array, f: Scalar, df: Scalar, d2f: Scalar | None = None) -> Array:
    """Return V diag(f(w)) V^H of a Hermitian matrix A = V diag(w) V^H, differentiable at equal eigenvalues.

    Parameters
    ----------
    A : array (..., n, n)
        Hermitian; its gradient is the Hermitian one.
    f, df, d2f : callables
        A real function of real numbers, elementwise, and its first two derivatives. Without ``d2f`` there are
        no second derivatives.

    Notes
    -----
    About 9 n^3 flops for the value and 8 n^3 more for a derivative; a second derivative takes memory n^3.

    Examples
    --------
    >>> eigfun(np.diag([1.0, 4.0]), np.sqrt, lambda w: 0.5 / np.sqrt(w))
    array([[1., 0.],
           [0., 2.]])
    """
    return eigfun_p(symmetric(A), fun=smooth(f, df, d2f))


def svdfun(A: Array, f: Scalar, df: Scalar, d2f: Scalar | None = None) -> Array:
    """Return U diag(f(s)) V^H of A = U diag(s) V^H for an odd function f, differentiable at equal values.

    Parameters
    ----------
    A : array (..., m, n)
    f, df, d2f : callables
        As in `eigfun`; f odd.

    Examples
    --------
    >>> svdfun(np.diag([1.0, 2.0]), lambda s: s**3, lambda s: 3 * s**2)
    array([[1., 0.],
           [0., 8.]])
    """
    return svdfun_p(A, fun=smooth(f, df, d2f))


def low_rank(A: Array, rank: int) -> Array:
    """Return the best approximation of a given rank, differentiable at equal kept singular values.

    Parameters
    ----------
    A : array (..., m, n)
    rank : int
        At least 0.

    Raises
    ------
    TieError
        When it is differentiated where the last kept singular value equals the first dropped one.

    References
    ----------
    Eckart & Young, Psychometrika 1, 1936.

    Examples
    --------
    >>> low_rank(np.diag([3.0, 2.0, 1.0]), 2).diagonal()
    array([3., 2., 0.])
    """
    if rank < 0:
        raise ArgumentError("low_rank", f"rank {rank} is negative{at_line()}")
    if rank == 0:
        return np.zeros_like(A)
    if rank >= min(shape_of(A)[-2:]):
        return A
    if not isinstance(A, Tracer):
        U, s, Vh = np.linalg.svd(A, full_matrices=False)
        return (U[..., :rank] * s[..., None, :rank]) @ Vh[..., :rank, :]
    cut = between(A, rank=rank)
    return cut * svdfun_p(A / cut, fun=KEEP)


@partial(frozen, "cut at rank")
def between(a: np.ndarray, rank: int) -> Array:
    """Return the middle between the last kept singular value and the first dropped one."""
    s = np.linalg.svd(a, compute_uv=False)[..., None, :]
    kept, dropped = s[..., rank - 1 : rank], s[..., rank : rank + 1]
    if np.any(kept - dropped <= 8 * np.finfo(s.dtype).eps * s[..., :1]):
        what = (
            f"singular values {rank - 1} and {rank} are equal, and rank {rank} cuts between them{at_line()}"
        )
        raise TieError("low_rank", what, "Cut at another rank")
    return (kept + dropped) / 2


def polar(A: Array) -> Array:
    """Return the orthogonal polar factor U V^H, the nearest matrix with orthonormal rows or columns.

    Examples
    --------
    >>> polar(np.diag([3.0, 2.0]))
    array([[1., 0.],
           [0., 1.]])
    """
    return svdfun_p(A / rounding(A), fun=SIGN)


def rounding_fun(a: np.ndarray) -> Array:
    """Return what a singular value of size zero may be by rounding; 1 for a matrix of zeros."""
    s = np.linalg.svd(a, compute_uv=False)
    size = s.max(-1, initial=0)[..., None, None] * np.finfo(s.dtype).eps * max(s.shape[-1], 8)
    return np.where(size == 0, 1, size)


def rounding_jvp(size: Array, args: Any, tangents: Any) -> None:
    a = concrete(args[0])
    if a.size and not a.any((-2, -1)).all():
        raise TieError("polar", f"the matrix is 0{at_line()}: no derivative")


rounding: Primitive = Primitive("cut at zero", rounding_fun, rounding_jvp, batch=True)


def soft_threshold(A: Array, threshold: Array) -> Array:
    """Return U diag(max(s - threshold, 0)) V^H, the proximal operator of the nuclear norm.

    Parameters
    ----------
    A : array (..., m, n)
    threshold : float, or array (..., 1, 1)
        May itself be differentiated.

    References
    ----------
    Cai, Candes & Shen, SIAM J. Optim. 20, 2010.

    Examples
    --------
    >>> soft_threshold(np.diag([3.0, 2.0, 0.5]), 1.0).diagonal()
    array([2., 1., 0.])
    """
    cut = stop_gradient(threshold)
    if not np.all(concrete(cut) > 0):
        cut = np.maximum(cut, rounding(A))
    return cut * svdfun_p(A / cut, fun=KEEP) - threshold * svdfun_p(A / cut, fun=SIGN)


def nuclear_norm(A: Array) -> Array:
    """Return the sum of the singular values; its derivative is the polar factor, at ties too.

    Notes
    -----
    Where A is rank deficient the polar factor of its range is one of the subgradients.

    Examples
    --------
    >>> nuclear_norm(np.diag([3.0, 2.0]))
    np.float64(5.0)
    """
    return nuclear_p(A)


nuclear_p: Primitive = Primitive(
    "nuclear norm", lambda a: np.linalg.svd(a, compute_uv=False).sum(-1),
    lambda y, args, tangents: np.sum(np.real(tangents[0] * np.conj(polar(args[0]))), axis=(-2, -1)),
    batch=True,
)  # fmt: skip
