"""Conversion of exact numbers and matrices to formulas."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

import sympy

from eckart.explain.decomposition import Unit
from eckart.explain.exact import DIGITS, Matrix, Number
from eckart.explain.formula import (
    Fence,
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
    plain,
)

PLACES = 4  # decimals shown
LONG = 22  # characters; a matrix with a longer entry is shown in decimals, which are easier to read
LONGEST = 60  # the same limit for a number on its own

Part: TypeAlias = Formula | Number | Matrix | Unit | int  # one side of an equation


def number(value: Number) -> Formula:
    """Return the formula of a number, or of a polynomial in lambda.

    Examples
    --------
    >>> plain(number(sympy.Rational(-3, 2))), plain(number(sympy.sqrt(40)))
    ('-3/2', '2√10')
    >>> plain(number((3 + sympy.sqrt(5)) / 2))
    '(3 + √5)/2'
    """
    value = sympy.sympify(value)
    if value.is_Float:
        return decimal(value)
    if value.is_Add:
        return _sum(value)
    if _is_negative(value):
        return Row((Mark("-"), number(-value)))
    if value.is_Integer:
        return Num(str(value))
    if value.is_Symbol:
        return Sym(value.name)
    above, below = sympy.fraction(value)
    if below != 1:
        return Frac(number(above), number(below))
    if value.is_Pow:
        base, exponent = value.as_base_exp()
        if exponent.is_Integer:
            body = number(base)
            return Power(Paren(body) if base.is_Add else body, int(exponent))
        inner = number(base if exponent.p == 1 else base**exponent.p)
        return Root(inner, int(exponent.q))
    return Row(tuple(_factors(value)))


def _factors(value: Number) -> Iterable[Formula]:
    """Yield the factors of a product: numbers first, then letters, roots last."""
    order = sorted(value.args, key=lambda f: (not f.is_Rational, not f.is_Symbol, f.sort_key()))
    for factor in order:
        body = number(factor)
        yield Paren(body) if factor.is_Add else body


def _sum(value: Number) -> Formula:
    if not value.free_symbols:
        below = sympy.ilcm(*(term.as_coeff_Mul()[0].q for term in value.args))
        if below != 1:
            return Frac(number(sympy.expand(below * value)), Num(str(below)))
    if value.free_symbols:
        terms = list(sympy.Poly(value, *value.free_symbols).terms())
        letter = sympy.Mul(*value.free_symbols)
        parts = [sympy.Mul(c, letter**power, evaluate=True) for (power,), c in terms]
    else:
        parts = sorted(value.args, key=lambda t: (_is_negative(t), not t.is_Rational, t.sort_key()))
    items: list[Formula] = []
    for part in parts:
        negative = _is_negative(part)
        if items:
            items.append(Op("-" if negative else "+"))
        elif negative:
            items.append(Mark("-"))
        body = number(-part if negative else part)
        items.append(Paren(body) if part.is_Add and part.free_symbols else body)
    return Row(tuple(items))


def _is_negative(value: Number) -> bool:
    return bool(value.as_coeff_Mul()[0] < 0) if not value.is_Add else False


def decimal(value: Number, places: int = PLACES) -> Formula:
    """Return a number in decimals; very large and very small numbers have a power of ten."""
    exact = sympy.sympify(value)
    value = sympy.N(exact, DIGITS)
    size = abs(value)
    sign: tuple[Formula, ...] = (Mark("-"),) if value < 0 else ()
    if exact.is_Integer or (exact.is_Float and size < 1e-20):
        body: Formula = Num(str(abs(int(value))))
    elif size < 1e-3 or size >= 1e7:
        digits, power = f"{float(size):.{places}e}".split("e")
        body = Row((Num(digits), Op("·"), Power(Num("10"), int(power))))
    else:
        body = Num(f"{float(size):.{places}f}")
    return Row((*sign, body)) if sign else body


def percent(share: Number) -> Formula:
    """Return a share of 1 as a percentage, with enough decimals to distinguish it from 0 % and 100 %."""
    value = Decimal(str(sympy.N(100 * share, DIGITS)))
    # Decimals are correct to 20 places: a share that is closer to 0 % or 100 % is shown as 0 % or 100 %.
    digits = next((d for d in range(1, 20) if Decimal(f"{value:.{d}f}") not in (0, 100)), 1)
    return Row((Num(f"{value:.{digits}f}".removesuffix(".0")), Mark("%")))


def is_long(value: Number, limit: int = LONG) -> bool:
    """Whether a number has more characters than fit."""
    return not value.is_Float and len(plain(number(value))) > limit


def grid(M: Matrix, fence: Fence = "[]") -> Grid:
    """Return a matrix, in decimals if any entry is a decimal or too long."""
    write = decimal if in_decimals(M) else number
    return Grid(tuple(tuple(write(M[i, j]) for j in range(M.cols)) for i in range(M.rows)), fence)


def in_decimals(M: Matrix) -> bool:
    """Whether `grid` shows a matrix in decimals."""
    return any(x.is_Float or is_long(x) for x in M) and not M.free_symbols


def vector(x: Matrix) -> Formula:
    """Return a vector as (a, b, c)."""
    write = decimal if in_decimals(x) else number
    items: list[Formula] = []
    for entry in x:
        items += [Mark(","), write(entry)] if items else [write(entry)]
    return Paren(Row(tuple(items)))


def unit(u: Unit) -> Formula:
    """Return a unit vector as 1/length times a direction."""
    if u.square == 1 or in_decimals(u.direction):
        return vector(u.vector)
    length = sympy.sqrt(u.square)
    if is_long(length):
        return vector(sympy.N(u.vector, DIGITS))
    return Row((Frac(Num("1"), number(length)), Op("·"), vector(u.direction)))


def chain(*parts: Part, relation: str = "=") -> Row:
    """Return parts joined by =, or by ≈ next to a part that is shown in decimals.

    Parameters
    ----------
    *parts : Formula, Number, Matrix or Unit
        The sides of the equation. A number with a root is followed by its decimals.
    relation : str
        The sign between exact parts.
    """
    items: list[Formula] = []
    for part in parts:
        for sign, formula in _written(part, relation):
            rounded = is_rounded(formula) or bool(items and is_rounded(items[-1]))
            items += [Op("≈" if rounded else sign), formula] if items else [formula]
    return Row(tuple(items))


def is_rounded(formula: Formula) -> bool:
    """Whether a formula shows decimals; exact values are shown as integers, fractions and roots."""
    match formula:
        case Num(text):
            return "." in text
        case Row(items):
            # The caller of `percent` chooses the sign in front of it.
            return Mark("%") not in items and any(map(is_rounded, items))
        case Frac(top, bottom):
            return is_rounded(top) or is_rounded(bottom)
        case Root(inner) | Power(inner) | Paren(inner) | Norm(inner):
            return is_rounded(inner)
        case Grid(rows):
            return any(is_rounded(x) for row in rows for x in row)
        case _:
            return False


def alone(M: Matrix) -> Formula:
    """Return a matrix without a left side; ≈ precedes it if it is in decimals."""
    return Row((Op("≈"), grid(M))) if in_decimals(M) else grid(M)


def polynomial(value: Number) -> Formula:
    """Return a polynomial in lambda; if it is too long, in decimals and preceded by ≈."""
    if not is_long(value, LONGEST):
        return number(value)
    letter = sympy.Mul(*value.free_symbols)
    items: list[Formula] = [Op("≈")]
    for (power,), c in sympy.Poly(value, letter).terms():
        negative = bool(sympy.N(c, DIGITS) < 0)
        if len(items) > 1:
            items.append(Op("-" if negative else "+"))
        elif negative:
            items.append(Mark("-"))
        size = abs(c)
        if size != 1 or not power:
            items.append(decimal(sympy.N(size, DIGITS) if size >= 1 else size))
        if power:
            items.append(number(letter**power))
    return Row(tuple(items))


def _written(part: Part, relation: str) -> Iterable[tuple[str, Formula]]:
    """Yield the formulas for one part of a chain, each with the sign before it."""
    if isinstance(part, Formula):
        yield relation, part
    elif isinstance(part, Unit):
        rounded = in_decimals(part.direction) or (part.square != 1 and is_long(sympy.sqrt(part.square)))
        yield "≈" if rounded else relation, unit(part)
    elif isinstance(part, sympy.MatrixBase):
        yield "≈" if in_decimals(part) else relation, grid(part)
    else:
        value = sympy.sympify(part)
        if value.is_Float:
            yield "≈", decimal(value)
            return
        if not is_long(value, LONGEST):
            yield relation, number(value)
        if not value.is_Rational and not value.free_symbols:
            yield "≈", decimal(value)


def row(*items: Formula | Number | int | str) -> Row:
    """Return formulas and numbers next to each other; a string is a sign between them."""
    return Row(tuple(map(_item, items)))


def _item(item: Formula | Number | int | str) -> Formula:
    if isinstance(item, str):
        return Op(item)
    return item if isinstance(item, Formula) else number(item)


def letter(name: str, index: object = "", sup: str = "") -> Sym:
    """Return a letter with an index."""
    return Sym(name, str(index), sup)
