"""Functions of the spectrum as a user calls them; the primitives are in `spectral`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Primitive, Tracer, shape_of
from ..errors import ArgumentError, TieError, at_line
from .complex import is_complex
from .divided import KEEP, SIGN, Scalar, smooth
from .reduce import frozen, stop_gradient
from .spectral import eig_value_p, svd_value_p


def no_cut(a: Array) -> Array:
    return np.zeros((*shape_of(a)[:-2], 1, 1))


def between_fun(a: np.ndarray, rank: int) -> Array:
    """Return the middle between the last kept singular value and the first dropped one."""
    s = np.linalg.svd(a, compute_uv=False)[..., None, :]
    if rank == 0:
        return 2 * s[..., :1]
    kept, dropped = s[..., rank - 1 : rank], s[..., rank : rank + 1]
    if np.any(kept - dropped <= 8 * np.finfo(s.dtype).eps * s[..., :1]):
        raise TieError(
            "low_rank",
            f"singular values {rank - 1} and {rank} are equal, and rank {rank} cuts between them{at_line()}",
            "Cut at another rank",
        )
    return (kept + dropped) / 2


def rounding_fun(a: np.ndarray) -> Array:
    """Return what a singular value of size zero may be by rounding."""
    s = np.linalg.svd(a, compute_uv=False)
    return s.max(-1, initial=0)[..., None, None] * np.finfo(s.dtype).eps * max(s.shape[-1], 8)


between, rounding = frozen("cut at rank", between_fun), frozen("cut at zero", rounding_fun)


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
    return eig_value_p(A, no_cut(A), fun=smooth(f, df, d2f))


def svdfun(A: Array, f: Scalar, df: Scalar, d2f: Scalar | None = None) -> Array:
    """Return U diag(f(s)) V^H of A = U diag(s) V^H for an odd function f, differentiable at equal values.

    Parameters
    ----------
    A : array (..., m, n)
    f, df, d2f : callables
        An odd real function of real numbers, elementwise, and its first two derivatives.

    Examples
    --------
    >>> svdfun(np.diag([1.0, 2.0]), lambda s: s**3, lambda s: 3 * s**2)
    array([[1., 0.],
           [0., 8.]])
    """
    return svd_value_p(A, no_cut(A), fun=smooth(f, df, d2f))


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
    return svd_value_p(A, between(A, rank=rank), fun=KEEP)


def polar(A: Array) -> Array:
    """Return the orthogonal polar factor U V^H, the nearest matrix with orthonormal rows or columns.

    Examples
    --------
    >>> polar(np.diag([3.0, 2.0]))
    array([[1., 0.],
           [0., 1.]])
    """
    return svd_value_p(A, rounding(A), fun=SIGN)


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
    return svd_value_p(A, cut, fun=KEEP) - threshold * svd_value_p(A, cut, fun=SIGN)


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


def nuclear_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any]) -> Array:
    factor = polar(args[0])
    product = tangents[0] * (np.conj(factor) if is_complex(factor) else factor)
    return np.sum(np.real(product), axis=(-2, -1))


nuclear_p: Primitive = Primitive(
    "nuclear norm", lambda a: np.linalg.svd(a, compute_uv=False).sum(-1), nuclear_jvp,
    batch=True,
)  # fmt: skip
