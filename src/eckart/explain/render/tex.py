"""Formulas in TeX, for Markdown and for LaTeX documents, in ASCII for every TeX engine."""

from __future__ import annotations

from eckart.explain.formula import (
    Formula,
    Frac,
    Grid,
    Mark,
    Norm,
    Num,
    Op,
    Paren,
    Power,
    Root,
    Row,
    Sym,
)

LETTERS = {
    "λ": r"\lambda",
    "σ": r"\sigma",
    "Σ": r"\Sigma",
    "α": r"\alpha",
    "κ": r"\kappa",
    "μ": r"\mu",
    "det": r"\det",
    "%": r"\%",
    "": "{}",
    ", ": r",\ ",
    "(": "(",
    ")": ")",
}
SIGNS = {
    "≈": r"\approx",
    "·": r"\cdot",
    "×": r"\times",
    "±": r"\pm",
    "←": r"\leftarrow",
    "↔": r"\leftrightarrow",
    ",": r",\quad",
}


def tex(formula: Formula) -> str:
    r"""Return a formula for the math mode of TeX.

    Examples
    --------
    >>> tex(Row((Sym("σ", "1"), Op("="), Frac(Num("1"), Root(Num("2"))))))
    '\\sigma_{1} = \\frac{1}{\\sqrt{2}}'
    """
    match formula:
        case Num(text):
            return text
        case Mark(text):
            return LETTERS.get(text, text) + (" " if text == "," else "")
        case Op(text):
            return f" {SIGNS.get(text, text)} "
        case Sym(name, sub, sup):
            subscript = f"_{{{sub}}}" if sub else ""
            superscript = f"^{{{_raised(sup)}}}" if sup else ""
            return LETTERS.get(name, name) + subscript + superscript
        case Row(items):
            return "".join(_spaced(tex(item)) for item in items).strip()
        case Frac(top, bottom):
            return rf"\frac{{{tex(top)}}}{{{tex(bottom)}}}"
        case Root(inner, index):
            return rf"\sqrt{'' if index == 2 else f'[{index}]'}{{{tex(inner)}}}"
        case Power(base, exponent):
            body = tex(base) if isinstance(base, Num | Paren | Norm) else f"{{{tex(base)}}}"
            return f"{body}^{{{exponent}}}"
        case Paren(inner):
            return rf"\left({tex(inner)}\right)"
        case Norm(inner, sub):
            return rf"\left\|{tex(inner)}\right\|" + (f"_{{{sub}}}" if sub else "")
        case Grid(rows, fence):
            kind = "bmatrix" if fence == "[]" else "vmatrix"
            body = r" \\ ".join(" & ".join(map(tex, row)) for row in rows)
            return rf"\begin{{{kind}}} {body} \end{{{kind}}}"


def _raised(sup: str) -> str:
    return r"\mathsf{T}" if sup == "T" else sup


def _spaced(text: str) -> str:
    """Add a space after a command name, which separates it from a following letter."""
    return text + " " if text.startswith("\\") and text[-1:].isalpha() else text
