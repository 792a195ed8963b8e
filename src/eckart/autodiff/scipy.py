"""Differentiable functions of `scipy.linalg` and `scipy.special` that NumPy's protocols do not reach.

The ufuncs of `scipy.special` (``expit, erf, gammaln, ndtr, ...``) can be used directly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg as sl

from .core import Array, Primitive, shape_of
from .errors import TieError, at_line
from .linalg.factor import eigh, svd
from .linalg.inverse import adjoint, moved_right, power_of_two
from .linalg.spectral import with_derivatives
from .rules.elementwise import stop_gradient
from .rules.products import matmul_shape, swap

__all__ = [
    "cosm",
    "eigh",
    "expm",
    "log_softmax",
    "logm",
    "logsumexp",
    "sinm",
    "softmax",
    "solve_triangular",
    "sqrtm",
    "svd",
]


def over_stacks(fun: Callable[..., Any], *arrays: np.ndarray) -> Array:
    """Return ``fun`` of matrices, called for each matrix of the stacks."""
    if arrays[0].ndim == 2:
        return fun(*arrays)
    return np.stack([over_stacks(fun, *matrices) for matrices in zip(*arrays, strict=True)])


# --- functions of a matrix ------------------------------------------------------------------------------
#
# For an analytic function f, f([[A, T], [0, A]]) = [[f(A), L(A, T)], [0, f(A)]], where L is the derivative of
# f at A along T (Mathias, SIAM J. Matrix Anal. 17, 1996; Higham, "Functions of Matrices", Theorem 3.6). Since
# L is a block of f itself, higher derivatives follow by repeating the construction.


def along_directions(a: np.ndarray, *along: np.ndarray, fun: Callable[..., Any]) -> Array:
    """Return f(A), or its derivative along the directions T, U, ..."""
    if not along:
        out = np.asarray(over_stacks(fun, a)) if a.size else a
        return out.astype(a.dtype) if out.dtype.kind == a.dtype.kind else out
    t, *rest = along
    n, c = a.shape[-1], power_of_two(a) / power_of_two(t)  # the rounding errors of a large t would drown `a`
    doubled = [double(a, t * c), *[double(u, np.zeros_like(u)) for u in rest]]
    return along_directions(*doubled, fun=fun)[..., :n, n:] / c


def double(a: np.ndarray, t: np.ndarray) -> Array:
    """Return [[a, t], [0, a]]."""
    a, t = np.broadcast_arrays(a, t)
    return np.block([[a, t], [np.zeros_like(a), a]])


def refuse_singular(name: str, a: np.ndarray) -> None:
    """Refuse to differentiate a function at a singular matrix."""
    size = np.abs(np.linalg.eigvals(a))
    if size.size and np.any(size.min(-1) <= np.finfo(size.dtype).eps * size.max(-1)):
        what = f"an eigenvalue is 0 up to rounding, so there is no derivative{at_line()}"
        raise TieError(name, what, "Use a matrix with a larger diagonal, such as A + eps * np.eye(n)")


def matrix_function(fun: Callable[..., Any], entire: bool = True) -> Primitive:
    """Return the primitive of an analytic function; if it is not entire, a singular matrix is refused."""
    name = f"scipy.linalg.{fun.__name__}"
    check = None if entire else partial(refuse_singular, name)
    return with_derivatives(name, partial(along_directions, fun=fun), swap, check)


expm_p = matrix_function(sl.expm)
sinm_p = matrix_function(sl.sinm)
cosm_p = matrix_function(sl.cosm)
sqrtm_p = matrix_function(sl.sqrtm, entire=False)
logm_p = matrix_function(sl.logm, entire=False)


def expm(A: Array) -> Array:
    """Return the matrix exponential. Equivalent to `scipy.linalg.expm`.

    Parameters
    ----------
    A : array (..., n, n)
        Square matrices, float or complex.

    Returns
    -------
    array (..., n, n)
        The exponentials, in the dtype of ``A``.

    Notes
    -----
    A derivative is computed by the exponential of a matrix of order 2n, at about eight times the cost; each
    further derivative doubles the order again.

    Examples
    --------
    >>> expm(np.zeros((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    return expm_p(A)


def sinm(A: Array) -> Array:
    """Return the matrix sine. Equivalent to `scipy.linalg.sinm`.

    Parameters
    ----------
    A : array (..., n, n)
        Square matrices, float or complex.

    Returns
    -------
    array (..., n, n)
        The sines, in the dtype of ``A``.

    Notes
    -----
    A derivative costs about eight times as much as the value, as for `expm`.

    Examples
    --------
    >>> sinm(np.zeros((2, 2)))
    array([[0., 0.],
           [0., 0.]])
    """
    return sinm_p(A)


def cosm(A: Array) -> Array:
    """Return the matrix cosine. Equivalent to `scipy.linalg.cosm`.

    Parameters
    ----------
    A : array (..., n, n)
        Square matrices, float or complex.

    Returns
    -------
    array (..., n, n)
        The cosines, in the dtype of ``A``.

    Notes
    -----
    A derivative costs about eight times as much as the value, as for `expm`.

    Examples
    --------
    >>> cosm(np.zeros((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    return cosm_p(A)


def sqrtm(A: Array) -> Array:
    """Return the principal square root of a matrix. Equivalent to `scipy.linalg.sqrtm`.

    Parameters
    ----------
    A : array (..., n, n)
        Square matrices, float or complex.

    Returns
    -------
    array (..., n, n)
        The square roots, in the dtype of ``A`` if they are real.

    Raises
    ------
    TieError
        If it is differentiated at a singular matrix.

    Notes
    -----
    A derivative costs about eight times as much as the value, as for `expm`.

    Examples
    --------
    >>> sqrtm(np.diag([4.0, 9.0]))
    array([[2., 0.],
           [0., 3.]])
    """
    return sqrtm_p(A)


def logm(A: Array) -> Array:
    """Return the principal logarithm of a matrix. Equivalent to `scipy.linalg.logm`.

    Parameters
    ----------
    A : array (..., n, n)
        Square matrices, float or complex.

    Returns
    -------
    array (..., n, n)
        The logarithms, in the dtype of ``A`` if they are real.

    Raises
    ------
    TieError
        If it is differentiated at a singular matrix.

    Notes
    -----
    A derivative costs about eight times as much as the value, as for `expm`.

    Examples
    --------
    >>> logm(np.eye(2))
    array([[0., 0.],
           [0., 0.]])
    """
    return logm_p(A)


# --- triangular systems ----------------------------------------------------------------------------------


def triangular_fun(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool) -> Array:
    """Return the solutions of triangular systems, with stacks broadcast together."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
    return over_stacks(partial(sl.solve_triangular, lower=lower, unit_diagonal=unit), a, b)


def triangular_jvp(x: Array, args: Any, tangents: Any, lower: bool, unit: bool) -> Array:
    """Return the tangent of the solution; only the triangle of the matrix has one."""
    (a, _), (ta, tb) = args, tangents
    offset = int(unit)  # a unit diagonal is constant
    if ta is not None:
        ta = np.tril(ta, -offset) if lower else np.triu(ta, offset)
    return triangular_p(a, moved_right(x, ta, tb), lower=lower, unit=unit)


triangular_p: Primitive = Primitive(
    "scipy.linalg.solve_triangular",
    triangular_fun,
    triangular_jvp,
    transpose={1: lambda ct, a, b, lower, unit: triangular_p(swap(a), ct, lower=not lower, unit=unit)},
    shape=lambda a, b, lower, unit: matmul_shape(a, b),
    batch=True,
)


def solve_triangular(
    a: Array, b: Array, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Array:
    """Solve a triangular system. Equivalent to `scipy.linalg.solve_triangular`, also for stacks.

    Parameters
    ----------
    a : array (..., n, n)
        Triangular matrices. Only the triangle is read, and only its entries have a gradient.
    b : array (n,) or (..., n, k)
        The right-hand sides.
    trans : {0, 1, 2, "N", "T", "C"}, default 0
        Solve with ``a`` (0 or "N"), its transpose (1 or "T"), or its conjugate transpose (2 or "C").
    lower : bool, default False
        Whether ``a`` is lower triangular.
    unit_diagonal : bool, default False
        Whether the diagonal is taken to be 1; then it is not read and has no gradient.

    Returns
    -------
    array (n,) or (..., n, k)
        The solution.

    Notes
    -----
    The cost is n^2 k flops, and as much again for each tangent or cotangent of ``b``.

    Examples
    --------
    >>> solve_triangular(np.array([[2.0, 1.0], [0.0, 4.0]]), np.array([3.0, 4.0]))
    array([1., 1.])
    """
    if trans in (1, "T"):
        a, lower = swap(a), not lower
    elif trans in (2, "C"):
        a, lower = adjoint(a), not lower
    if len(shape_of(b)) == 1:
        return triangular_p(a, np.expand_dims(b, -1), lower=lower, unit=unit_diagonal)[..., 0]
    return triangular_p(a, b, lower=lower, unit=unit_diagonal)


def logsumexp(a: Array, axis: Any = None, b: Any = None, keepdims: bool = False) -> Array:
    """Return log(sum(b exp(a))) without overflow. Equivalent to `scipy.special.logsumexp`.

    Parameters
    ----------
    a : array
        The exponents, of any shape and a real floating-point dtype.
    axis : int, tuple of int or None, default None
        The axes to sum over; by default all.
    b : array, optional
        Weights that broadcast with ``a``; by default 1.
    keepdims : bool, default False
        Whether the summed axes are kept with length 1.

    Returns
    -------
    array
        The logarithm, of the shape of ``a`` without the summed axes.

    Examples
    --------
    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))), 4)
    1000.6931
    """
    top = np.max(stop_gradient(a), axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    terms = np.exp(a - top)
    total = np.log(np.sum(terms if b is None else b * terms, axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)


def log_softmax(x: Array, axis: Any = None) -> Array:
    """Return x - logsumexp(x). Equivalent to `scipy.special.log_softmax`.

    Parameters
    ----------
    x : array
        An array of any shape and a real floating-point dtype.
    axis : int, tuple of int or None, default None
        The axes of the sum; by default all.

    Returns
    -------
    array
        The logarithms of `softmax`, of the shape of ``x``, accurate where it underflows.

    Examples
    --------
    >>> log_softmax(np.zeros(2))
    array([-0.69314718, -0.69314718])
    """
    return x - logsumexp(x, axis=axis, keepdims=True)


def softmax(x: Array, axis: Any = None) -> Array:
    """Return exp(x) / sum(exp(x)). Equivalent to `scipy.special.softmax`.

    Parameters
    ----------
    x : array
        An array of any shape and a real floating-point dtype.
    axis : int, tuple of int or None, default None
        The axes of the sum; by default all.

    Returns
    -------
    array
        Positive numbers that sum to 1, of the shape of ``x``.

    Examples
    --------
    >>> softmax(np.zeros(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return np.exp(log_softmax(x, axis))
