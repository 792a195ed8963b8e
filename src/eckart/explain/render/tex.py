"""Formulas in TeX, for Markdown and for LaTeX documents. All ASCII, so that any TeX reads it."""

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
    "λ": r"\lambda", "σ": r"\sigma", "Σ": r"\Sigma", "α": r"\alpha", "κ": r"\kappa", "μ": r"\mu",
    "det": r"\det", "%": r"\%", "": "{}", ", ": r",\ ", "(": "(", ")": ")",
}  # fmt: skip
SIGNS = {
    "≈": r"\approx", "·": r"\cdot", "×": r"\times", "±": r"\pm", "←": r"\leftarrow", "↔": r"\leftrightarrow",
    ",": r",\quad",
}  # fmt: skip


def tex(formula: Formula) -> str:
    r"""Return a formula in TeX's math mode.

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
            under = f"_{{{sub}}}" if sub else ""
            over = f"^{{{_raised(sup)}}}" if sup else ""
            return LETTERS.get(name, name) + under + over
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
    """Keep a command's name off a letter that follows it."""
    return text + " " if text.startswith("\\") and text[-1:].isalpha() else text
