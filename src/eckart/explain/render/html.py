"""The HTML format: one page with formulas in MathML and pictures in SVG, which loads no other files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from eckart.explain.formula import Formula
from eckart.explain.render.mathml import mathml
from eckart.explain.render.svg import svg
from eckart.explain.steps import Panel

STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #1a7f4b; --bad: #c22;
  --wash: #0072b214; --first: #0072b2; --second: #bd4f00; }
@media (prefers-color-scheme: dark) {
  :root { --good: #4cc38a; --bad: #ff7b72; --wash: #56b4e91f; --first: #56b4e9; --second: #f0994a; }
}
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.formula { overflow-x: auto; padding: .35rem 0 .35rem 1.5rem; }
math { font-size: 1.1em; }
mtable.matrix { border: 0 solid currentColor; border-width: 0 1.5px; padding: 0 .25em; }
.verdict { margin-left: 1.2rem; color: var(--good); white-space: nowrap; } .wrong { color: var(--bad); }
table { border-collapse: collapse; margin: .6rem 1.5rem; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.2rem 0; } figcaption { font-size: .9rem; opacity: .8; margin-top: .5rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .6rem; }
.panels figure { margin: 0; text-align: center; }
svg { width: 100%; max-width: 16rem; }
.axis { stroke: var(--line); fill: none; } .dashed { stroke: currentColor; opacity: .55; fill: none;
  stroke-dasharray: 3 3; } .outline { stroke: currentColor; fill: var(--wash); stroke-width: 1.4; }
.first { fill: var(--first); } .second { fill: var(--second); }
line { stroke-width: 2.4; } line.first { stroke: var(--first); } line.second { stroke: var(--second); }
.ring { fill: Canvas; stroke: currentColor; stroke-width: 1.4; }
text { font-size: 12px; text-anchor: middle; paint-order: stroke; stroke: Canvas; stroke-width: 4px; }
text.tick { font-size: 9px; fill: currentColor; } path.tick { stroke: currentColor; }
""".strip()


class Html:
    """Writes an HTML page."""

    def escape(self, text: str) -> str:
        """Escape the special characters of HTML."""
        return escape(text)

    def inline(self, formula: Formula) -> str:
        """Return a formula within a line."""
        return f"<math>{mathml(formula)}</math>"

    def heading(self, number: int, text: str) -> str:
        """Return a heading."""
        return f"<h2>{number}. {text}</h2>"

    def paragraph(self, text: str) -> str:
        """Return a paragraph."""
        return f"<p>{text}</p>"

    def display(self, formula: Formula) -> str:
        """Return a formula on its own line."""
        return f'<div class="formula"><math display="inline">{mathml(formula)}</math></div>'

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return the formula with the outcome of its check."""
        kind, sign = ("verdict", "✓") if holds else ("verdict wrong", "✗")
        return (
            f'<div class="formula"><math display="inline">{mathml(formula)}</math>'
            f'<span class="{kind}">{sign} {remark}</span></div>'
        )

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a table."""
        head = "".join(f"<th>{cell}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return the panels as SVG, in a row that wraps on narrow screens."""
        drawn = "".join(
            f"<figure>{svg(panel)}<figcaption>{text}</figcaption></figure>" for text, panel in panels
        )
        return f'<figure><div class="panels">{drawn}</div><figcaption>{caption}</figcaption></figure>'

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return the page."""
        body = "\n".join(parts)
        return (
            f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
            f"{body}\n</body>\n</html>\n"
        )
