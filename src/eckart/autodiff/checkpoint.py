"""`checkpoint`: recompute a function in the reverse pass instead of keeping its intermediate results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from math import prod
from typing import Any

import numpy as np

from .api import Linear, jvp, select
from .core import Array, Function, Primitive, Tracer, convert, dtype_of, shape_of, zeros
from .tape import Row
from .tree import flatten
from .vmap import vmap


class Replayed(Primitive):
    """A call of a function, recorded as one row that keeps the arguments; the reverse pass calls it again."""

    def jvp(self, out: Array, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Record the call in reverse mode; compute the tangent in forward mode."""
        row = next((t for t in tangents if type(t) is Row), None)
        if row is None:
            return self.apply(args, tangents, params)
        return row.level.add(self, tangents, args, params, shape_of(out), dtype_of(out))

    def apply(self, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Return the tangent of the result, by calling the function in forward mode."""
        ts = [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
        return jvp(params["call"], args, ts)[1]

    def pull(self, row: Row, ct: Array) -> None:
        """Add to the cotangents of the parents, by calling the function in reverse mode."""
        cts = Linear(row.params["call"], row.known, "checkpoint").pull([ct], free=True)
        for p, g in zip(row.parents, cts, strict=True):
            if p is not None:
                p.give(g, type(g) is np.ndarray)


replayed_p = Replayed(
    "checkpoint",
    lambda *args, call: call(*args),
    batch=lambda args, batched, call: vmap(call, tuple(0 if b else None for b in batched))(*args),
)


def checkpoint(f: Function) -> Function:
    """Return ``f`` in a form of which reverse mode keeps only the arguments and recomputes the rest.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays, of any shapes and dtypes. All traced arrays that it uses must
        be among its arguments.

    Returns
    -------
    callable
        A function with the same arguments, results and derivatives.

    Raises
    ------
    ArgumentError
        If ``f`` uses a traced array that is not among its arguments.

    Notes
    -----
    The cost is one more evaluation of ``f``; the saving is the memory for its intermediate results. A chain
    of n equal steps that is cut into sqrt(n) checkpointed pieces needs memory for about 2 sqrt(n) steps
    (Chen et al., arXiv:1604.06174). Checkpoints may be nested.

    Examples
    --------
    >>> import numpy as np
    >>> from eckart.autodiff import grad
    >>> grad(lambda x: np.sum(checkpoint(np.sin)(x)))(np.zeros(2))
    array([1., 1.])
    """

    @wraps(f)
    def replayed(*args: Any, **options: Any) -> Any:
        leaves, rebuild = flatten((args, options))
        outline: list[Any] = []  # how to split the vector into the results; known once `f` has been called

        def in_one_vector(*leaves: Any) -> Array:
            inner, named = rebuild(list(leaves))
            outs, rebuild_out = flatten(f(*inner, **named))
            outline[:] = rebuild_out, [(shape_of(y), dtype_of(y)) for y in outs]
            return np.concatenate([np.ravel(y) for y in outs])

        positions = [i for i, x in enumerate(leaves) if isinstance(x, Tracer)]
        call, traced = select(in_one_vector, leaves, {}, positions)
        vector = replayed_p(*traced, call=call)
        rebuild_out, shapes_and_dtypes = outline
        parts = np.split(vector, np.cumsum([prod(shape) for shape, _ in shapes_and_dtypes])[:-1])
        outs = zip(parts, shapes_and_dtypes, strict=True)
        return rebuild_out([convert(np.reshape(part, shape), dtype) for part, (shape, dtype) in outs])

    return replayed
