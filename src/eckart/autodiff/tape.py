"""Reverse mode: rules record linear rows on a tape, which is then walked backwards or forwards.

A tape holds only linear operations on tangents, in the order in which they were recorded. Walking it
forwards (`push`) applies the derivative to a tangent; walking it backwards with each operation transposed
(`pull`) applies the transpose to a cotangent. Neither recurses, so depth is bounded by memory only.
Cotangents and the recorded arrays may be tracers: that is how derivatives nest, and how a whole Jacobian
goes through the tape at once, as one more axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .core import Array, Level, Primitive, Tracer, convert, fit, shape_of, unbroadcast, zeros
from .errors import MissingRuleError, at_line


class Row(Tracer):
    """One row of a tape: a primitive applied to its parents, the tangents, and what it is linear with.

    ``parents`` are rows, or None for an argument without a tangent. ``known`` and ``params`` are what the
    primitive's `pull` and `apply` need besides: the arguments, or of `Elementwise` the coefficients. A walk
    over the tape leaves in ``ct`` the cotangent (or, forwards, the tangent); ``own`` says that nobody else
    holds that array, so that it may be written into.
    """

    __slots__ = ("ct", "dtype", "known", "own", "params", "parents", "prim", "shape")

    def __init__(
        self, level: Any, prim: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any
    ) -> None:
        self.level, self.prim, self.parents = level, prim, parents
        self.known, self.params, self.ct = known, params, None
        self.shape, self.dtype = shape, dtype  # type: ignore[misc]

    def give(self, g: Array, own: bool) -> None:
        """Add to the cotangent: ``g``, summed over the axes that were broadcast, in the row's dtype."""
        if g.shape != self.shape:
            g = unbroadcast(g, self.shape)
            own = own or (type(g) is np.ndarray and g.base is None)
        if g.dtype is not self.dtype and g.dtype != self.dtype:
            g = convert(g, self.dtype)  # a copy, but of a tracer perhaps the real part of another's
            own = type(g) is np.ndarray
        if self.ct is None:
            self.ct, self.own = g, own
        elif self.own and type(g) is np.ndarray:
            self.ct += g
        else:
            self.ct, self.own = self.ct + g, True

    def cotangent(self) -> Array:
        """Return the cotangent, zeros if there is none, in memory that is nobody else's."""
        ct = self.ct
        if ct is None:
            ct = zeros(self)
        elif not self.own:
            ct = +ct  # a new array, also under `vmap`
        return ct if ct.shape else ct[()]  # a NumPy scalar


class Tape(Level):
    """The level of the rows: a primitive applied to a row is recorded, if it is linear in it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def add(self, prim: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any) -> Row:
        """Append a row."""
        row = Row(self, prim, parents, known, params, shape, dtype)
        self.rows.append(row)
        return row

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Row:
        rows = [a if type(a) is Row else None for a in args]
        live = [i for i, r in enumerate(rows) if r is not None]
        if all(i in prim.linear_in for i in live) and (len(live) == 1 or prim.joint):
            if prim.shape is not None:
                shape = prim.shape(*args, **params)
                dtype = np.result_type(*[getattr(a, "dtype", a) for a in args])
            else:
                out = prim.fun(*[zeros(a) if isinstance(a, Tracer) else a for a in args], **params)
                shape, dtype = out.shape, out.dtype
            row = Row(self, prim, rows, args, params, shape, dtype)
            if not prim.partials:
                self.rows.append(row)
                return row
            # Elementwise rows have coefficients: those of its derivative, which is itself. The row stands for
            # its result, of which no more than shape and dtype are used. Those of t * t are tangents again.
            recorded: Row = prim.jvp(row, args, rows, params)
            if not any(type(c) is Row for c in recorded.known):
                return recorded
        shapes = [shape_of(a) for a in args]
        what = f"a JVP rule applied it to a tangent, in which it is not linear (shapes {shapes}){at_line()}"
        raise MissingRuleError(prim.name, what, "Write it in the linear operations of docs/autodiff.md")

    def pull(self, free: bool) -> None:
        """Walk backwards from the cotangents that were given to rows; those without one are skipped.

        With ``free``, each row lets go of what it holds, so that an array is dropped after its last use.
        """
        rows = self.rows if free else list(self.rows)
        while rows:
            row = rows.pop()
            ct = row.ct
            if ct is not None:
                row.ct = None
                row.prim.pull(row, ct)
            if free:
                row.parents = row.known = None

    def push(self) -> None:
        """Walk forwards from the tangents that were left in the leaves; each row's ``ct`` is its tangent."""
        for row in self.rows:
            tangents = [None if p is None else p.ct for p in row.parents]
            if any(t is not None for t in tangents):
                row.ct = fit(row.prim.apply(row.known, tangents, row.params), row)


@cache
def keep_memory() -> None:
    """Let freed memory stay with this process: to fetch it again, page by page, takes a third of the time.

    A freed block of nearly 32 MiB, never touched, tells the GNU C library to keep up to twice that
    (mallopt(3), "dynamic mmap threshold"). Elsewhere nothing happens.
    """
    np.empty(31 * 2**20, np.uint8)
