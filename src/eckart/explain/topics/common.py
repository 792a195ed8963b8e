"""Steps that several topics share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import sympy

from eckart.explain.decomposition import Decomposition
from eckart.explain.eigen import LAMBDA, Eigen, Obstacle
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

W, WT = Sym("W"), Sym("W", "", "T")
IDENTITY = Sym("I")


def total(values: list[Number]) -> Number:
    """Return an exact sum."""
    return tidy(sympy.Add(*values))


def joined(sign: str, parts: list[Formula]) -> Formula:
    """Return formulas with a sign between them."""
    return reduce(lambda a, b: Row((a, Op(sign), b)), parts)


def rank_to_keep(requested: int | None, rank: int) -> int:
    """Return the rank of the approximation: the requested one or 1, and at most the rank of the matrix."""
    return min(1 if requested is None else requested, rank)


def matrix_step(M: Matrix, name: Formula = W) -> Step:
    """Show the matrix."""
    return Step("title.matrix", (Show(chain(name, M)), say("matrix.shape", m=M.rows, n=M.cols)))


def polynomial_parts(eigen: Eigen, name: Formula) -> Iterator[Part]:
    """Show the characteristic polynomial, its factors and their roots."""
    G = eigen.matrix
    inside = LAMBDA * sympy.eye(G.rows) - G
    yield Show(chain(row(Mark("det"), Paren(row(LAMBDA, IDENTITY, "-", name))), grid(inside, "||")))
    splits = len(eigen.factors) > 1 or eigen.factors[0][1] > 1
    expanded = polynomial(eigen.polynomial)
    if is_rounded(expanded):
        yield Show(expanded)
        if splits:
            yield Show(product(eigen.factors))
    else:
        yield Show(chain(expanded, *([product(eigen.factors)] if splits else [])))
    for factor, _ in eigen.factors:
        coefficients = sympy.Poly(factor, LAMBDA).all_coeffs()
        if len(coefficients) == 3 and eigen.exact:
            _, b, c = coefficients
            half = row(-b, "±", sympy.sqrt(tidy(b**2 - 4 * c)))
            yield say("roots.quadratic", factor=chain(number(factor), 0))
            yield Show(chain(Sym("λ"), Row((Paren(half), Mark("/"), number(sympy.Integer(2))))))
    if eigen.obstacle is Obstacle.DEGREE:
        yield say("decimals.degree", d=max(int(sympy.degree(f, LAMBDA)) for f, _ in eigen.factors))
    elif eigen.obstacle is Obstacle.NESTED:
        yield say("decimals.nested")
    for i, value in enumerate(eigen.values, 1):
        yield Show(chain(letter("λ", i), value))


def product(factors: tuple[tuple[Number, int], ...]) -> Formula:
    """Return a factored polynomial."""
    items: list[Formula] = []
    for factor, multiplicity in factors:
        body: Formula = Paren(number(factor)) if factor.is_Add and factor.args else number(factor)
        items.append(Power(body, multiplicity) if multiplicity > 1 else body)
    return items[0] if len(items) == 1 else Row(tuple(items))


def summary_step(svd: Decomposition) -> Step:
    """Show the singular values and vectors without the steps that lead to them."""
    if not svd.rank:
        return Step("title.summary", (say("zero"),))
    parts: list[Part] = [say("summary")]
    if not svd.eigen.exact:
        parts.append(say("decimals.summary"))
    for i, value in enumerate(svd.sigma, 1):
        u, v = svd.left[i - 1], svd.right[i - 1]
        vectors = (chain(letter("u", i), u), chain(letter("v", i), v))
        parts += [Show(chain(letter("σ", i), value)), *map(Show, vectors)]
    return Step("title.summary", tuple(parts))


def energy_step(svd: Decomposition) -> Step:
    """Show the energy that each rank keeps, and check the total against the sum of squared entries."""
    sigma_r = letter("σ", "r")
    header = (Sym("r"), sigma_r, Power(sigma_r, 2), Row((Sym("E"), Paren(Sym("r")))), Mark("%"))
    whole, cumulative, rows = total(svd.squares), sympy.Integer(0), []
    for r, (value, square) in enumerate(zip(svd.sigma, svd.squares, strict=True), 1):
        cumulative = tidy(cumulative + square)
        share = tidy(cumulative * inverse(whole))
        rows.append((number(r), decimal(value), _short(square), _short(share), percent(share)))
    entries = total([x**2 for x in svd.W])
    left = Row((Power(Norm(W, "F"), 2), Op("="), joined("+", _powers(svd)))) if rows else Norm(W, "F")
    holds = is_zero(whole - entries)
    parts: list[Part] = [say("energy")] if rows else [say("energy.zero")]
    parts += [Table(header, tuple(rows))] if rows else []
    parts += [say("energy.total"), Check(chain(left, entries), holds, svd.exact)]
    return Step("title.energy", tuple(parts))


def _powers(svd: Decomposition) -> list[Formula]:
    return [Power(letter("σ", i), 2) for i in range(1, svd.rank + 1)]


def _short(value: Number) -> Formula:
    return decimal(value) if is_long(value, 14) else number(value)


def header(*names: str) -> tuple[Text, ...]:
    """Return the header of a table from the keys of its sentences."""
    return tuple(Text(name) for name in names)
