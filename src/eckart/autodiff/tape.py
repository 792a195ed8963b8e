"""Reverse mode: rules record linear rows on a tape, which is then walked backwards or forwards.

A tape holds only linear operations on tangents, in the order in which they were recorded. Walking it
forwards (`push`) applies the derivative to a tangent; walking it backwards with each operation transposed
(`pull`) applies the transpose to a cotangent. Neither recurses, so depth is bounded by memory only.
Cotangents and the recorded arrays may be tracers: that is how derivatives nest, and how a whole Jacobian
goes through the tape at once, as one more axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .core import Array, Level, Primitive, Tracer, convert, dtype_of, fit, shape_of, unbroadcast
from .errors import MissingRuleError, at_line


class Row(Tracer):
    """One row of a tape: an operation, its parents, and the arrays it was recorded with.

    ``ct`` is where the walk over the tape leaves the cotangent (or, forwards, the tangent); ``own`` says
    that nobody else holds that array, so that it may be written into.
    """

    __slots__ = ("ct", "dtype", "known", "op", "own", "params", "parents", "shape")

    def __init__(
        self, level: Any, op: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any
    ) -> None:
        self.level, self.op, self.parents = level, op, parents
        self.known, self.params, self.ct = known, params, None
        self.shape, self.dtype = shape, dtype  # type: ignore[misc]

    def give(self, g: Array, own: bool) -> None:
        """Add a cotangent: summed over the axes that were broadcast, in the row's dtype."""
        if g.shape != self.shape:
            g = unbroadcast(g, self.shape)
            own = own or (type(g) is np.ndarray and g.base is None)
        if g.dtype is not self.dtype and g.dtype != self.dtype:
            g, own = convert(g, self.dtype), True
        if self.ct is None:
            self.ct, self.own = g, own
        elif self.own and type(g) is np.ndarray:
            self.ct += g
        else:
            self.ct, self.own = self.ct + g, True


class Scale:
    """The operation of the rows that elementwise functions record: the sum of c_i t_i; a c of None is 1."""

    def apply(self, coefs: Sequence[Any], tangents: Sequence[Any], params: Any = None) -> Array:
        total = None
        for c, t in zip(coefs, tangents, strict=True):
            if t is not None:
                term = t if c is None else c * t
                total = term if total is None else total + term
        return total


SCALE = Scale()


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

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Row:
        rows = [a if type(a) is Row else None for a in args]
        live = [i for i, r in enumerate(rows) if r is not None]
        if not prim.is_linear_in(live):
            raise MissingRuleError(
                prim.name,
                "a JVP rule applied it to a tangent, in which it is not linear (shapes "
                f"{[shape_of(a) for a in args]}){at_line()}",
                "Write the rule in the linear primitives that docs/autodiff.md lists",
            )
        dtype = np.result_type(*[dtype_of(a) if hasattr(a, "dtype") else a for a in args])
        if prim.partials:
            coefs = [prim.coefficient(i, None, args) for i in live]
            shape = np.broadcast_shapes(*[shape_of(a) for a in args])
            return self.add(SCALE, [rows[i] for i in live], coefs, None, shape, dtype)
        if prim.shape is not None:
            shape = prim.shape(*args, **params)
        else:
            out = prim.fun(*[stand_in(a) for a in args], **params)
            shape, dtype = out.shape, out.dtype
        return self.add(prim, rows, args, params, shape, dtype)


def stand_in(a: Array) -> Array:
    """Return zeros of the shape of a tracer, without memory; anything else as it is."""
    if not isinstance(a, Tracer):
        return a
    return np.broadcast_to(np.zeros((), dtype_of(a)), shape_of(a))


def pull(rows: Iterable[Row]) -> None:
    """Walk a tape backwards: its rows, from the last to the first; those without a cotangent are skipped."""
    for row in rows:
        ct = row.ct
        if ct is None:
            continue
        row.ct = None
        if row.op is not SCALE:
            row.op.pull(row, ct)
            continue
        for p, c in zip(row.parents, row.known):  # noqa: B905
            g = ct if c is None else ct * c
            if p.ct is None and g.dtype is p.dtype and g.shape == p.shape:  # what `give` does most often
                p.ct, p.own = g, c is not None
            else:
                p.give(g, c is not None)


def drain(rows: list[Row]) -> Iterable[Row]:
    """Yield the rows from the last to the first, and let go of what each holds after its use."""
    while rows:
        row = rows.pop()
        yield row
        row.parents = row.known = None


def push(rows: list[Row]) -> None:
    """Walk a tape forwards from the tangents left in the leaves; each row's ``ct`` is its tangent."""
    for row in rows:
        tangents = [None if p is None else p.ct for p in row.parents]
        if any(t is not None for t in tangents):
            row.ct = fit(row.op.apply(row.known, tangents, row.params), row)
