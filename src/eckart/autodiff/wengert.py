"""`trace`: a computation as a Wengert list, with its tangents, adjoints, costs and source lines, as data.

(R. E. Wengert, Communications of the ACM 7, 1964.) The list is recorded by one more level of tracers. The
derivatives of its lines come from the same rule book, one line at a time; what they cost is found by
tracing `jvp` and `vjp` of the function themselves, which are NumPy programs too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from . import tables
from .api import jvp, vjp
from .core import Array, Level, Primitive, Tracer, bind, check_inexact, dtype_of, shape_of
from .costs import flops
from .errors import user_frame
from .tree import flatten


@dataclass
class Line:
    """One line of a Wengert list: v = op(args).

    Parameters
    ----------
    op : str
        ``"input"`` or the name of the primitive; ``"linalg.svd[1]"`` for its second result.
    args : list
        Numbers of the lines that are its arguments, None for a constant.
    primal, tangent, adjoint : array or None
        The value; its derivative along the direction of the trace; the derivative of the result by it.
    flops : int
        Operations of the call; 0 in all but the first result of a call.
    where : str
        ``"file.py:12"`` in the user's code.
    """

    op: str
    args: list[int | None]
    primal: Any
    tangent: Any = None
    adjoint: Any = None
    flops: int = 0
    where: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.primal)

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=int)) * dtype_of(self.primal).itemsize


@dataclass
class Call:
    """One call of a primitive: it makes as many lines as it has results."""

    prim: Primitive
    values: list[Any]
    params: dict[str, Any]
    args: list[int | None]
    outs: list[int]

    def live(self) -> tuple[list[int], list[Any], Callable[..., Any]]:
        """Return the lines it can be differentiated in, their values, and the call as their function."""
        at = {
            i: a for i, a in enumerate(self.args) if a is not None and dtype_of(self.values[i]).kind in "fc"
        }

        def alone(*some: Any) -> Any:
            full = list(self.values)
            for i, a in zip(at, some, strict=True):
                full[i] = a
            return self.prim(*full, **self.params)

        return list(at.values()), [self.values[i] for i in at], alone


class Noted(Tracer):
    """A value that knows its line."""

    __slots__ = ("line", "value")

    def __init__(self, level: Level, value: Array, line: int) -> None:
        self.level, self.value, self.line = level, value, line


class Recording(Level):
    """The level of one trace."""

    __slots__ = ("calls", "lines")

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.calls: list[Call] = []

    def note(self, line: Line) -> Noted:
        self.lines.append(line)
        return Noted(self, line.primal, len(self.lines) - 1)

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        numbers = [a.line if self.holds(a) else None for a in args]
        values = [a.value if self.holds(a) else a for a in args]
        out = bind(prim, values, params)
        frame = user_frame()
        where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""
        many = type(out) is tuple
        results = [
            self.note(Line(f"{prim.name}[{i}]" if many else prim.name, numbers, y, where=where))
            for i, y in enumerate(out if many else (out,))
        ]
        self.lines[results[0].line].flops = flops(prim, values, out, params)
        self.calls.append(Call(prim, values, params, numbers, [y.line for y in results]))
        return tuple(results) if many else results[0]


def record(f: Callable[..., Any], args: Sequence[Any]) -> tuple[Recording, list[int]]:
    """Return the lines of ``f(*args)``, and the numbers of those that are its results."""
    level = Recording()
    leaves, rebuild = flatten(tuple(args))
    outs, _ = level.run(f, rebuild([level.note(Line("input", [], x)) for x in leaves]))
    return level, [y.line for y in outs if level.holds(y)]


@dataclass
class Wengert:
    """A Wengert list. ``str`` prints the textbook's table; `markdown`, `html` and `graphviz` draw it.

    Parameters
    ----------
    lines : list of Line
    outputs : list of int
        The numbers of the lines that are results.
    totals : dict
        For ``"function"``, ``"forward"`` (`jvp`) and ``"reverse"`` (`vjp`): flops and peak bytes, each array
        counted from the line that makes it to the last that uses it.
    """

    lines: list[Line]
    outputs: list[int]
    totals: dict[str, dict[str, int]]

    __str__ = tables.text
    markdown, html, graphviz = tables.markdown, tables.html, tables.graphviz
    _repr_html_ = tables.html


def trace(f: Callable[..., Any], tangent: Sequence[Any] | None = None) -> Callable[..., Wengert]:
    """Return a function that runs ``f`` and returns its Wengert list.

    Parameters
    ----------
    f : callable
        Of arrays; its results are seeded with adjoints of ones.
    tangent : sequence, optional
        The direction of the tangents, one for each argument. By default ones for the first argument and
        zeros for the others, which gives the derivative by the first.

    Returns
    -------
    callable
        Of the arguments of ``f``; returns a `Wengert`.

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
        args = rebuild(leaves)
        ts = (
            flatten(tuple(tangent))[0] if tangent is not None else [float(i == 0) for i in range(len(leaves))]
        )
        ts = [
            np.broadcast_to(np.asarray(t, dtype_of(x)), shape_of(x)) for t, x in zip(ts, leaves, strict=True)
        ]

        def function(*xs: Any) -> Any:
            return f(*xs, **options)

        level, outputs = record(function, args)
        sweep_forward(level, ts)
        sweep_back(level, outputs)
        programs: dict[str, Callable[..., Any]] = {
            "function": function,
            "forward": lambda *xs: jvp(function, xs, rebuild(ts)),
            "reverse": lambda *xs: pulled(function, xs),
        }
        totals = {name: cost(*record(program, args)) for name, program in programs.items()}
        return Wengert(level.lines, outputs, totals)

    return traced


