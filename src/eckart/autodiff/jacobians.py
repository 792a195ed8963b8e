"""Jacobians and Hessians: all columns of the identity go through the derivative at once, as one more axis."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .api import Linear, grad, jvp, select
from .core import Array, Function, Tracer, dtype_of, shape_of
from .errors import ArgumentError
from .vmap import vmap


def basis(x: Array) -> Array:
    """Return the n = x.size unit arrays of the shape of ``x``, stacked: (n, *shape)."""
    shape = shape_of(x)
    return np.eye(prod(shape), dtype=dtype_of(x)).reshape(prod(shape), *shape)


def single(x: Any) -> Array:
    """Return ``x`` if it is one array; refuse trees."""
    if isinstance(x, (Tracer, np.ndarray, np.generic, float, complex, int)):
        return x
    what = f"argument and result must be one array each, but one of them is a {type(x).__name__}"
    raise ArgumentError("jacobian", what, "Use np.concatenate to make one array of the parts")


def jacobian(f: Function, argnums: int = 0, mode: str = "auto") -> Function:
    """Return the Jacobian of ``f`` with respect to one array.

    Parameters
    ----------
    f : callable
        A function written in NumPy that returns one array, of any shape.
    argnums : int, default 0
        The position of the argument to differentiate, which must be one array.
    mode : {"auto", "fwd", "rev"}, default "auto"
        For n inputs and m outputs, forward mode computes n derivatives and reverse mode m, both in one
        vectorised pass. "auto" calls ``f`` once to find m and chooses forward mode if n <= m.

    Returns
    -------
    callable
        A function of the arguments of ``f`` that returns an array of shape (*shape of the result, *shape of
        the argument).

    Raises
    ------
    ArgumentError
        If ``mode`` is unknown, or if the argument or the result is not one array.

    Notes
    -----
    The memory is min(n, m) times that of one derivative. For complex arguments ``f`` must be holomorphic.

    Examples
    --------
    >>> import numpy as np
    >>> jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    if mode not in ("auto", "fwd", "rev"):
        raise ArgumentError("jacobian", f"the mode {mode!r} is unknown", 'Use "auto", "fwd" or "rev"')

    def matrix(*args: Any, **options: Any) -> Any:
        inner, (x,) = select(f, args, options, argnums)
        n = prod(shape_of(single(x)))
        if mode == "fwd" or (mode == "auto" and n <= prod(shape_of(single(inner(x))))):
            columns = vmap(lambda t: jvp(inner, (x,), (t,))[1])(basis(x))  # (n, *out)
            return np.reshape(np.moveaxis(columns, 0, -1), (*shape_of(columns)[1:], *shape_of(x)))
        linear = Linear(inner, (x,), "jacobian")
        y = single(linear.value)
        rows = vmap(lambda ct: linear.transpose(ct)[0])(basis(y))  # (m, *in)
        if dtype_of(y).kind == "c" and dtype_of(x).kind != "c":  # `rows` is Re(J); Re(i J) is -Im(J)
            rows = rows - 1j * vmap(lambda ct: linear.transpose(1j * ct)[0])(basis(y))
        return np.reshape(rows, (*shape_of(y), *shape_of(x)))

    return matrix


def hessian(f: Function, argnums: int = 0) -> Function:
    """Return the Hessian of a scalar function with respect to one array, by forward over reverse mode.

    Parameters
    ----------
    f : callable
        A function written in NumPy that returns one real number.
    argnums : int, default 0
        The position of the argument to differentiate, which must be one array.

    Returns
    -------
    callable
        A function of the arguments of ``f`` that returns an array of shape (*shape, *shape), where shape is
        that of the argument.

    Raises
    ------
    ArgumentError
        If the argument is not one array, or if ``f`` does not return one real number.

    Notes
    -----
    The cost is that of n Hessian-vector products for n inputs, in one vectorised pass.

    Examples
    --------
    >>> import numpy as np
    >>> hessian(lambda x: x[0] * x[1] ** 2)(np.array([2.0, 3.0]))
    array([[0., 6.],
           [6., 4.]])
    """
    return jacobian(grad(f, argnums), argnums, "fwd")
