"""`checkpoint`: less memory for more time."""

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
    """The call of a function, of which a tape's row holds the arguments; it is computed anew when needed."""

    def jvp(self, out: Array, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        row = next((t for t in tangents if type(t) is Row), None)
        if row is None:
            return self.apply(args, tangents, params)
        return row.level.add(self, tangents, args, params, shape_of(out), dtype_of(out))

    def apply(self, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        ts = [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
        return jvp(params["call"], args, ts)[1]

    def pull(self, row: Row, ct: Array) -> None:
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
    """Return ``f`` such that reverse mode keeps only its arguments, and computes the rest again.

    Parameters
    ----------
    f : callable
        Of arrays or trees of arrays; every traced array it uses must be among its arguments.

    Notes
    -----
    One more evaluation of ``f`` for the memory of its intermediate results. A chain of n equal steps cut
    into sqrt(n) checkpointed pieces needs memory for about 2 sqrt(n) steps (Chen et al.,
    arXiv:1604.06174); checkpoints may be nested.

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
        outline: list[Any] = []  # how to take the vector apart: found as it is made

        def in_one_vector(*leaves: Any) -> Array:
            inner, named = rebuild(list(leaves))
            outs, rebuild_out = flatten(f(*inner, **named))
            outline[:] = rebuild_out, [(shape_of(y), dtype_of(y)) for y in outs]
            return np.concatenate([np.ravel(y) for y in outs])

        at = [i for i, x in enumerate(leaves) if isinstance(x, Tracer)]
        call, traced = select(in_one_vector, leaves, {}, at)
        vector = replayed_p(*traced, call=call)
        rebuild_out, looks = outline
        parts = np.split(vector, np.cumsum([prod(shape) for shape, _ in looks])[:-1])
        outs = zip(parts, looks, strict=True)
        return rebuild_out([convert(np.reshape(part, shape), dtype) for part, (shape, dtype) in outs])

    return replayed