def pulled(f: Callable[..., Any], xs: Sequence[Any]) -> Any:
    value, pullback = vjp(f, *xs)
    outs, rebuild = flatten(value)
    return value, pullback(rebuild([np.ones(shape_of(y), dtype_of(y)) for y in outs]))


def sweep_forward(level: Recording, ts: Sequence[Array]) -> None:
    """Fill in the tangents, one call after the other."""
    for line, t in zip(level.lines, ts, strict=False):
        line.tangent = t
    for call in level.calls:
        at, values, alone = call.live()
        if at:
            _, dots = jvp(alone, values, [level.lines[a].tangent for a in at])
            for out, dot in zip(call.outs, dots if type(dots) is tuple else (dots,), strict=True):
                level.lines[out].tangent = dot


def sweep_back(level: Recording, outputs: Sequence[int]) -> None:
    """Fill in the adjoints, one call after the other, from the last."""
    for line in level.lines:
        line.adjoint = np.zeros(line.shape, dtype_of(line.primal))
    for out in outputs:
        level.lines[out].adjoint = level.lines[out].adjoint + 1
    for call in reversed(level.calls):
        at, values, alone = call.live()
        cts = [level.lines[out].adjoint for out in call.outs]
        if not at or cts[0].dtype.kind not in "fc" or not any(np.any(ct) for ct in cts):
            continue
        value, pullback = vjp(alone, *values)
        for a, g in zip(at, pullback(tuple(cts) if type(value) is tuple else cts[0]), strict=True):
            level.lines[a].adjoint = level.lines[a].adjoint + g


def cost(level: Recording, outputs: Sequence[int]) -> dict[str, int]:
    """Return total flops and the peak of bytes alive; all but inputs and results die at their last use."""
    end = {i: i for i in range(len(level.lines))}
    end |= {a: i for i, line in enumerate(level.lines) for a in line.args if a is not None}
    kept = {i for i, line in enumerate(level.lines) if line.op == "input"} | set(outputs)
    alive = peak = 0
    for i, line in enumerate(level.lines):
        alive += line.bytes
        peak = max(peak, alive)
        alive -= sum(
            level.lines[a].bytes for a in {i, *line.args} if a is not None and end[a] == i and a not in kept
        )
    return {"flops": sum(line.flops for line in level.lines), "bytes": peak}
