"""`trace`: a computation as a Wengert list, with tangents, adjoints, costs and source lines.

(R. E. Wengert, Communications of the ACM 7, 1964.) One more level of tracers records the list. Its tangents
are those of the function that returns all lines; its adjoints are the gradient with respect to a zero that is
added to each line. Costs are counted by tracing `jvp` and `vjp`, which are NumPy programs too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from ..api import jvp, select, vjp
from ..core import Array, Function, Level, Primitive, Tracer, bind, check_inexact, dtype_of, shape_of, zeros
from ..errors import user_line
from ..tree import flatten
from .costs import flops
from .tables import Line, Wengert


class Call(NamedTuple):
    """One call of a primitive."""

    prim: Primitive
    f: Function  # the call as a function of the arguments that can be differentiated
    xs: Sequence[Any]  # these arguments
    where: str  # "file.py:12" in the user's code


class Recorded(Tracer):
    """A value with the number of its line."""

    __slots__ = ("line", "value")

    def __init__(self, level: Level, value: Array, line: int) -> None:
        self.level, self.value, self.line = level, value, line


class Recording(Level):
    """The level of one trace; ``shifts`` holds an array to add to each line, or None."""

    def __init__(self, shifts: Sequence[Any]) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.calls: list[Call] = []
        self.shifts = shifts

    def add(self, line: Line) -> Recorded:
        """Append a line and return its value as a tracer."""
        shift = self.shifts[len(self.lines)] if self.shifts else None
        if shift is not None:
            line.primal = line.primal + shift
        self.lines.append(line)
        return Recorded(self, line.primal, len(self.lines) - 1)

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        """Record the call and return its results as tracers; see `Level.process`."""
        numbers = [a.line if self.holds(a) else None for a in args]
        values = [a.value if self.holds(a) else a for a in args]
        differentiable = [i for i, a in enumerate(args) if self.holds(a) and a.dtype.kind in "fc"]
        out, where = bind(prim, values, params), user_line()[0]
        cost = flops(prim, values, out, params)
        self.calls.append(Call(prim, *select(prim, values, params, differentiable), where))
        if type(out) is not tuple:
            return self.add(Line(prim.name, numbers, out, flops=cost, where=where))
        return tuple(
            self.add(Line(f"{prim.name}[{i}]", numbers, y, flops=0 if i else cost, where=where))
            for i, y in enumerate(out)
        )


def record(f: Function, args: Sequence[Any], shifts: Sequence[Any] = ()) -> tuple[Recording, list[int]]:
    """Return the recording of ``f(*args)``, and the numbers of the lines that are its results."""
    level = Recording(shifts)
    leaves, rebuild = flatten(tuple(args))
    outs, _ = level.run(f, rebuild([level.add(Line("input", [], x)) for x in leaves]))
    return level, [y.line for y in outs if level.holds(y)]


def trace(f: Function, tangent: Sequence[Any] | None = None) -> Callable[..., Wengert]:
    """Return a function that runs ``f`` and returns its Wengert list.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays, written in NumPy. It is run five times and must do the same
        each time.
    tangent : sequence of float or array, optional
        The direction of the tangents, one for each argument, each broadcast to the shape of the argument. By
        default it is 1 for the first argument and 0 for the others.

    Returns
    -------
    callable
        A function of the arguments of ``f`` that returns a `Wengert`. The adjoint of each result is 1.

    Raises
    ------
    ArgumentError
        If an argument cannot be differentiated.
    MissingRuleError
        If ``f`` calls a function without a derivative rule.

    Notes
    -----
    All intermediate results stay in memory as long as the list exists. Flops are counted by textbook formulas
    (`eckart.autodiff.inspection.costs`), and peak bytes from the last use of each line.

    Examples
    --------
    >>> tape = trace(lambda x1, x2: x1 * x2 + np.sin(x1))(2.0, 3.0)
    >>> print(tape)
    v   op        args   shape  primal  tangent  adjoint  flops  bytes
    v1  input            ()     2       1        2.5839   0      8
    v2  input            ()     3       0        2        0      8
    v3  multiply  v1 v2  ()     6       3        1        1      8
    v4  sin       v1     ()     0.9093  -0.4161  1        1      8
    v5  add       v3 v4  ()     6.9093  2.5839   1        1      8
    function: 3 flops, peak 40 bytes; forward: 9 flops, peak 56 bytes; reverse: 8 flops, peak 48 bytes
    """

    @wraps(f)
    def traced(*args: Any, **options: Any) -> Wengert:
        leaves, rebuild = flatten(args)
        leaves = [check_inexact("trace", x) for x in leaves]
        first = [float(i == 0) for i in range(len(leaves))]
        seeds = first if tangent is None else flatten(tuple(tangent))[0]
        ts = rebuild([np.full(shape_of(x), t, dtype_of(x)) for t, x in zip(seeds, leaves, strict=True)])
        args = rebuild(leaves)

        def function(*xs: Any) -> Any:
            return f(*xs, **options)

        def primals(*xs: Any) -> list[Any]:
            return [line.primal for line in record(function, xs)[0].lines]

        def results(*shifts: Any) -> list[Any]:
            level, outputs = record(function, args, shifts)
            return [level.lines[i].primal for i in outputs]

        level, outputs = record(function, args)
        shifts = [zeros(y.primal) if dtype_of(y.primal).kind in "fc" else None for y in level.lines]
        _, tangents = jvp(primals, args, ts)
        _, adjoints = pulled(results, shifts)
        for line, t, g in zip(level.lines, tangents, adjoints, strict=True):
            line.tangent, line.adjoint = t, zeros(line.primal) if g is None else g
        totals = {
            "function": cost(level, outputs),
            "forward": cost(*record(lambda *xs: jvp(function, xs, ts), args)),
            "reverse": cost(*record(lambda *xs: pulled(function, xs), args)),
        }
        return Wengert(level.lines, outputs, totals)

    return traced


def pulled(f: Function, xs: Sequence[Any]) -> tuple[Any, Any]:
    """Return ``f(*xs)`` and the pullback of ones."""
    value, pullback = vjp(f, *xs)
    outs, rebuild = flatten(value)
    return value, pullback(rebuild([np.ones(shape_of(y), dtype_of(y)) for y in outs]))


def cost(level: Recording, outputs: Sequence[int]) -> dict[str, int]:
    """Return the total flops and the peak memory, if all but inputs and results are freed after last use."""
    lines = level.lines
    n, size = len(lines), np.array([line.bytes for line in lines], dtype=int)
    last = np.arange(n)
    for i, line in enumerate(lines):
        last[[a for a in line.args if a is not None]] = i
    last[[i for i, line in enumerate(lines) if line.op == "input" or i in outputs]] = n
    freed = np.bincount(last + 1, size, n + 2)[:n]  # bytes freed before each line
    peak = np.max(np.cumsum(size) - np.cumsum(freed), initial=0)
    return {"flops": sum(line.flops for line in lines), "bytes": int(peak)}
