"""Formulas in MathML Core, the part of MathML that all current browsers support."""

from __future__ import annotations

from html import escape

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

MINUS = str.maketrans("-", "−")


def mathml(formula: Formula) -> str:
    """Return a formula as MathML elements, without the ``<math>`` around them.

    Examples
    --------
    >>> mathml(Frac(Num("1"), Root(Num("2"))))
    '<mfrac><mn>1</mn><msqrt><mn>2</mn></msqrt></mfrac>'
    """
    match formula:
        case Num(text):
            return f"<mn>{escape(text)}</mn>"
        case Mark(text):
            kind = "mi" if text.isalpha() else "mo"
            attribute = {"-": ' form="prefix"', ",": ' separator="true"'}.get(text, "")
            return f"<{kind}{attribute}>{escape(text.translate(MINUS))}</{kind}>"
        case Op(text):
            return f"<mo>{escape(text.translate(MINUS))}</mo>"
        case Sym(name, sub, sup):
            return _scripts(_word(name), _word(sub), _word(sup.translate(MINUS)), bool(sub), bool(sup))
        case Row(items):
            return f"<mrow>{''.join(map(mathml, items))}</mrow>"
        case Frac(top, bottom):
            return f"<mfrac>{mathml(top)}{mathml(bottom)}</mfrac>"
        case Root(inner, 2):
            return f"<msqrt>{mathml(inner)}</msqrt>"
        case Root(inner, index):
            return f"<mroot>{mathml(inner)}<mn>{index}</mn></mroot>"
        case Power(base, exponent):
            raised = (
                f"<mn>{exponent}</mn>" if exponent >= 0 else f"<mrow><mo>−</mo><mn>{-exponent}</mn></mrow>"
            )
            return f"<msup>{mathml(base)}{raised}</msup>"
        case Paren(inner):
            return f"<mrow><mo>(</mo>{mathml(inner)}<mo>)</mo></mrow>"
        case Norm(inner, sub):
            body = f"<mrow><mo>‖</mo>{mathml(inner)}<mo>‖</mo></mrow>"
            return _scripts(body, _word(sub), "", bool(sub), False)
        case Grid(rows, fence):
            cells = "".join(
                "<mtr>" + "".join(f"<mtd>{mathml(x)}</mtd>" for x in row) + "</mtr>" for row in rows
            )
            left, right = fence
            return f"<mrow><mo>{left}</mo><mtable>{cells}</mtable><mo>{right}</mo></mrow>"


def _word(text: str) -> str:
    if not text:
        return "<mrow></mrow>"
    if text.isalpha():
        return f"<mi>{text}</mi>"
    return f"<mn>{text}</mn>" if text[0].isdigit() else f"<mo>{escape(text)}</mo>"


def _scripts(base: str, sub: str, sup: str, has_sub: bool, has_sup: bool) -> str:
    if has_sub and has_sup:
        return f"<msubsup>{base}{sub}{sup}</msubsup>"
    if has_sub:
        return f"<msub>{base}{sub}</msub>"
    return f"<msup>{base}{sup}</msup>" if has_sup else base
