"""Jacobians and Hessians: the identity pushed through the derivative at once, as one more axis."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .api import Linear, grad, jvp, select
from .core import Array, Function, Tracer, dtype_of, shape_of
from .errors import ArgumentError
from .vmap import vmap


def basis(x: Array) -> Array:
    """Return the unit arrays of the shape of ``x``: (n, *shape)."""
    shape = shape_of(x)
    return np.eye(prod(shape), dtype=dtype_of(x)).reshape(prod(shape), *shape)


def single(x: Any) -> Array:
    """Return ``x`` if it is one array."""
    if isinstance(x, (Tracer, np.ndarray, np.generic, float, complex, int)):
        return x
    what = f"one array was expected, a {type(x).__name__} was found"
    raise ArgumentError("jacobian", what, "Put them into one array by np.concatenate")


def jacobian(f: Function, argnums: int = 0, mode: str = "auto") -> Function:
    """Return the Jacobian of ``f`` with respect to one array.

    Parameters
    ----------
    f : callable
        From arrays to one array.
    argnums : int
        The argument to differentiate in.
    mode : {"auto", "fwd", "rev"}
        Forward costs n derivatives and reverse m, for n inputs and m outputs; both are done in one
        vectorised pass. "auto" calls ``f`` once to see m, and takes forward if n <= m.

    Returns
    -------
    callable
        Of the arguments of ``f``; returns an array of shape (*shape of the result, *shape of the argument).

    Notes
    -----
    Memory min(n, m) times that of one derivative. For complex arguments ``f`` must be holomorphic.

    Examples
    --------
    >>> import numpy as np
    >>> jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    if mode not in ("auto", "fwd", "rev"):
        raise ArgumentError("jacobian", f"mode {mode!r} is unknown", 'Write "auto", "fwd" or "rev"')

    def matrix(*args: Any, **options: Any) -> Any:
        inner, (x,) = select(f, args, options, argnums)
        n = prod(shape_of(single(x)))
        if mode == "fwd" or (mode == "auto" and n <= prod(shape_of(single(inner(x))))):
            columns = vmap(lambda t: jvp(inner, (x,), (t,))[1])(basis(x))  # (n, *out)
            return np.reshape(np.moveaxis(columns, 0, -1), (*shape_of(columns)[1:], *shape_of(x)))
        linear = Linear(inner, (x,), "jacobian")
        y = single(linear.value)
        rows = vmap(lambda ct: linear.transpose(ct)[0])(basis(y))  # (m, *in)
        if dtype_of(y).kind == "c" and dtype_of(x).kind != "c":  # so far the real part: Re(i J) is -Im(J)
            rows = rows - 1j * vmap(lambda ct: linear.transpose(1j * ct)[0])(basis(y))
        return np.reshape(rows, (*shape_of(y), *shape_of(x)))

    return matrix


def hessian(f: Function, argnums: int = 0) -> Function:
    """Return the Hessian of a scalar function with respect to one array: forward over reverse.

    Returns
    -------
    callable
        Of the arguments of ``f``; returns an array of shape (*shape, *shape) of the argument.

    Notes
    -----
    n Hessian-vector products in one vectorised pass.

    Examples
    --------
    >>> import numpy as np
    >>> hessian(lambda x: x[0] * x[1] ** 2)(np.array([2.0, 3.0]))
    array([[0., 6.],
           [6., 4.]])
    """
    return jacobian(grad(f, argnums), argnums, "fwd")
