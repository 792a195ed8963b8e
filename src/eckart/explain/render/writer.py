"""The interface of a format, and the traversal of an explanation that all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eckart.explain.formula import Formula
from eckart.explain.steps import Check, Explanation, Panel, Picture, Say, Show, Text
from eckart.explain.words import fill, sentence


class Writer(Protocol):
    """One format. Every method returns text; apart from `escape`, string arguments are escaped already."""

    def escape(self, text: str) -> str:
        """Escape plain text."""
        ...

    def inline(self, formula: Formula) -> str:
        """Return a formula within a sentence."""
        ...

    def heading(self, number: int, text: str) -> str:
        """Return the heading of a step."""
        ...

    def paragraph(self, text: str) -> str:
        """Return a paragraph."""
        ...

    def display(self, formula: Formula) -> str:
        """Return a formula on its own lines."""
        ...

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return an identity with the outcome of its check."""
        ...

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a table."""
        ...

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return panels with their captions next to each other; an empty string in text formats."""
        ...

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return the whole document."""
        ...


def write(explanation: Explanation[object], writer: Writer, lang: str) -> str:
    """Return an explanation in one format and one language."""

    def escaped(key: str) -> str:
        return writer.escape(sentence(key, lang))

    def filled(text: Text) -> str:
        return fill(text, lang, writer.inline, writer.escape)

    def cell(content: Text | Formula) -> str:
        return filled(content) if isinstance(content, Text) else writer.inline(content)

    parts = []
    for number, step in enumerate(explanation.steps, 1):
        parts.append(writer.heading(number, escaped(step.title)))
        for part in step.parts:
            match part:
                case Say(text):
                    parts.append(writer.paragraph(filled(text)))
                case Show(formula):
                    parts.append(writer.display(formula))
                case Check(formula, holds, exact):
                    parts.append(writer.check(formula, escaped(_outcome(holds, exact)), holds))
                case Picture(caption, panels):
                    drawn = writer.picture(filled(caption), [(filled(p.caption), p) for p in panels])
                    parts += [drawn] if drawn else []
                case _:
                    rows = [[cell(content) for content in row] for row in part.rows]
                    parts.append(writer.table([cell(content) for content in part.header], rows))
    return writer.page(escaped(f"topic.{explanation.topic}"), parts, lang)


def _outcome(holds: bool, exact: bool) -> str:
    """Return the key of the sentence for the outcome of a check."""
    if not holds:
        return "done.wrong"
    return "done.exact" if exact else "done.decimals"
