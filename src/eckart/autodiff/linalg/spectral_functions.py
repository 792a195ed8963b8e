"""Functions of the spectrum as a user calls them; the primitives are in `spectral`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import Array, Primitive, Tracer, concrete, shape_of
from ..errors import ArgumentError, TieError, at_line
from ..rules.elementwise import frozen, stop_gradient
from .inverse import symmetric
from .spectral import KEEP, SIGN, Scalar, eigfun_p, smooth, svdfun_p


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
        raise ArgumentError("low_rank", f"rank {rank} is negative{at_line()}", "Give 0 or more")
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
        what = f"rank {rank} cuts between singular values {rank - 1} and {rank}, which are equal{at_line()}"
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
        raise TieError("polar", f"the matrix is 0{at_line()}: no derivative", "Give one of full rank")


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
