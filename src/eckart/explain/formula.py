"""Formulas as data: what a renderer is given, whatever it writes.

A formula knows nothing of sympy, of a language or of a format. Signs in leaves are ASCII; a renderer
draws them as its format does. `plain` writes one as a line of text, which is how long formulas are
recognised, and how the terminal writes everything but matrices.
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
    """A letter with marks under and over it: W, lambda_1, V^T."""

    name: str
    sub: str = ""
    sup: str = ""


@dataclass(frozen=True)
class Op:
    """A sign between two things, with space around it: =, +, a product's dot."""

    text: str


@dataclass(frozen=True)
class Mark:
    """A sign that stands close: a leading minus, a comma."""

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
    """A root, square unless ``index`` says another."""

    inner: Formula
    index: int = 2


@dataclass(frozen=True)
class Power:
    """A power with a whole exponent."""

    base: Formula
    exponent: int


@dataclass(frozen=True)
class Paren:
    """Something in round brackets; a vector is one with commas in it."""

    inner: Formula


@dataclass(frozen=True)
class Norm:
    """A norm: ``Norm(W, "F")``; of a vector, without a mark."""

    inner: Formula
    sub: str = ""


@dataclass(frozen=True)
class Grid:
    """A matrix, or with bars a determinant."""

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
    """Return a numerator: in brackets where it is a sum."""
    text = plain(formula)
    return f"({text})" if " " in text and not isinstance(formula, Paren | Norm) else text


def _close(formula: Formula) -> str:
    """Return a denominator: in brackets unless it is one thing."""
    alone = isinstance(formula, Num | Sym | Paren | Norm | Root)
    return plain(formula) if alone else f"({plain(formula)})"


def _marks(text: str, table: dict[str, str], otherwise: str) -> str:
    if all(c in table for c in text):
        return "".join(table[c] for c in text)
    return otherwise + ("½" if text == "1/2" else text)
