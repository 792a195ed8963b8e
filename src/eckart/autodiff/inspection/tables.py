"""A Wengert list as data, and drawn: as text, Markdown, HTML and a graph."""

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
    args: list[int | None]  # the numbers of the lines that are its arguments; None for a constant
    primal: Any
    tangent: Any = None  # along the direction of the trace
    adjoint: Any = None  # the derivative of the result by this line
    flops: int = 0  # of the call; 0 in all but its first result
    where: str = ""  # "file.py:12" in the user's code

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.primal)

    @property
    def bytes(self) -> int:
        return prod(self.shape) * dtype_of(self.primal).itemsize


@dataclass
class Wengert:
    """A Wengert list. ``str`` prints the textbook's table; `markdown`, `html` and `graphviz` draw it.

    ``totals`` has flops and peak bytes of ``"function"``, ``"forward"`` (`jvp`) and ``"reverse"`` (`vjp`).
    """

    lines: list[Line]
    outputs: list[int]  # the numbers of the lines that are results
    totals: dict[str, dict[str, int]]

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows of the table; the column of source lines only if there are any."""
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
            shape = (
                ", shape=ellipse" if line.op == "input" else ", peripheries=2" if i in self.outputs else ""
            )
            label = f"v{i + 1} {line.op}\\n{number(line.primal)}\\nadjoint {number(line.adjoint)}"
            out.append(f'  v{i + 1} [label="{label}"{shape}];')
            out += [f"  v{a + 1} -> v{i + 1};" for a in line.args if a is not None]
        return "\n".join([*out, "}"])


def number(x: Any) -> str:
    """Return a number as it is, an array as its norm."""
    if x is None:
        return ""
    a = np.asarray(x)
    if a.size != 1:
        return f"|{np.linalg.norm(a.ravel()):.4g}|"
    value = a.item()
    if isinstance(value, (complex, bool)):
        return f"{value:.5g}"
    return f"{round(value, 4):.8g}" if abs(value) > 1e-3 else f"{value + 0.0:.4g}"  # 0 for -0
