"""A Wengert list as data, and its forms as text, Markdown, HTML and a graph."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import prod
from typing import Any

import numpy as np

from ..core import dtype_of, shape_of

COLUMNS = ("v", "op", "args", "shape", "primal", "tangent", "adjoint", "flops", "bytes", "line")


@dataclass
class Line:
    """One line of a Wengert list: v = op(args)."""

    op: str  # "input", or the name of the primitive; "linalg.svd[1]" for its second result
    args: list[int | None]  # the numbers of the lines of its arguments; None for a constant
    primal: Any  # the value
    tangent: Any = None  # the derivative of the value along the direction of the trace
    adjoint: Any = None  # the derivative of the result with respect to the value
    flops: int = 0  # operations of the call; a call with several results counts them in the first
    where: str = ""  # "file.py:12" in the user's code

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return shape_of(self.primal)

    @property
    def bytes(self) -> int:
        """Size of the value in bytes."""
        return prod(self.shape) * dtype_of(self.primal).itemsize


@dataclass
class Wengert:
    """A Wengert list, as returned by `trace`.

    ``str`` returns the table of the textbooks; `markdown`, `html` and `graphviz` return other forms.

    Parameters
    ----------
    lines : list of Line
        One for each input and each result of a primitive, in the order of the computation. A line has the
        fields ``op``, ``args`` (numbers of lines, None for a constant), ``primal``, ``tangent``, ``adjoint``,
        ``flops``, ``where``, ``shape`` and ``bytes``.
    outputs : list of int
        The numbers of the lines that are results, counted from 0.
    totals : dict
        For each of ``"function"``, ``"forward"`` (`jvp`) and ``"reverse"`` (`vjp`), a dict with ``"flops"``
        and ``"bytes"`` (the peak).

    Examples
    --------
    >>> from eckart.autodiff import trace
    >>> tape = trace(lambda x: 3.0 * x)(2.0)
    >>> tape.lines[-1].op, float(tape.lines[-1].primal)
    ('multiply', 6.0)
    >>> tape.totals["function"]
    {'flops': 1, 'bytes': 16}
    """

    lines: list[Line]
    outputs: list[int]
    totals: dict[str, dict[str, int]]

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows of the table; without source lines, their column is left out."""
        rows: list[tuple[str, ...]] = [COLUMNS]
        for i, line in enumerate(self.lines, 1):
            args = " ".join("const" if a is None else f"v{a + 1}" for a in line.args)
            arrays = (number(line.primal), number(line.tangent), number(line.adjoint))
            shape = str(line.shape).replace(" ", "")
            rows.append(
                (f"v{i}", line.op, args, shape, *arrays, str(line.flops), str(line.bytes), line.where)
            )
        known = any(line.where and line.where[0] != "<" for line in self.lines)
        return rows if known else [row[:-1] for row in rows]

    def footer(self) -> str:
        """Return the totals in one line."""
        totals = self.totals.items()
        return "; ".join(f"{k}: {v['flops']:,} flops, peak {v['bytes']:,} bytes" for k, v in totals)

    def __str__(self) -> str:
        rows = self.cells()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self.footer()])

    def markdown(self) -> str:
        """Return the table in Markdown."""
        head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in self.cells()]
        body = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in body) + f"\n\n{self.footer()}\n"

    def html(self) -> str:
        """Return the table in HTML."""
        head, *rows = [[escape(cell) for cell in row] for row in self.cells()]
        top = "".join(f"<th>{cell}</th>" for cell in head)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
        return f"{table}<p>{escape(self.footer())}</p>"

    _repr_html_ = html

    def graphviz(self) -> str:
        """Return the graph in the DOT language of Graphviz."""
        out = ["digraph wengert {", "  rankdir=LR; node [shape=box, fontname=monospace];"]
        for i, line in enumerate(self.lines):
            style = ", peripheries=2" if i in self.outputs else ""
            if line.op == "input":
                style = ", shape=ellipse"
            label = f"v{i + 1} {line.op}\\n{number(line.primal)}\\nadjoint {number(line.adjoint)}"
            out.append(f'  v{i + 1} [label="{label}"{style}];')
            out += [f"  v{a + 1} -> v{i + 1};" for a in line.args if a is not None]
        return "\n".join([*out, "}"])


def number(x: Any) -> str:
    """Return the text of a number, or of the norm of an array between bars."""
    if x is None:
        return ""
    a = np.asarray(x)
    if a.size != 1:
        return f"|{np.linalg.norm(a.ravel()):.4g}|"
    value = a.item()
    if isinstance(value, (complex, bool)):
        return f"{value:.5g}"
    return f"{round(value, 4):.8g}" if abs(value) > 1e-3 else f"{value + 0.0:.4g}"  # adding 0 turns -0 into 0
