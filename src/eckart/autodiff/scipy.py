"""What NumPy's protocols do not reach: functions of `scipy.linalg` and `scipy.special`, differentiable.

The ufuncs of `scipy.special` (``expit, erf, gammaln, ndtr, ...``) need nothing from here.
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

__all__ = ["cosm", "eigh", "expm", "log_softmax", "logm", "logsumexp", "sinm", "softmax", "solve_triangular",
           "sqrtm", "svd"]  # fmt: skip


def over_stacks(fun: Callable[..., Any], *arrays: np.ndarray) -> Array:
    """Return ``fun`` of matrices, mapped over their leading axes."""
    if arrays[0].ndim == 2:
        return fun(*arrays)
    return np.stack([over_stacks(fun, *matrices) for matrices in zip(*arrays, strict=True)])


# --- functions of a matrix ------------------------------------------------------------------------------
#
# For any such function f, f([[A, T], [0, A]]) = [[f(A), L(A, T)], [0, f(A)]] with L the derivative of f at A
# along T (Mathias, SIAM J. Matrix Anal. 17, 1996; Higham, "Functions of Matrices", Theorem 3.6). Since L is
# again a block of f, so is every derivative of it.


def along_directions(a: np.ndarray, *along: np.ndarray, fun: Callable[..., Any]) -> Array:
    """Return f(A), or its derivative along T, U, ..."""
    if not along:
        out = np.asarray(over_stacks(fun, a)) if a.size else a
        return out.astype(a.dtype) if out.dtype.kind == a.dtype.kind else out
    t, *rest = along
    n, c = a.shape[-1], power_of_two(a) / power_of_two(t)  # or a would be lost in the rounding of a large t
    doubled = [double(a, t * c), *[double(u, np.zeros_like(u)) for u in rest]]
    return along_directions(*doubled, fun=fun)[..., :n, n:] / c


def double(a: np.ndarray, t: np.ndarray) -> Array:
    """Return [[a, t], [0, a]]."""
    a, t = np.broadcast_arrays(a, t)
    return np.block([[a, t], [np.zeros_like(a), a]])


def refuse_singular(name: str, a: np.ndarray) -> None:
    size = np.abs(np.linalg.eigvals(a))
    if size.size and np.any(size.min(-1) <= np.finfo(size.dtype).eps * size.max(-1)):
        what = f"an eigenvalue is 0 to rounding{at_line()}: no derivative"
        raise TieError(name, what, "Add to the diagonal")


def matrix_function(fun: Callable[..., Any], entire: bool = True) -> Primitive:
    """Return the primitive of an analytic function of a matrix, of any or of regular ones only."""
    name = f"scipy.linalg.{fun.__name__}"
    check = None if entire else partial(refuse_singular, name)
    return with_derivatives(name, partial(along_directions, fun=fun), swap, check)


expm = matrix_function(sl.expm)
sinm = matrix_function(sl.sinm)
cosm = matrix_function(sl.cosm)
sqrtm = matrix_function(sl.sqrtm, entire=False)
logm = matrix_function(sl.logm, entire=False)


# --- triangular systems ----------------------------------------------------------------------------------


def triangular(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool) -> Array:
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
    return over_stacks(partial(sl.solve_triangular, lower=lower, unit_diagonal=unit), a, b)


def triangular_jvp(x: Array, args: Any, tangents: Any, lower: bool, unit: bool) -> Array:
    (a, _), (ta, tb) = args, tangents
    if ta is not None:
        ta = (np.tril if lower else np.triu)(ta, (-1 if lower else 1) if unit else 0)
    return triangular_p(a, moved_right(x, ta, tb), lower=lower, unit=unit)


triangular_p: Primitive = Primitive(
    "scipy.linalg.solve_triangular", triangular, triangular_jvp,
    transpose={1: lambda ct, a, b, lower, unit: triangular_p(swap(a), ct, lower=not lower, unit=unit)},
    shape=lambda a, b, lower, unit: matmul_shape(a, b), batch=True,
)  # fmt: skip


def solve_triangular(
    a: Array, b: Array, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Array:
    """Solve a triangular system. Equivalent to `scipy.linalg.solve_triangular`, and takes stacks.

    Parameters
    ----------
    a : array (..., n, n)
        Only the triangle is used, and only it has a gradient.
    b : array (n,) or (..., n, k)
    trans : {0, 1, 2, "N", "T", "C"}
        Solve with a, its transpose, or its conjugate transpose.

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

    Examples
    --------
    >>> log_softmax(np.zeros(2))
    array([-0.69314718, -0.69314718])
    """
    return x - logsumexp(x, axis=axis, keepdims=True)


def softmax(x: Array, axis: Any = None) -> Array:
    """Return exp(x) / sum(exp(x)). Equivalent to `scipy.special.softmax`.

    Examples
    --------
    >>> softmax(np.zeros(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return np.exp(log_softmax(x, axis))
