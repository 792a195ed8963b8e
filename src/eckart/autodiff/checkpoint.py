"""`checkpoint`: less memory for more time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from .api import Linear, jvp
from .core import Array, Primitive, Tracer, convert, dtype_of, shape_of, zeros
from .tape import Row
from .tree import flatten
from .vmap import vmap


class Replay:
    """The operation of a tape's row that holds a function's arguments and computes it anew when needed."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def pull(self, row: Row, ct: Array) -> None:
        cts = Linear(self.call, row.known, "checkpoint").transpose_once(ct)
        for p, g in zip(row.parents, cts, strict=True):
            if p is not None:
                p.give(g, type(g) is np.ndarray)

    def apply(self, args: Sequence[Array], tangents: Sequence[Any], params: Any) -> Any:
        ts = [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
        return jvp(self.call, args, ts)[1]


def rule(out: Array, args: Sequence[Array], tangents: Sequence[Any], call: Callable[..., Any]) -> Any:
    row = next((t for t in tangents if type(t) is Row), None)
    if row is None:
        return Replay(call).apply(args, tangents, {})
    return row.level.add(Replay(call), tangents, args, {}, shape_of(out), dtype_of(out))


checkpoint_p: Primitive = Primitive(
    "checkpoint",
    lambda *args, call: call(*args),
    rule,
    batch=lambda args, batched, call: vmap(call, tuple(0 if b else None for b in batched))(*args),
)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
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
        at = [i for i, x in enumerate(leaves) if isinstance(x, Tracer)]
        outline: list[Any] = []

        def call(*some: Array) -> Array:
            full = list(leaves)
            for i, x in zip(at, some, strict=True):
                full[i] = x
            inner, named = rebuild(full)
            outs, rebuild_out = flatten(f(*inner, **named))
            outline[:] = [rebuild_out, [(shape_of(y), dtype_of(y)) for y in outs]]
            return outs[0] if len(outs) == 1 else np.concatenate([np.ravel(y) for y in outs])

        out = checkpoint_p(*[leaves[i] for i in at], call=call)
        rebuild_out, looks = outline
        if len(looks) == 1:
            return rebuild_out([out])
        ends = list(accumulate(prod(shape) for shape, _ in looks))
        parts = [out[end - prod(shape) : end] for end, (shape, _) in zip(ends, looks, strict=True)]
        return rebuild_out(
            [
                convert(np.reshape(part, shape), dtype)
                for part, (shape, dtype) in zip(parts, looks, strict=True)
            ]
        )

    return replayed
