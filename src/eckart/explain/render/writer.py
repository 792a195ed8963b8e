"""What a renderer must be able to write, and the walk over an explanation that all four share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eckart.explain.formula import Formula
from eckart.explain.steps import Check, Explanation, Panel, Picture, Say, Show, Text
from eckart.explain.words import fill, sentence


class Writer(Protocol):
    """One format. Every method returns text; strings that come in are written already."""

    def escape(self, words: str) -> str:
        """Return words of a sentence."""
        ...

    def inline(self, formula: Formula) -> str:
        """Return a formula within a sentence."""
        ...

    def heading(self, number: int, words: str) -> str:
        """Return the heading of a step."""
        ...

    def paragraph(self, words: str) -> str:
        """Return a sentence of its own."""
        ...

    def display(self, formula: Formula) -> str:
        """Return a formula on lines of its own."""
        ...

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return an identity and how it was checked."""
        ...

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a table of cells that are written already."""
        ...

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return panels, each with its caption, drawn side by side; nothing in a format of words alone."""
        ...

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return the whole document."""
        ...


def write(explanation: Explanation, writer: Writer, lang: str) -> str:
    """Write an explanation in one format and one language."""

    def words(key: str) -> str:
        return writer.escape(sentence(key, lang))

    def filled(text: Text) -> str:
        return fill(text, lang, writer.inline, writer.escape)

    def cell(content: Text | Formula) -> str:
        return filled(content) if isinstance(content, Text) else writer.inline(content)

    parts = []
    for number, step in enumerate(explanation.steps, 1):
        parts.append(writer.heading(number, words(step.title)))
        for part in step.parts:
            match part:
                case Say(text):
                    parts.append(writer.paragraph(filled(text)))
                case Show(formula):
                    parts.append(writer.display(formula))
                case Check(formula, holds, exact):
                    key = "done.wrong" if not holds else "done.exact" if exact else "done.decimals"
                    parts.append(writer.check(formula, words(key), holds))
                case Picture(caption, panels):
                    drawn = writer.picture(filled(caption), [(filled(p.caption), p) for p in panels])
                    parts += [drawn] if drawn else []
                case _:
                    rows = [[cell(content) for content in row] for row in part.rows]
                    parts.append(writer.table([cell(content) for content in part.header], rows))
    return writer.page(words(f"topic.{explanation.topic}"), parts, lang)
