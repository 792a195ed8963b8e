"""The linear tape of reverse mode: rows are added as rules run, then walked backwards or forwards.

A tape holds only linear operations on tangents, in the order in which they were recorded. Walking it
forwards (`push`) applies the derivative to a tangent; walking it backwards with each operation transposed
(`pull`) applies the transpose to a cotangent. Neither recurses, so depth is bounded by memory only.
Cotangents and the recorded arrays may be tracers: that is how derivatives nest, and how a whole Jacobian
goes through the tape at once, as one more axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .core import (
    SCALE,
    Array,
    Elementwise,
    Level,
    Primitive,
    Row,
    Tracer,
    convert,
    dtype_of,
    fit,
    scaled_sum,
    shape_of,
    unbroadcast,
)
from .errors import MissingRuleError, at_line  # fmt: skip


class Tape(Level):
    """The level of the rows: a primitive applied to a row is recorded, if it is linear in it."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def leaf(self, x: Array) -> Row:
        """Return a row that stands for the tangent of an input."""
        return Row(self, None, (), (), None, shape_of(x), dtype_of(x))

    def add(self, op: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any) -> Row:
        """Append a row."""
        row = Row(self, op, parents, known, params, shape, dtype)
        self.rows.append(row)
        return row

    def record(
        self,
        prim: Primitive,
        parents: Sequence[Row | None],
        args: Sequence[Array],
        params: dict[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> Row:
        """Append a linear primitive, keeping only the arguments that a transpose will ask for."""
        if prim.joint:
            known = [Shell(a) if p is None else p for p, a in zip(parents, args, strict=True)]
        elif (
            len(parents) == 1 or sum([p is not None for p in parents]) == 1
        ):  # argument i is not needed for the transpose in it
            known = [a if p is None else p for p, a in zip(parents, args, strict=True)]
        else:
            known = list(args)
        return self.add(prim, parents, known, params, shape, dtype)

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Row:
        rows = [a if type(a) is Row else None for a in args]
        live = [i for i, r in enumerate(rows) if r is not None]
        dtype = np.result_type(*[dtype_of(a) if hasattr(a, "dtype") else a for a in args])
        if isinstance(prim, Elementwise):
            if not set(live) <= set(prim.linear_in):
                raise not_linear(prim, args)
            shape = np.broadcast_shapes(*[shape_of(a) for a in args])
            coefs = [prim.partials[i](None, *args) for i in live]
            return self.add(SCALE, [rows[i] for i in live], coefs, None, shape, dtype)
        if not all(i in prim.transpose for i in live) or (len(live) > 1 and not prim.joint):
            raise not_linear(prim, args)
        if prim.shape is not None:
            shape = prim.shape(*args, **params)
        else:
            out = prim.fun(*[stand_in(a) for a in args], **params)
            shape, dtype = out.shape, out.dtype if prim.name in RETYPING else dtype
        return self.record(prim, rows, args, params, shape, dtype)


RETYPING = {"real", "imag", "astype"}  # linear, but not to the dtype of their argument


class Shell:
    """The shape and dtype of an argument that is itself not needed."""

    __slots__ = ("dtype", "shape")

    def __init__(self, x: Array) -> None:
        self.shape, self.dtype = shape_of(x), dtype_of(x)


def not_linear(prim: Primitive, args: Sequence[Array]) -> MissingRuleError:
    shapes = [shape_of(a) for a in args]
    return MissingRuleError(
        prim.name,
        f"a JVP rule applied it to a tangent, in which it is not linear (shapes {shapes}){at_line()}",
        "Write the rule in the linear primitives that docs/autodiff.md lists",
    )


def stand_in(a: Array) -> Array:
    """Return zeros of the shape of a tracer, without memory; anything else as it is."""
    if not isinstance(a, Tracer):
        return a
    return np.broadcast_to(np.zeros((), dtype_of(a)), shape_of(a))


def pull(rows: list[Row], free: bool) -> None:
    """Walk the tape backwards; rows that hold no cotangent are passed over.

    With ``free`` the tape is taken apart on the way, so that each array is dropped after its last use.
    """
    try:
        for row in drain(rows) if free else reversed(rows):
            ct = row.ct
            if ct is None:
                continue
            row.ct = None
            if row.op is SCALE:
                for p, c in zip(row.parents, row.known):  # noqa: B905
                    g = ct if c is None else ct * c
                    if g.shape != p.shape:
                        g = unbroadcast(g, p.shape)
                    if g.dtype is not p.dtype and g.dtype != p.dtype:
                        g = convert(g, p.dtype)
                    if p.ct is None:
                        p.ct = g
                    elif c is not None and type(g) is type(p.ct) is np.ndarray:
                        g += p.ct  # nobody else has seen this product
                        p.ct = g
                    else:
                        p.ct = p.ct + g
            else:
                row.op.pull(row, ct)
    except BaseException:
        for row in rows:
            row.ct = None  # so that the tape can be walked again
        raise


def drain(rows: list[Row]) -> Any:
    """Yield the rows from the last to the first, and let go of what each holds."""
    while rows:
        row = rows.pop()
        yield row
        row.parents = row.known = None


def push(rows: list[Row]) -> None:
    """Walk the tape forwards from the tangents left in the leaves; each row's ``ct`` is its tangent."""
    for row in rows:
        tangents = [None if p is None else p.ct for p in row.parents]
        if all(t is None for t in tangents):
            row.ct = None
        elif row.op is SCALE:
            row.ct = fit(scaled_sum(row.known, tangents), row)
        else:
            row.ct = fit(row.op.linear(row.known, tangents, row.params), row)
