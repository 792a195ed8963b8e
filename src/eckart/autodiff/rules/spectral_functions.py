"""Functions of the spectrum, exact where eigenvalues or singular values are equal.

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
    name: str, fun: Callable[..., Any], mirror: Callable[..., Any], lead: int, check: Any = None
) -> Primitive:
    """Return the primitive F(A, .., T, U, ..) of a function of a matrix and its derivatives along T, U, ...

    So F is its own derivative: in A it has one more direction, in a direction another one in its place. The
    transpose in a direction is F of the mirrored matrix along the mirrored other directions.

    Parameters
    ----------
    mirror : callable
        The transpose, or the conjugate where F takes a matrix of any shape.
    lead : int
        The number of arguments before the directions.
    check : callable, optional
        Called with the plain matrix that is to be differentiated at.
    """

    def jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], **params: Any) -> Array:
        terms = []
        if tangents[0] is not None:
            if check is not None:
                check(concrete(args[0]))
            t = tangents[0]
            if is_complex(y) and not is_complex(args[0]):  # as of the logarithm of a negative number
                t = t.astype(dtype_of(y))
            terms.append(prim(*args, t, **params))
        for i in range(lead, len(args)):
            if tangents[i] is not None:
                terms.append(prim(*args[:i], tangents[i], *args[i + 1 :], **params))
        return sum(terms[1:], terms[0])

    def back(i: int) -> Callable[..., Any]:
        def transposed(ct: Array, *args: Array, **params: Any) -> Array:
            others = [mirror(t) for t in args[lead:i] + args[i + 1 :]]
            return prim(mirror(args[0]), *args[1:lead], ct, *others, **params)

        return transposed

    prim: Primitive = Primitive(
        name, fun, jvp, transpose={i: back(i) for i in range(lead, lead + 8)},  # of derivatives up to the 8th
        shape=lambda *args, **params: np.broadcast_shapes(*map(shape_of, args)), batch=True,
    )  # fmt: skip
    return prim


def of_eigenvalues(a: np.ndarray, cut: np.ndarray, *along: np.ndarray, fun: Spectral) -> Array:
    w, V = np.linalg.eigh(a)
    w = w[..., None, :]
    if not along:
        return (V * fun.f(w, cut)) @ adjoint(V)
    T, *rest = (adjoint(V) @ t @ V for t in along)
    if not rest:
        return V @ (fun.first(swap(w), w, cut) * T) @ adjoint(V)
    if len(rest) > 1:
        what = f"third derivatives are not known{at_line()}"
        raise MissingRuleError(f"spectral function {fun.name}", what, "Use np.linalg.eigh")
    w, (U,) = w[..., 0, :], rest
    triples = np.broadcast_arrays(w[..., :, None, None], w[..., None, :, None], w[..., None, None, :])
    D = fun.second(*np.sort(triples, axis=0), cut[..., None])  # f[w_i, w_k, w_j] at i, k, j
    inner = np.einsum("...ikj,...ik,...kj->...ij", D, T, U) + np.einsum("...ikj,...ik,...kj->...ij", D, U, T)
    return V @ inner @ adjoint(V)


def of_singular_values(a: np.ndarray, cut: np.ndarray, *along: np.ndarray, fun: Spectral) -> Array:
    if len(along) > 1:
        m = a.shape[-2]
        return of_eigenvalues(dilation(a), cut, *map(dilation, along), fun=fun)[..., :m, m:]
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    s = s[..., None, :]
    if not along:
        return (U * fun.f(s, cut)) @ Vh
    if fun in (KEEP, SIGN):
        refuse_the_cut(fun.name, s, cut)
    (t,) = along
    K, KH = adjoint(U) @ t @ adjoint(Vh), Vh @ adjoint(t) @ U
    inner = fun.first(swap(s), s, cut) * (K + KH) / 2 + fun.first(swap(s), -s, cut) * (K - KH) / 2
    rest = fun.first(s, np.zeros_like(cut), cut)
    left = (t @ adjoint(Vh) - U @ K) * rest  # what lies outside the column space
    right = (adjoint(t) @ U - adjoint(Vh) @ adjoint(K)) * rest
    return (U @ inner + left) @ Vh + U @ adjoint(right)


def dilation(a: np.ndarray) -> Array:
    """Return [[0, A], [A^H, 0]], whose eigenvalues are plus and minus the singular values, and zeros."""
    *stack, m, n = a.shape
    return np.block([[np.zeros((*stack, m, m)), a], [adjoint(a), np.zeros((*stack, n, n))]])


def refuse_the_cut(name: str, s: np.ndarray, cut: np.ndarray) -> None:
    """Refuse a derivative where a singular value lies on the cut, and f jumps or bends."""
    near = np.finfo(s.dtype).eps * max(s.shape[-1], 8) * s.max(-1, keepdims=True, initial=0)
    if np.any(np.abs(s - cut) <= near):
        what = f"a singular value lies on the cut, or vanishes{at_line()}: no derivative"
        raise TieError(name, what, "Cut at another place")


eigfun_p = with_derivatives("eigfun", of_eigenvalues, swap, lead=2)
svdfun_p = with_derivatives("svdfun", of_singular_values, np.conj, lead=2)


# --- as a user calls them ---------------------------------------------------------------------------------


def no_cut(A: Array) -> Array:
    return np.zeros((*shape_of(A)[:-2], 1, 1))


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
    return eigfun_p(symmetric(A), no_cut(A), fun=smooth(f, df, d2f))


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
    return svdfun_p(A, no_cut(A), fun=smooth(f, df, d2f))


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
    if rank >= min(shape_of(A)[-2:]):
        return A
    if not isinstance(A, Tracer):
        U, s, Vh = np.linalg.svd(A, full_matrices=False)
        return (U[..., :rank] * s[..., None, :rank]) @ Vh[..., :rank, :]
    return svdfun_p(A, between(A, rank=rank), fun=KEEP)


def between_fun(a: np.ndarray, rank: int) -> Array:
    """Return the middle between the last kept singular value and the first dropped one."""
    s = np.linalg.svd(a, compute_uv=False)[..., None, :]
    if rank == 0:
        return 2 * s[..., :1]
    kept, dropped = s[..., rank - 1 : rank], s[..., rank : rank + 1]
    if np.any(kept - dropped <= 8 * np.finfo(s.dtype).eps * s[..., :1]):
        what = (
            f"singular values {rank - 1} and {rank} are equal, and rank {rank} cuts between them{at_line()}"
        )
        raise TieError("low_rank", what, "Cut at another rank")
    return (kept + dropped) / 2


between = frozen("cut at rank", between_fun)


def polar(A: Array) -> Array:
    """Return the orthogonal polar factor U V^H, the nearest matrix with orthonormal rows or columns.

    Examples
    --------
    >>> polar(np.diag([3.0, 2.0]))
    array([[1., 0.],
           [0., 1.]])
    """
    return svdfun_p(A, rounding(A), fun=SIGN)


def rounding_fun(a: np.ndarray) -> Array:
    """Return what a singular value of size zero may be by rounding."""
    s = np.linalg.svd(a, compute_uv=False)
    return s.max(-1, initial=0)[..., None, None] * np.finfo(s.dtype).eps * max(s.shape[-1], 8)


rounding = frozen("cut at zero", rounding_fun)


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
    cut = no_cut(A) + stop_gradient(threshold)
    return svdfun_p(A, cut, fun=KEEP) - threshold * svdfun_p(A, cut, fun=SIGN)


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
