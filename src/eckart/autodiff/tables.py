"""A Wengert list as text, Markdown, HTML and a Graphviz drawing."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .wengert import Wengert

COLUMNS = ("v", "op", "args", "shape", "primal", "tangent", "adjoint", "flops", "bytes", "line")


def number(x: Any) -> str:
    """Return a number as it is, an array as its norm."""
    if x is None:
        return ""
    a = np.asarray(x)
    if a.size != 1:
        return f"|{np.linalg.norm(a.ravel()):.4g}|"
    value = a.reshape(()).item()
    if isinstance(value, (complex, bool)):
        return f"{value:.5g}"
    return f"{round(value, 4) + 0.0:.8g}" if abs(value) > 1e-3 else f"{value:.4g}"


def cells(tape: Wengert) -> list[tuple[str, ...]]:
    """Return the rows of the table; the column of source lines only if there are any."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for i, line in enumerate(tape.lines):
        args = " ".join("const" if a is None else f"v{a + 1}" for a in line.args)
        three = map(number, (line.primal, line.tangent, line.adjoint))
        shape, costs = str(line.shape).replace(" ", ""), (str(line.flops), str(line.bytes))
        rows.append((f"v{i + 1}", line.op, args, shape, *three, *costs, line.where))
    if all(row[-1].startswith("<") or not row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    return rows


def totals(tape: Wengert) -> str:
    return "; ".join(f"{k}: {v['flops']:,} flops, peak {v['bytes']:,} bytes" for k, v in tape.totals.items())


def text(tape: Wengert) -> str:
    rows = cells(tape)
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, totals(tape)])


def markdown(tape: Wengert) -> str:
    """Return the table in Markdown."""
    head, *rows = [[c.replace("|", "\\|") for c in row] for row in cells(tape)]
    body = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in body) + f"\n\n{totals(tape)}\n"


def html(tape: Wengert) -> str:
    """Return the table in HTML."""
    head, *rows = [[escape(c) for c in row] for row in cells(tape)]
    top = "<tr>" + "".join(f"<th>{c}</th>" for c in head) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead>{top}</thead><tbody>{body}</tbody></table><p>{escape(totals(tape))}</p>"


def graphviz(tape: Wengert) -> str:
    """Return the graph in the DOT language of Graphviz."""
    out = ["digraph wengert {", "  rankdir=LR; node [shape=box, fontname=monospace];"]
    for i, line in enumerate(tape.lines):
        shape = ", shape=ellipse" if line.op == "input" else ", peripheries=2" if i in tape.outputs else ""
        label = f"v{i + 1} {line.op}\\n{number(line.primal)}\\nadjoint {number(line.adjoint)}".replace(
            '"', "'"
        )
        out.append(f'  v{i + 1} [label="{label}"{shape}];')
        out += [f"  v{a + 1} -> v{i + 1};" for a in line.args if a is not None]
    return "\n".join([*out, "}"])
