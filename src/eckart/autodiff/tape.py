"""Reverse mode: rules record linear operations as rows of a tape, which is then walked forwards or backwards.

A tape holds only linear operations on tangents, in the order in which they were recorded. Walking it
forwards (`push`) applies the derivative to a tangent. Walking it backwards with each operation transposed
(`pull`) applies the transpose to a cotangent. Neither walk recurses, so only memory limits the depth.
Cotangents and recorded arrays may themselves be tracers. This is how derivatives nest, and how a whole
Jacobian goes through the tape at once, as one more axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .core import Array, Level, Primitive, Tracer, convert, fit, shape_of, unbroadcast, zeros
from .errors import MissingRuleError, at_line


class Row(Tracer):
    """One row of a tape: a linear operation applied to the tangents in its parent rows.

    ``parents`` are rows, or None for an argument without a tangent. ``known`` and ``params`` are the other
    inputs of the primitive's `pull` and `apply`: the arguments, or the coefficients of an `Elementwise`. A
    walk over the tape stores the cotangent (or, forwards, the tangent) in ``ct``. ``own`` is True if nothing
    else refers to that array; it may then be overwritten.
    """

    __slots__ = ("ct", "dtype", "known", "own", "params", "parents", "prim", "shape")

    def __init__(
        self, level: Any, prim: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any
    ) -> None:
        self.level, self.prim, self.parents = level, prim, parents
        self.known, self.params, self.ct = known, params, None
        self.shape, self.dtype = shape, dtype  # type: ignore[misc]

    def give(self, g: Array, own: bool) -> None:
        """Add ``g``, summed over broadcast axes and converted to the row's dtype, to the cotangent.

        ``own`` is True if nothing else refers to ``g``.
        """
        if g.shape != self.shape:
            g = unbroadcast(g, self.shape)
            own = own or (type(g) is np.ndarray and g.base is None)
        if g.dtype is not self.dtype and g.dtype != self.dtype:
            g = convert(g, self.dtype)  # a copy of an array; of a tracer it may share memory with another
            own = type(g) is np.ndarray
        if self.ct is None:
            self.ct, self.own = g, own
        elif self.own and type(g) is np.ndarray:
            self.ct += g
        else:
            self.ct, self.own = self.ct + g, True

    def cotangent(self) -> Array:
        """Return the cotangent, or zeros if there is none, in memory that nothing else uses."""
        ct = self.ct
        if ct is None:
            ct = zeros(self)
        elif not self.own:
            ct = +ct  # a new array, also under `vmap`
        return ct if ct.shape else ct[()]  # a NumPy scalar


class Tape(Level):
    """The level of the rows: a primitive applied to a row is recorded if it is linear in that argument."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def add(self, prim: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any) -> Row:
        """Append a row and return it."""
        row = Row(self, prim, parents, known, params, shape, dtype)
        self.rows.append(row)
        return row

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Row:
        """Record a primitive that a rule has applied to rows; refuse it if it is not linear in them."""
        rows = [a if type(a) is Row else None for a in args]
        traced = [i for i, r in enumerate(rows) if r is not None]
        if all(i in prim.linear_in for i in traced) and (len(traced) == 1 or prim.joint):
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
            # A row of an elementwise function holds coefficients. Since the function is linear, its JVP gives
            # them; `row` stands in for the result, of which only shape and dtype are used. In t * t the
            # coefficients are tangents themselves, which shows that the product is not linear.
            recorded: Row = prim.jvp(row, args, rows, params)
            if not any(type(c) is Row for c in recorded.known):
                return recorded
        shapes = ", ".join(str(shape_of(a)) for a in args)
        what = f"a JVP rule applied it to a tangent, but it is not linear there (shapes: {shapes}){at_line()}"
        raise MissingRuleError(prim.name, what, "Use the linear operations listed in docs/autodiff.md")

    def pull(self, free: bool) -> None:
        """Walk backwards from the rows that have a cotangent; rows without one are skipped.

        With ``free``, each row drops its arrays, which frees their memory after the last use.
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
        """Walk forwards from the tangents in the leaves; afterwards ``ct`` of each row is its tangent."""
        for row in self.rows:
            tangents = [None if p is None else p.ct for p in row.parents]
            if any(t is not None for t in tangents):
                row.ct = fit(row.prim.apply(row.known, tangents, row.params), row)


@cache
def keep_memory() -> None:
    """Make the C library keep freed memory, up to 64 MiB, instead of returning it to the operating system.

    Fetching it again, page by page, can take a third of the time of a gradient. When a block of nearly 32 MiB
    is freed, even one that was never written to, the GNU C library raises its limit to twice that size
    (mallopt(3), "dynamic mmap threshold"). With other C libraries this call has no effect.
    """
    np.empty(31 * 2**20, np.uint8)
