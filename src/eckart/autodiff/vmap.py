"""`vmap`: a function of one example made a function of a batch.

A batched array carries its batch axis first. A primitive with a batch rule is called once on the whole
batch; one without is called in a loop over the examples, which is correct and slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np

from .core import Array, Function, Level, Primitive, Tracer, bind, shape_of
from .errors import ArgumentError, TracerError, at_line
from .tree import flatten


class Batch(Tracer):
    """An array with a batch axis in front that the user's function does not see."""

    __slots__ = ("value",)

    def __init__(self, level: Level, value: Array) -> None:
        self.level, self.value = level, value

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.value)[1:]

    def __bool__(self) -> bool:
        what = f"under vmap a condition has one value per example{at_line()}"
        raise TracerError("bool", what, "Write np.where(c, a, b)")


class Batching(Level):
    """The level of one `vmap`."""

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        batched = [self.holds(a) for a in args]
        values = [a.value if b else a for a, b in zip(args, batched, strict=True)]
        if prim.batch is True:
            out = bind(prim, align(values, batched), params)
        elif prim.batch is not None:
            out = prim.batch(values, batched, **params)
        else:
            out = one_by_one(prim, values, batched, params)
        return tuple(Batch(self, y) for y in out) if type(out) is tuple else Batch(self, out)


def align(values: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    """Put axes of length 1 behind each batch axis, so that the arrays broadcast example by example."""
    rank = max(len(shape_of(v)) - b for v, b in zip(values, batched, strict=True))
    out = []
    for v, b in zip(values, batched, strict=True):
        shape = shape_of(v)
        if b and len(shape) < rank + 1:
            v = np.reshape(v, (shape[0], *(1,) * (rank + 1 - len(shape)), *shape[1:]))
        out.append(v)
    return out


def size_of(values: Sequence[Array], batched: Sequence[bool]) -> int:
    return next(shape_of(v)[0] for v, b in zip(values, batched, strict=True) if b)


def repeated(values: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    """Give every array the batch axis: what has none is repeated."""
    size, pairs = size_of(values, batched), zip(values, batched, strict=True)
    return [v if b else np.broadcast_to(v, (size, *shape_of(v))) for v, b in pairs]


def one_by_one(prim: Primitive, values: list[Array], batched: list[bool], params: dict[str, Any]) -> Any:
    """Call a primitive without a batch rule on each example."""
    outs = []
    for i in range(size_of(values, batched)):
        example = [v[i] if b else v for v, b in zip(values, batched, strict=True)]
        outs.append(bind(prim, example, params))
    if not outs:
        what = "has no batch rule, and of an empty batch the shape of its result is unknown"
        raise ArgumentError("vmap", f"{prim.name} {what}", "Treat an empty batch apart")
    if type(outs[0]) is tuple:
        return tuple(np.stack(parts) for parts in zip(*outs, strict=True))
    return np.stack(outs)


def vmap(f: Function, in_axes: Any = 0, out_axes: int = 0) -> Function:
    """Return ``f`` mapped over an axis of its arguments, computed on the whole batch at once.

    Parameters
    ----------
    f : callable
        A function of one example.
    in_axes : int, None, or a tuple of them
        The axis to map over, for all arguments or for each; None: the argument is the same for all.
    out_axes : int
        Where the batch axis stands in the results.

    Returns
    -------
    callable
        The function of the batch; what is given to it by name is the same for all.

    Notes
    -----
    A condition on a batched value (``if x > 0``) has no single answer and is refused: write `np.where`.

    Examples
    --------
    >>> import numpy as np
    >>> from eckart.autodiff import grad, vmap
    >>> vmap(grad(lambda x: x @ x))(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[2., 4.],
           [6., 8.]])
    """

    @wraps(f)
    def mapped(*args: Any, **options: Any) -> Any:
        axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
        if len(axes) != len(args):
            what = f"in_axes names {len(axes)} arguments, {len(args)} were given"
            raise ArgumentError("vmap", what, "Give one for each, None for what is the same for all")
        trees = [(*flatten(a), axis) for a, axis in zip(args, axes, strict=True)]
        pairs = [(shape_of(x), axis) for leaves, _, axis in trees for x in leaves if axis is not None]
        try:
            sizes = {shape[axis] for shape, axis in pairs}
        except IndexError:
            what = ", ".join(f"axis {axis} of an array of shape {shape}" for shape, axis in pairs)
            raise ArgumentError("vmap", what, "Give in_axes=None for what has no such axis") from None
        if len(sizes) != 1:
            what = f"the mapped axes have lengths {sorted(sizes)}"
            raise ArgumentError("vmap", what, "Give them one length, or in_axes=None")
        size, level = sizes.pop(), Batching()
        inner = [
            rebuild([x if axis is None else Batch(level, np.moveaxis(x, axis, 0)) for x in leaves])
            for leaves, rebuild, axis in trees
        ]
        outs, rebuild = level.run(lambda *xs: f(*xs, **options), inner)
        ys = [y.value if level.holds(y) else np.broadcast_to(y, (size, *shape_of(y))) for y in outs]
        ys = [y.copy() if type(y) is np.ndarray and not y.flags.writeable else y for y in ys]
        return rebuild([np.moveaxis(y, 0, out_axes) for y in ys])

    return mapped
