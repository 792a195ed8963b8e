"""Markdown with formulas between dollar signs, as GitHub, Jupyter and MkDocs with MathJax show them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eckart.explain.formula import Formula
from eckart.explain.render.tex import tex
from eckart.explain.steps import Panel


class Markdown:
    """Writes Markdown."""

    def escape(self, words: str) -> str:
        """Return the words with Markdown's own signs made harmless."""
        return re.sub(r"([\\`*_$|<>\[\]])", r"\\\1", words)

    def inline(self, formula: Formula) -> str:
        """Return a formula in a line."""
        return f"${tex(formula)}$"

    def heading(self, number: int, words: str) -> str:
        """Return a heading of the second level."""
        return f"## {number}. {words}"

    def paragraph(self, words: str) -> str:
        """Return the words."""
        return words

    def display(self, formula: Formula) -> str:
        """Return a formula set off."""
        return f"$$\n{tex(formula)}\n$$"

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return the formula with its verdict."""
        return rf"{self.display(formula)}" + f"\n\n{'✓' if holds else '✗'} {remark}"

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a pipe table, all columns but the first to the right."""
        rule = [":---", *["---:"] * (len(header) - 1)]
        return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return nothing: the sentence before says it."""
        return ""

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return everything, under the title."""
        return "\n\n".join([f"# {title}", *parts]) + "\n"
