"""The terminal format: Unicode text, with brackets around matrices."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len

from eckart.explain.formula import Formula, Mark, Row, plain
from eckart.explain.render.box import WIDTH, draw
from eckart.explain.steps import Panel

INDENT = "    "


class Terminal:
    """Writes plain Unicode text.

    Parameters
    ----------
    width : int, optional
        Columns of the terminal. By default, prose and formulas have 100 columns each.
    """

    def __init__(self, width: int | None = None) -> None:
        self.prose_width = WIDTH if width is None else width
        self.formula_width = WIDTH if width is None else width - len(INDENT)

    def escape(self, text: str) -> str:
        """Return the text: nothing needs to be escaped."""
        return text

    def inline(self, formula: Formula) -> str:
        """Return a formula on one line."""
        return plain(formula)

    def heading(self, number: int, text: str) -> str:
        """Return the text, underlined."""
        heading = f"{number}. {text}"
        return f"\n{heading}\n{'─' * cell_len(heading)}"

    def paragraph(self, text: str) -> str:
        """Return the text, wrapped; text with wide characters is left for the terminal to wrap."""
        return textwrap.fill(text, self.prose_width) if cell_len(text) == len(text) else text

    def display(self, formula: Formula) -> str:
        """Return the formula, indented."""
        return _indented(draw(formula, self.formula_width))

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return the formula, followed by the outcome of its check."""
        verdict = Mark(f"   {'✓' if holds else '✗'} {remark}")
        return _indented(draw(Row((formula, verdict)), self.formula_width))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return columns; all but the first are right-aligned."""
        lines = [header, *rows]
        widths = [max(cell_len(line[j]) for line in lines) for j in range(len(header))]
        return "\n".join(INDENT + "  ".join(_cells(line, widths)).rstrip() for line in lines)

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return nothing, because the preceding sentence describes the picture."""
        return ""

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return the document with its title."""
        text = f"{title}\n{'═' * cell_len(title)}"
        for before, part in zip(["", *parts], parts, strict=False):
            tall = "\n" in part or "\n" in before  # a blank line separates matrices
            blank = tall and part.startswith(INDENT) and before.startswith(INDENT)
            text += ("\n\n" if blank else "\n") + part
        return text + "\n"


def _indented(text: str) -> str:
    return "\n".join(INDENT + line for line in text.splitlines())


def _cells(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    room = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
    return [line[0] + room[0], *(space + cell for space, cell in zip(room[1:], line[1:], strict=True))]
