"""Formulas as data, independent of sympy, of the language and of the output format.

Signs in the leaves are ASCII; each renderer draws them in its own way. `plain` writes a formula as one line
of text. It serves to recognise long formulas, and the terminal renderer uses it for everything but matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fence = Literal["[]", "||"]


@dataclass(frozen=True)
class Num:
    """A number without sign: ``"6.3246"``."""

    text: str


@dataclass(frozen=True)
class Sym:
    """A letter with a subscript and a superscript: W, lambda_1, V^T."""

    name: str
    sub: str = ""
    sup: str = ""


@dataclass(frozen=True)
class Op:
    """An operator or relation with space on both sides: =, +, the dot of a product."""

    text: str


@dataclass(frozen=True)
class Mark:
    """A sign without space: a leading minus, a comma."""

    text: str


@dataclass(frozen=True)
class Row:
    """Formulas side by side."""

    items: tuple[Formula, ...]


@dataclass(frozen=True)
class Frac:
    """A fraction."""

    top: Formula
    bottom: Formula


@dataclass(frozen=True)
class Root:
    """A root: ``index`` 2 for the square root."""

    inner: Formula
    index: int = 2


@dataclass(frozen=True)
class Power:
    """A power with an integer exponent."""

    base: Formula
    exponent: int


@dataclass(frozen=True)
class Paren:
    """A formula in parentheses; with commas in it, a vector."""

    inner: Formula


@dataclass(frozen=True)
class Norm:
    """A norm, for example ``Norm(W, "F")``; the norm of a vector has no subscript."""

    inner: Formula
    sub: str = ""


@dataclass(frozen=True)
class Grid:
    """A matrix; with bars as the fence, a determinant."""

    rows: tuple[tuple[Formula, ...], ...]
    fence: Fence = "[]"


Formula = Num | Sym | Op | Mark | Row | Frac | Root | Power | Paren | Norm | Grid

SUBSCRIPTS = dict(zip("0123456789+-", "₀₁₂₃₄₅₆₇₈₉₊₋", strict=True))
SUPERSCRIPTS = dict(zip("0123456789+-T", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀ", strict=True))


def plain(formula: Formula) -> str:
    """Return a formula as one line of Unicode text.

    Examples
    --------
    >>> plain(Row((Sym("σ", "1"), Op("="), Root(Num("40")), Op("≈"), Num("6.3246"))))
    'σ₁ = √40 ≈ 6.3246'
    >>> plain(Frac(Row((Num("3"), Op("+"), Root(Num("5")))), Num("2")))
    '(3 + √5)/2'
    """
    match formula:
        case Num(text) | Mark(text):
            return ", " if text == "," else text
        case Op(text):
            return f" {text} "
        case Sym(name, sub, sup):
            return name + _marks(sub, SUBSCRIPTS, "_") + _marks(sup, SUPERSCRIPTS, "^")
        case Row(items):
            return "".join(map(plain, items))
        case Frac(top, bottom):
            return f"{_grouped(top)}/{_close(bottom)}"
        case Root(inner, index):
            sign = "√" if index == 2 else _marks(str(index), SUPERSCRIPTS, "") + "√"
            return sign + (plain(inner) if isinstance(inner, Num | Sym) else f"({plain(inner)})")
        case Power(base, exponent):
            body = plain(base) if isinstance(base, Num | Sym | Paren | Norm) else f"({plain(base)})"
            return body + _marks(str(exponent), SUPERSCRIPTS, "^")
        case Paren(inner):
            return f"({plain(inner)})"
        case Norm(inner, sub):
            return f"‖{plain(inner)}‖" + _marks(sub, SUBSCRIPTS, "_")
        case Grid(rows, fence):
            body = "; ".join(" ".join(map(plain, row)) for row in rows)
            return f"{fence[0]}{body}{fence[1]}"


def _grouped(formula: Formula) -> str:
    """Return a numerator, in parentheses if it is a sum."""
    text = plain(formula)
    return f"({text})" if " " in text and not isinstance(formula, Paren | Norm) else text


def _close(formula: Formula) -> str:
    """Return a denominator, in parentheses unless it is a single item."""
    alone = isinstance(formula, Num | Sym | Paren | Norm | Root)
    return plain(formula) if alone else f"({plain(formula)})"


def _marks(text: str, table: dict[str, str], otherwise: str) -> str:
    if all(c in table for c in text):
        return "".join(table[c] for c in text)
    return otherwise + ("½" if text == "1/2" else text)
