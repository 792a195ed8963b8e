"""Steps that several topics share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import sympy

from eckart.explain.eigen import LAMBDA, Eigen
from eckart.explain.exact import Matrix, Number, inverse, is_zero, tidy
from eckart.explain.formula import Formula, Mark, Norm, Op, Paren, Power, Row, Sym
from eckart.explain.notation import (
    chain,
    decimal,
    grid,
    is_long,
    is_rounded,
    letter,
    number,
    percent,
    polynomial,
    row,
)
from eckart.explain.steps import Check, Part, Show, Step, Table, Text, say
from eckart.explain.work import Work

W, WT = Sym("W"), Sym("W", "", "T")
IDENTITY = Sym("I")


def total(values: list[Number]) -> Number:
    """Return an exact sum."""
    return tidy(sympy.Add(*values))


def joined(sign: str, parts: list[Formula]) -> Formula:
    """Return parts with a sign between them."""
    return reduce(lambda a, b: Row((a, Op(sign), b)), parts)


def fits(rank: int | None, known: int) -> int:
    """Return the rank to cut at: the one asked for, or 1; never above the rank there is."""
    return min(1 if rank is None else rank, known)


def matrix_step(M: Matrix, name: Formula = W) -> Step:
    """Show the matrix itself."""
    return Step("title.matrix", (Show(chain(name, M)), say("matrix.shape", m=M.rows, n=M.cols)))


def polynomial_parts(found: Eigen, name: Formula, letters: str = "λ") -> Iterator[Part]:
    """Show the characteristic polynomial, its factors and their roots."""
    G = found.matrix
    inside = LAMBDA * sympy.eye(G.rows) - G
    yield Show(chain(row(Mark("det"), Paren(row(LAMBDA, IDENTITY, "-", name))), grid(inside, "||")))
    splits = len(found.factors) > 1 or found.factors[0][1] > 1
    expanded = polynomial(found.polynomial)
    if is_rounded(expanded):
        yield Show(expanded)
        if splits:
            yield Show(product(found.factors))
    else:
        yield Show(chain(expanded, *([product(found.factors)] if splits else [])))
    for factor, _ in found.factors:
        coefficients = sympy.Poly(factor, LAMBDA).all_coeffs()
        if len(coefficients) == 3 and found.exact:
            _, b, c = coefficients
            half = row(-b, "±", sympy.sqrt(tidy(b**2 - 4 * c)))
            yield say("roots.quadratic", factor=chain(number(factor), 0))
            yield Show(chain(Sym("λ"), Row((Paren(half), Mark("/"), number(sympy.Integer(2))))))
    if found.why == "degree":
        yield say("decimals.degree", d=max(int(sympy.degree(f, LAMBDA)) for f, _ in found.factors))
    elif found.why == "nested":
        yield say("decimals.nested")
    for i, value in enumerate(found.values, 1):
        yield Show(chain(letter(letters, i), value))


def product(factors: tuple[tuple[Number, int], ...]) -> Formula:
    """Return a factored polynomial."""
    items: list[Formula] = []
    for factor, times in factors:
        body: Formula = Paren(number(factor)) if factor.is_Add and factor.args else number(factor)
        items.append(Power(body, times) if times > 1 else body)
    return items[0] if len(items) == 1 else Row(tuple(items))


def summary_step(work: Work) -> Step:
    """Show the singular values and vectors, without their working."""
    if not work.rank:
        return Step("title.summary", (say("zero"),))
    parts: list[Part] = [say("summary")]
    if work.eigen.why:
        parts.append(say("decimals.summary"))
    for i, value in enumerate(work.sigma, 1):
        u, v = work.left[i - 1], work.right[i - 1]
        vectors = (chain(letter("u", i), u), chain(letter("v", i), v))
        parts += [Show(chain(letter("σ", i), value)), *map(Show, vectors)]
    return Step("title.summary", tuple(parts))


def energy_step(work: Work) -> Step:
    """Show the table of ranks and the energy each keeps, and that the whole is the sum of squared entries."""
    sigma_r = letter("σ", "r")
    header = (Sym("r"), sigma_r, Power(sigma_r, 2), Row((Sym("E"), Paren(Sym("r")))), Mark("%"))
    whole, so_far, rows = total(work.squares), sympy.Integer(0), []
    for r, (value, square) in enumerate(zip(work.sigma, work.squares, strict=True), 1):
        so_far = tidy(so_far + square)
        share = tidy(so_far * inverse(whole))
        rows.append((number(r), decimal(value), _short(square), _short(share), percent(share)))
    entries = total([x**2 for x in work.W])
    left = Row((Power(Norm(W, "F"), 2), Op("="), joined("+", _powers(work)))) if rows else Norm(W, "F")
    holds = is_zero(whole - entries)
    parts: list[Part] = [say("energy")] if rows else [say("energy.zero")]
    parts += [Table(header, tuple(rows))] if rows else []
    parts += [say("energy.total"), Check(chain(left, entries), holds, work.exact)]
    return Step("title.energy", tuple(parts))


def _powers(work: Work) -> list[Formula]:
    return [Power(letter("σ", i), 2) for i in range(1, work.rank + 1)]


def _short(value: Number) -> Formula:
    return decimal(value) if is_long(value, 14) else number(value)


def header(*names: str) -> tuple[Text, ...]:
    """Return a table's header from sentences' keys."""
    return tuple(Text(name) for name in names)
