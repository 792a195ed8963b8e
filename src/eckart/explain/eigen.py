"""Eigenvalues and eigenvectors of a symmetric matrix, as one finds them on paper.

Exact while they are fractions or have square roots of whole numbers in them; otherwise in decimals,
and it says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mpmath
import sympy

from eckart.explain.elimination import null_space
from eckart.explain.exact import (
    DIGITS,
    Matrix,
    NotSurdError,
    Number,
    inverse,
    is_surd,
    nice,
    root,
    surd_terms,
    tidied,
    tidy,
)

LAMBDA = sympy.Symbol("λ")
Why = Literal["", "degree", "nested"]


@dataclass(frozen=True)
class Space:
    """The vectors that belong to one eigenvalue.

    Parameters
    ----------
    value : Number
        The eigenvalue.
    reduced : Matrix or None
        The reduced form of G - value I; None in decimals.
    found : tuple of Matrix
        A vector for every free column.
    directions : tuple of Matrix
        The same space, orthogonal: Gram-Schmidt, scaled to whole coefficients, not to length 1.
    """

    value: Number
    reduced: Matrix | None
    found: tuple[Matrix, ...]
    directions: tuple[Matrix, ...]


@dataclass(frozen=True)
class Eigen:
    """The eigenproblem of a symmetric matrix, worked out.

    Parameters
    ----------
    polynomial : Number
        det(lambda I - G), expanded.
    factors : tuple of (Number, int)
        Its factors over the numbers that the matrix is made of, with their multiplicities.
    spaces : tuple of Space
        Largest eigenvalue first.
    why : {"", "degree", "nested"}
        Why decimals: a factor of degree over 2, or roots under roots; empty where all is exact.
    """

    matrix: Matrix
    polynomial: Number
    factors: tuple[tuple[Number, int], ...]
    spaces: tuple[Space, ...]
    why: Why

    @property
    def exact(self) -> bool:
        """Whether eigenvalues and vectors are exact."""
        return not self.why

    @property
    def values(self) -> list[Number]:
        """Eigenvalues with repetitions, largest first."""
        return [space.value for space in self.spaces for _ in space.directions]

    @property
    def directions(self) -> list[Matrix]:
        """Orthogonal eigenvectors, in the order of ``values``."""
        return [x for space in self.spaces for x in space.directions]


def eigen(G: Matrix, rank: int) -> Eigen:
    """Solve the eigenproblem of a positive semidefinite matrix of known rank.

    Examples
    --------
    >>> found = eigen(sympy.Matrix([[25, 15], [15, 25]]), 2)
    >>> found.polynomial, found.values, [tuple(x) for x in found.directions]
    (λ**2 - 50*λ + 400, [40, 10], [(1, 1), (1, -1)])
    """
    polynomial = characteristic(G)
    factors = factored(polynomial, G)
    values, why = _roots(factors)
    if not why:
        try:
            spaces = tuple(_space(G, value) for value in values)
        except NotSurdError:
            why = "nested"
        else:
            if sum(len(space.directions) for space in spaces) == G.rows:
                return Eigen(G, polynomial, factors, spaces, "")
            why = "nested"  # zero was not recognised: never pass it off as exact
    return Eigen(G, polynomial, factors, _in_decimals(polynomial, G, rank), why)


def characteristic(G: Matrix) -> Number:
    """Return det(lambda I - G), expanded, by the recurrence of Faddeev and Le Verrier."""
    n = G.rows
    M, c = sympy.zeros(n, n), sympy.Integer(1)
    polynomial = LAMBDA**n
    for k in range(1, n + 1):
        M = tidied(G * M + c * sympy.eye(n))
        c = tidy(-(G * M).trace() / k)
        polynomial += c * LAMBDA ** (n - k)
    return polynomial


def factored(polynomial: Number, G: Matrix) -> tuple[tuple[Number, int], ...]:
    """Return the monic factors of a characteristic polynomial, over the numbers in the matrix."""
    roots = sorted({d for entry in G if entry != 0 for d in surd_terms(entry) if d != 1})
    how = {"extension": [sympy.sqrt(d) for d in roots]} if roots else {}
    _, factors = sympy.factor_list(polynomial, LAMBDA, **how)
    monic = []
    for factor, times in factors:
        coefficients = sympy.Poly(factor, LAMBDA).all_coeffs()
        over = inverse(tidy(coefficients[0]))
        degree = len(coefficients) - 1
        monic.append(
            (sympy.Add(*(tidy(c * over) * LAMBDA ** (degree - i) for i, c in enumerate(coefficients))), times)
        )
    return tuple(monic)


def _roots(factors: tuple[tuple[Number, int], ...]) -> tuple[list[Number], Why]:
    values: list[Number] = []
    for factor, _ in factors:
        coefficients = [tidy(c) for c in sympy.Poly(factor, LAMBDA).all_coeffs()]
        if len(coefficients) > 3:
            return [], "degree"
        if len(coefficients) == 2:
            values.append(-coefficients[1])
            continue
        _, b, c = coefficients
        spread = root(tidy(b**2 - 4 * c))
        if not is_surd(spread):
            return [], "nested"
        values += [tidy((-b + spread) / 2), tidy((-b - spread) / 2)]
    return sorted(values, key=lambda v: sympy.N(v, DIGITS), reverse=True), ""


def _space(G: Matrix, value: Number) -> Space:
    reduced, found = null_space(tidied(G - value * sympy.eye(G.rows)))
    found = [nice(x)[0] for x in found]
    return Space(value, reduced, tuple(found), orthogonal(found))


def orthogonal(vectors: list[Matrix]) -> tuple[Matrix, ...]:
    """Return orthogonal vectors of the same span, by Gram-Schmidt without square roots."""
    done: list[Matrix] = []
    for x in vectors:
        for y in done:
            x = tidied(x - tidy(dot(y, x) * inverse(dot(y, y))) * y)
        done.append(nice(x)[0])
    return tuple(done)


def dot(x: Matrix, y: Matrix) -> Number:
    """Return the inner product of two vectors."""
    return tidy(sympy.Add(*(a * b for a, b in zip(x, y, strict=True))))


def _in_decimals(polynomial: Number, G: Matrix, rank: int) -> tuple[Space, ...]:
    """Solve with mpmath, with enough digits that the smallest non-zero eigenvalue has ``DIGITS`` right.

    The product of the non-zero eigenvalues is a coefficient c of the polynomial and none is over the
    trace t, so none is under c / t^(rank - 1).
    """
    n = G.rows
    product = abs(sympy.N(polynomial.coeff(LAMBDA, n - rank), DIGITS))
    spread = int(sympy.ceiling(sympy.log(sympy.N(G.trace(), DIGITS) ** rank / product, 10)))
    digits = DIGITS + max(0, spread)
    with mpmath.workdps(digits):
        exact = [[sympy.N(G[i, j], digits) for j in range(n)] for i in range(n)]
        values, vectors = mpmath.eigsy(mpmath.matrix([[mpmath.mpf(str(x)) for x in row] for row in exact]))
        spaces = []
        for place, j in enumerate(reversed(range(n))):
            x = nice(sympy.Matrix([sympy.Float(vectors[i, j], DIGITS) for i in range(n)]))[0]
            value = sympy.Float(values[j], DIGITS) if place < rank else sympy.Integer(0)
            spaces.append(Space(value, None, (), (x,)))
    return tuple(spaces)
