"""The Markdown format, with formulas between dollar signs for GitHub, Jupyter and MkDocs with MathJax."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eckart.explain.formula import Formula
from eckart.explain.render.tex import tex
from eckart.explain.steps import Panel


class Markdown:
    """Writes Markdown."""

    def escape(self, text: str) -> str:
        """Escape the special characters of Markdown."""
        return re.sub(r"([\\`*_$|<>\[\]])", r"\\\1", text)

    def inline(self, formula: Formula) -> str:
        """Return a formula within a line."""
        return f"${tex(formula)}$"

    def heading(self, number: int, text: str) -> str:
        """Return a heading of the second level."""
        return f"## {number}. {text}"

    def paragraph(self, text: str) -> str:
        """Return the text."""
        return text

    def display(self, formula: Formula) -> str:
        """Return a formula on its own line."""
        return f"$$\n{tex(formula)}\n$$"

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return the formula with the outcome of its check."""
        return f"{self.display(formula)}\n\n{'✓' if holds else '✗'} {remark}"

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a pipe table; all columns but the first are right-aligned."""
        rule = [":---", *["---:"] * (len(header) - 1)]
        return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return nothing, because the preceding sentence describes the picture."""
        return ""

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return the document with its title."""
        return "\n\n".join([f"# {title}", *parts]) + "\n"
