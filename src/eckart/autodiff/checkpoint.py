"""`checkpoint`: less memory for more time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from .api import Linear, jvp
from .core import Array, Primitive, Row, dtype_of, shape_of, zeros
from .tape import Tape
from .tree import flatten
from .vmap import vmap


class Replay:
    """The operation of a tape's row that holds a function's arguments and computes it anew when needed."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def pull(self, row: Row, ct: Array) -> None:
        for p, g in zip(
            row.parents, Linear(self.call, row.known, "checkpoint").transpose(ct, free=True), strict=True
        ):
            if p is not None:
                p.give(g)

    def linear(self, args: Sequence[Array], tangents: Sequence[Any], params: Any) -> Any:
        return jvp(
            self.call, args, [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
        )[1]


def rule(out: Array, args: Sequence[Array], tangents: Sequence[Any], call: Callable[..., Any]) -> Any:
    tape = next((t.level for t in tangents if isinstance(t, Row)), None)
    if isinstance(tape, Tape):
        return tape.add(Replay(call), tangents, args, {}, shape_of(out), dtype_of(out))
    return Replay(call).linear(args, tangents, {})


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
    def replayed(*args: Any) -> Any:
        leaves, rebuild = flatten(args)
        outline: list[Any] = []

        def call(*arrays: Array) -> Array:
            outs, rebuild_out = flatten(f(*rebuild(list(arrays))))
            outline[:] = [rebuild_out, [shape_of(y) for y in outs]]
            return outs[0] if len(outs) == 1 else np.concatenate([np.ravel(y) for y in outs])

        out = checkpoint_p(*leaves, call=call)
        rebuild_out, shapes = outline
        if len(shapes) == 1:
            return rebuild_out([out])
        ends = np.cumsum([int(np.prod(s, dtype=int)) for s in shapes])
        return rebuild_out(
            [
                np.reshape(out[b - int(np.prod(s, dtype=int)) : b], s)
                for b, s in zip(ends, shapes, strict=True)
            ]
        )

    return replayed
