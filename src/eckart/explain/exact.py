"""Exact numbers: sums of fractions times square roots, in a canonical form that makes zero recognisable.

Every exact number here is a sum of fractions times square roots of integers. In expanded form, sympy
represents such a sum uniquely, provided that nothing is ever divided by one: `inverse` multiplies by
conjugates instead. Decimals (sympy Floats) are accepted as well, so the same code continues when the roots
have no simple form.
"""

from __future__ import annotations

from math import gcd, lcm
from typing import TypeAlias

import sympy

Number: TypeAlias = sympy.Expr  # a Rational, a sum of square roots, or a Float; also a polynomial in lambda
Matrix: TypeAlias = sympy.MatrixBase

DIGITS = 80  # significant digits of decimals
ALMOST = sympy.Float("1e-20", DIGITS)  # decimals that differ by less than this are considered equal


class NotSurdError(ArithmeticError):
    """A number is not a sum of square roots of integers: it has a root under a root."""


def tidy(number: Number) -> Number:
    """Return a number in its canonical expanded form."""
    if number.is_Rational or number.is_Float:
        return number
    return sympy.N(number, DIGITS) if number.has(sympy.Float) else sympy.expand(number)


def tidied(matrix: Matrix) -> Matrix:
    """Return a matrix with every entry in its canonical form."""
    return matrix.applyfunc(tidy)


def inverse(number: Number) -> Number:
    """Return 1 / number without a root in the denominator.

    Notes
    -----
    For a prime p under one of the roots, let c be the number with the sign of sqrt(p) changed. Then number *
    c does not contain sqrt(p), and 1/number = c / (number * c) has one prime less in the denominator.

    Examples
    --------
    >>> inverse(1 + sympy.sqrt(2))
    -1 + sqrt(2)
    """
    if number.is_Rational or number.is_Float:
        return 1 / number
    terms = surd_terms(number)
    roots = [root for root in terms if root != 1]
    prime = roots[0] if len(roots) == 1 else min(p for root in roots for p in sympy.primefactors(root))
    conjugate = sympy.Add(*(c * sympy.sqrt(d) * (-1 if d % prime == 0 else 1) for d, c in terms.items()))
    return tidy(conjugate * inverse(tidy(number * conjugate)))


def surd_terms(number: Number) -> dict[int, Number]:
    """Return {d: c} with number = sum of c sqrt(d); raises `NotSurdError` for any other number."""
    terms: dict[int, Number] = {}
    for term in sympy.Add.make_args(sympy.expand(number)):
        factor, root = term.as_coeff_Mul()
        square = root**2
        if not (square.is_Integer and square > 0 and factor.is_Rational):
            raise NotSurdError(str(number))
        terms[int(square)] = terms.get(int(square), 0) + factor
    return terms


def is_surd(number: Number) -> bool:
    """Whether a number is a sum of fractions times square roots of integers."""
    try:
        surd_terms(number)
    except NotSurdError:
        return False
    return True


def root(number: Number) -> Number:
    """Return the square root of a nonnegative number, without a root under a root where that is possible.

    Examples
    --------
    >>> root((3 + sympy.sqrt(5)) / 2)
    1/2 + sqrt(5)/2
    """
    if number.is_Rational or number.is_Float:
        return sympy.sqrt(number)
    plain = sympy.sqrtdenest(sympy.sqrt(number))
    if not is_surd(plain):
        return sympy.sqrt(number)
    return tidy(plain)


def is_zero(number: Number) -> bool:
    """Whether a number is 0: exactly, or to 20 places for decimals."""
    number = tidy(number)
    return bool(abs(number) < ALMOST) if number.is_Float else bool(number == 0)


def is_exact(matrix: Matrix) -> bool:
    """Whether no entry is a decimal."""
    return not matrix.has(sympy.Float)


def same(left: Matrix, right: Matrix) -> bool:
    """Whether two matrices are equal: exactly, or to 20 places for decimals."""
    return all(is_zero(entry) for entry in left - right)


def primitive(direction: Matrix) -> tuple[Matrix, Number]:
    """Scale a vector to integer coefficients without a common divisor and with a positive first entry.

    Returns
    -------
    (Matrix, Number)
        The scaled vector, and the factor c with ``direction = c * vector``. For decimals only the sign is
        changed.
    """
    first = next((x for x in direction if not is_zero(x)), sympy.Integer(1))
    sign = 1 if sympy.N(first, DIGITS) > 0 else -1
    if not is_exact(direction):
        return direction * sign, sympy.Integer(sign)
    terms = [term for x in direction if x != 0 for term in surd_terms(x).items()]
    if not terms:
        return direction, sympy.Integer(1)
    below = lcm(*(int(c.q) for _, c in terms))
    above = gcd(*(int(c * below) for _, c in terms))
    factor = sympy.Rational(sign * above, below) * sympy.sqrt(gcd(*(d for d, _ in terms)))
    return tidied(direction * inverse(factor)), factor


def decimals(matrix: Matrix) -> Matrix:
    """Return a matrix in decimals."""
    return matrix.applyfunc(lambda x: sympy.N(x, DIGITS))
