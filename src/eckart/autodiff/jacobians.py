"""Jacobians and Hessians: the identity pushed through the derivative at once, as one more axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .api import Linear, grad, jvp, select
from .core import Array, Tracer, dtype_of, shape_of
from .errors import ArgumentError
from .vmap import vmap


def basis(x: Array) -> Array:
    """Return the unit arrays of the shape of ``x``: (n, *shape)."""
    n = int(np.prod(shape_of(x), dtype=int))
    return np.eye(n, dtype=dtype_of(x)).reshape(n, *shape_of(x))


def single(where: str, x: Any) -> Array:
    """Return ``x`` if it is one array."""
    if isinstance(x, (Tracer, np.ndarray, np.generic, float, complex, int)):
        return x
    raise ArgumentError(
        where,
        f"one array was expected, a {type(x).__name__} was found",
        "Put them into one array by np.concatenate",
    )


def jacobian(f: Callable[..., Any], argnums: int = 0, mode: str = "auto") -> Callable[..., Any]:
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
        single("jacobian", x)
        way = mode
        if mode == "auto":
            n, m = (int(np.prod(shape_of(a), dtype=int)) for a in (x, single("jacobian", inner(x))))
            way = "fwd" if n <= m else "rev"
        if way == "fwd":
            columns = vmap(lambda t: jvp(inner, (x,), (t,))[1])(basis(x))  # (n, *out)
            return by_columns(columns, x)
        linear = Linear(inner, (x,), "jacobian")
        y = single("jacobian", linear.value)
        rows = vmap(lambda ct: linear.transpose(ct)[0])(basis(y))  # (m, *in)
        return np.reshape(rows, (*shape_of(y), *shape_of(x)))

    return matrix


def by_columns(columns: Array, x: Array) -> Array:
    """Return derivatives along the unit arrays, (n, *out), as a Jacobian (*out, *in)."""
    moved = np.moveaxis(columns, 0, -1)
    return np.reshape(moved, (*shape_of(columns)[1:], *shape_of(x)))


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
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
