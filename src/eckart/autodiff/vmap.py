"""`vmap`: turn a function of one example into a function of a batch.

The batch axis of a batched array is its first. A primitive with a batch rule is called once, on the whole
batch. A primitive without one is called in a loop over the examples, which is correct but slow.
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
    """An array with a leading batch axis that is hidden from the user's function."""

    __slots__ = ("value",)

    def __init__(self, level: Level, value: Array) -> None:
        self.level, self.value = level, value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return shape_of(self.value)[1:]

    def __bool__(self) -> bool:
        """Refuse a condition, which has one value per example."""
        what = f"under vmap a condition has one value per example{at_line()}"
        raise TracerError("bool", what, "Use np.where(condition, a, b)")


class Batching(Level):
    """The level of one `vmap`."""

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        """Return the result for the whole batch; see `Level.process`."""
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
    """Insert axes of length 1 after each batch axis, so that the arrays broadcast example by example."""
    rank = max(len(shape_of(v)) - b for v, b in zip(values, batched, strict=True))
    out = []
    for v, b in zip(values, batched, strict=True):
        shape = shape_of(v)
        if b and len(shape) < rank + 1:
            v = np.reshape(v, (shape[0], *(1,) * (rank + 1 - len(shape)), *shape[1:]))
        out.append(v)
    return out


def batch_size(values: Sequence[Array], batched: Sequence[bool]) -> int:
    """Return the length of the batch axis."""
    return next(shape_of(v)[0] for v, b in zip(values, batched, strict=True) if b)


def repeated(values: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    """Return the arrays with a batch axis each; an array without one is repeated."""
    size, pairs = batch_size(values, batched), zip(values, batched, strict=True)
    return [v if b else np.broadcast_to(v, (size, *shape_of(v))) for v, b in pairs]


def one_by_one(prim: Primitive, values: list[Array], batched: list[bool], params: dict[str, Any]) -> Any:
    """Call a primitive without a batch rule on each example."""
    outs = []
    for i in range(batch_size(values, batched)):
        example = [v[i] if b else v for v, b in zip(values, batched, strict=True)]
        outs.append(bind(prim, example, params))
    if not outs:
        what = "has no batch rule, so the shape of its result is unknown for an empty batch"
        raise ArgumentError("vmap", f"{prim.name} {what}", "Handle an empty batch before the call")
    if type(outs[0]) is tuple:
        return tuple(np.stack(parts) for parts in zip(*outs, strict=True))
    return np.stack(outs)


def vmap(f: Function, in_axes: Any = 0, out_axes: int = 0) -> Function:
    """Return ``f`` mapped over an axis of its arguments and computed on the whole batch at once.

    Parameters
    ----------
    f : callable
        A function of one example; its arguments and result are arrays or nested tuples, lists and dicts.
    in_axes : int, None, or tuple of int and None, default 0
        The axis to map over: one for all arguments, or one for each. An argument with None is the same for
        all examples.
    out_axes : int, default 0
        The position of the batch axis in each result.

    Returns
    -------
    callable
        The function of the batch. Its keyword arguments are the same for all examples.

    Raises
    ------
    ArgumentError
        If the mapped axes differ in length, or if an argument has no such axis.
    TracerError
        If ``f`` branches on a batched value (``if x > 0``), which has no single answer. Use `np.where`.

    Notes
    -----
    A primitive without a batch rule is called in a loop, which is correct but slow. `np.unique` is refused,
    because its results may differ in length.

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
            what = f"in_axes has length {len(axes)}, but the number of positional arguments is {len(args)}"
            fix = "Pass one axis for each, and None for an argument that is the same for all examples"
            raise ArgumentError("vmap", what, fix)
        trees = [(*flatten(a), axis) for a, axis in zip(args, axes, strict=True)]
        pairs = [(shape_of(x), axis) for leaves, _, axis in trees for x in leaves if axis is not None]
        try:
            sizes = {shape[axis] for shape, axis in pairs}
        except IndexError:
            axes_asked = ", ".join(f"axis {axis} of shape {shape}" for shape, axis in pairs)
            fix = "Pass in_axes=None for an argument without a batch axis"
            raise ArgumentError("vmap", f"a mapped axis does not exist ({axes_asked})", fix) from None
        if len(sizes) != 1:
            what = f"the mapped axes must have one common length, but their lengths are {sorted(sizes)}"
            raise ArgumentError("vmap", what, "Pass in_axes=None for an argument without a batch axis")
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
