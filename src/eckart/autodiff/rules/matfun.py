"""Functions of a matrix from `scipy.linalg`: exponential, square root, logarithm.

For any such function f, f([[A, T], [0, A]]) = [[f(A), L(A, T)], [0, f(A)]] with L the derivative of f at A
along T (Mathias, SIAM J. Matrix Anal. 17, 1996; Higham, "Functions of Matrices", Theorem 3.6). That is the
one rule here, and since L is again a block of f, it is its own rule at every higher order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.linalg as sl

from ..core import Array, Primitive, concrete, shape_of
from ..errors import TieError, at_line
from .linalg import power_of_two
from .products import swap
from .spectral import total


def double(a: Array, t: Array) -> Array:
    """Return [[a, t], [0, a]]."""
    a, t = np.broadcast_arrays(a, t)
    top = np.concatenate([a, t], axis=-1)
    return np.concatenate([top, np.concatenate([np.zeros(shape_of(a)), a], axis=-1)], axis=-2)


def over_stack(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``fun`` mapped over the leading axes."""

    def mapped(a: np.ndarray) -> Array:
        if not a.size:
            return a
        if a.ndim > 2:
            return np.stack([mapped(x) for x in a])
        out = np.asarray(fun(a))
        return out.astype(a.dtype) if out.dtype.kind == a.dtype.kind else out

    return mapped


def slope(a: np.ndarray, t: np.ndarray, fun: Callable[..., Any]) -> Array:
    n, c = a.shape[-1], power_of_two(a) / power_of_two(t)  # or a would be lost in the rounding of a large t
    return fun(double(a, t * c))[..., :n, n:] / c


def slope_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Callable[..., Any]) -> Array:
    (a, t), (ta, tt) = args, tangents
    if ta is None:
        return slope_p(a, tt, fun=fun)
    n, c = shape_of(a)[-1], power_of_two(a) / power_of_two(t)
    across = slope_p(double(a, t * c), double(ta, np.zeros(shape_of(a))), fun=fun)[..., :n, n:] / c
    return total(across, None if tt is None else slope_p(a, tt, fun=fun))


slope_p: Primitive = Primitive(
    "matrix function slope",
    slope,
    slope_jvp,
    transpose={1: lambda ct, a, t, fun: slope_p(swap(a), ct, fun=fun)},
    shape=lambda a, t, fun: shape_of(t),
    batch=True,
)


def matrix_function(fun: Callable[..., Any], entire: bool = True) -> Primitive:
    """Return the primitive of an analytic function of a matrix, of any or of regular ones only."""
    mapped, name = over_stack(fun), f"scipy.linalg.{fun.__name__}"

    def jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any]) -> Array:
        a = concrete(args[0])
        if not entire and a.size:
            size = np.abs(np.linalg.eigvals(a))
            if np.any(size.min(-1) <= np.finfo(size.dtype).eps * size.max(-1)):
                raise TieError(
                    name, f"an eigenvalue is 0 to rounding{at_line()}: no derivative", "Add to the diagonal"
                )
        return slope_p(args[0], tangents[0], fun=mapped)

    return Primitive(name, mapped, jvp, batch=True)


expm = matrix_function(sl.expm)
sinm = matrix_function(sl.sinm)
cosm = matrix_function(sl.cosm)
sqrtm = matrix_function(sl.sqrtm, entire=False)
logm = matrix_function(sl.logm, entire=False)
