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

from ..core import Array, Primitive, shape_of
from .spectral import swap


def double(a: Array, t: Array) -> Array:
    """Return [[a, t], [0, a]]."""
    a, t = np.broadcast_arrays(a, t)
    top = np.concatenate([a, t], axis=-1)
    return np.concatenate([top, np.concatenate([np.zeros(shape_of(a)), a], axis=-1)], axis=-2)


def over_stack(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``fun`` mapped over the leading axes."""

    def mapped(a: np.ndarray) -> Array:
        if a.ndim > 2:
            return np.stack([mapped(x) for x in a]) if len(a) else a
        out = np.asarray(fun(a))
        return out.astype(a.dtype) if out.dtype.kind == a.dtype.kind else out

    return mapped


def slope(a: np.ndarray, t: np.ndarray, fun: Callable[..., Any]) -> Array:
    n = a.shape[-1]
    return fun(double(a, t))[..., :n, n:]


def slope_jvp(y: Array, args: Sequence[Array], tangents: Sequence[Any], fun: Callable[..., Any]) -> Array:
    (a, t), (ta, tt) = args, tangents
    if ta is None:
        return slope_p(a, tt, fun=fun)
    n = shape_of(a)[-1]
    across = slope_p(double(a, t), double(ta, np.zeros(shape_of(a))), fun=fun)[..., :n, n:]
    return across if tt is None else across + slope_p(a, tt, fun=fun)


slope_p: Primitive = Primitive(
    "matrix function slope",
    slope,
    slope_jvp,
    transpose={1: lambda ct, a, t, fun: slope_p(swap(a), ct, fun=fun)},
    shape=lambda a, t, fun: shape_of(t),
    batch=True,
)


def matrix_function(name: str, fun: Callable[..., Any]) -> Primitive:
    """Return the primitive of an analytic function of a matrix."""
    mapped = over_stack(fun)
    prim = Primitive(name, mapped, lambda y, args, tangents: slope_p(args[0], tangents[0], fun=mapped))
    prim.batch = True
    return prim


expm = matrix_function("scipy.linalg.expm", sl.expm)
sqrtm = matrix_function("scipy.linalg.sqrtm", sl.sqrtm)
logm = matrix_function("scipy.linalg.logm", sl.logm)
sinm = matrix_function("scipy.linalg.sinm", sl.sinm)
cosm = matrix_function("scipy.linalg.cosm", sl.cosm)
