"""The LaTeX format: English for any engine, Japanese for LuaLaTeX, Chinese for XeLaTeX or LuaLaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from eckart.explain.formula import SUBSCRIPTS, SUPERSCRIPTS, Formula
from eckart.explain.render.tex import LETTERS, tex
from eckart.explain.steps import Panel

HEADS = {
    "en": "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n",
    "ja": "\\documentclass{article}\n\\usepackage{luatexja}\n",
    "zh": "\\documentclass{ctexart}\n",
}
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}
GREEK = {
    letter: f"${command}$" for letter, command in LETTERS.items() if command.startswith("\\") and letter > "~"
}
LOW = {drawn: f"$_{{{plain}}}$" for plain, drawn in SUBSCRIPTS.items()}
HIGH = {drawn: f"$^{{{plain}}}$" for plain, drawn in SUPERSCRIPTS.items() if plain != "T"}
ESCAPES = str.maketrans({**SPECIAL, **GREEK, **LOW, **HIGH, "ᵀ": r"$^{\mathsf{T}}$"})


class Latex:
    """Writes a LaTeX document."""

    def escape(self, text: str) -> str:
        """Escape the special characters of TeX, and put the letters of formulas in math mode."""
        return text.translate(ESCAPES)

    def inline(self, formula: Formula) -> str:
        """Return a formula within a line."""
        return f"${tex(formula)}$"

    def heading(self, number: int, text: str) -> str:
        """Return a section; LaTeX numbers it."""
        return f"\\section{{{text}}}"

    def paragraph(self, text: str) -> str:
        """Return the text."""
        return text

    def display(self, formula: Formula) -> str:
        """Return a formula on its own line, scaled down if it is wider than the page."""
        return f"\\[\n\\fitting{{{tex(formula)}}}\n\\]"

    def check(self, formula: Formula, remark: str, holds: bool) -> str:
        """Return the formula with the outcome of its check."""
        sign = r"$\checkmark$" if holds else r"$\times$"
        return f"{self.display(formula)}\n\\hfill {sign} {remark}"

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a table; all columns but the first are right-aligned."""
        body = " \\\\\n".join(" & ".join(line) for line in rows)
        columns = "l" + "r" * (len(header) - 1)
        return (
            f"\\begin{{center}}\n\\begin{{tabular}}{{{columns}}}\n{' & '.join(header)} \\\\ \\hline\n"
            f"{body}\n\\end{{tabular}}\n\\end{{center}}"
        )

    def picture(self, caption: str, panels: Sequence[tuple[str, Panel]]) -> str:
        """Return nothing, because the preceding sentence describes the picture."""
        return ""

    def page(self, title: str, parts: Sequence[str], lang: str) -> str:
        """Return the document."""
        preamble = (
            f"{HEADS[lang]}\\usepackage{{amsmath,amssymb,graphicx}}\n\\usepackage[margin=25mm]{{geometry}}\n"
            "\\setlength{\\parindent}{0pt}\n\\setlength{\\parskip}{4pt}\n\\newsavebox{\\formula}\n"
            "\\newcommand{\\fitting}[1]{\\sbox{\\formula}{$\\displaystyle #1$}"
            "\\ifdim\\wd\\formula>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox{\\formula}}"
            "\\else\\usebox{\\formula}\\fi}\n"
            f"\\title{{{title}}}\n\\date{{}}\n\\begin{{document}}\n\\maketitle\n"
        )
        return preamble + "\n\n".join(parts) + "\n\\end{document}\n"
