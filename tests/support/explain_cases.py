"""The matrices for the tests of explanations, named after their special property."""

from __future__ import annotations

import mpmath
import sympy

CASES = {
    "textbook": "4 0; 3 5",
    "tall": "3 1; 1 3; 1 1",
    "wide": "3 2 2; 2 3 -2",
    "rank 1": "4 8 12; 2 4 6; 3 6 9; 5 10 15",
    "quadratic roots": "1 2; 3 4; 5 6",
    "golden": "1 1; 0 1",
    "repeated": "0 -1; 1 0",
    "repeated thrice": "2 0 0; 0 2 0; 0 0 2",
    "repeated and skew": "1 2 2; 2 1 -2; 2 -2 1",
    "zero": "0 0; 0 0; 0 0",
    "zero in the plane": "0 0; 0 0",
    "small": "0.01 0.02; -0.03 0.01",
    "one": "-3",
    "row": "1 2 2",
    "column": "3; 4",
    "ones": "1 1 1; 1 1 1",
    "defective": "0 1; 0 0",
    "defective 3": "2 1 0; 0 2 1; 0 0 2",
    "swaps": "0 2; 1 0; 0 0",
    "roots": "sqrt(2) 1; 0 sqrt(3)",
    "fractions": "1/2 1/3; 0.25 -1",
    "cubic": "1 2 0; 0 1 3; 4 0 1",
    "quartic": "2 1 0 3; 1 4 1 0; 0 1 5 2; 7 1 2 3",
    "hankel 5": "1 2 3 4 5; 2 3 4 5 6; 3 4 5 6 7; 4 5 6 7 8; 5 6 7 8 9",
    "noisy": "4.2 8.1 11.9; 2.1 4.0 6.1; 2.9 6.1 9.2; 5.1 10.2 15.1",
    "near to singular": "1 1; 1 1.0001",
    "roots and more": "sqrt(2) 1; 1 1",
    "roots, all kinds": "sqrt(2) sqrt(3) 1; sqrt(6) 2 0; 1 sqrt(2) sqrt(3)",
}
IN_DECIMALS = {"cubic", "quartic", "noisy", "defective 3", "roots and more", "roots, all kinds"}


def product(*factors: sympy.Matrix, digits: int = 80) -> mpmath.matrix:
    """Multiply matrices of exact numbers in decimals of 80 digits."""
    with mpmath.workdps(digits):
        result = None
        for M in factors:
            entries = [[str(sympy.N(M[i, j], digits)) for j in range(M.cols)] for i in range(M.rows)]
            factor = mpmath.matrix([[mpmath.mpf(x) for x in row] for row in entries])
            result = factor if result is None else result * factor
    return result


def is_same(left: mpmath.matrix, right: mpmath.matrix) -> bool:
    """Whether two products agree to 60 digits.

    Unequal numbers with these roots that differ by less than 10^-60 would need entries of far more digits
    than the cases have.
    """
    with mpmath.workdps(80):
        return all(abs(x) < mpmath.mpf(10) ** -60 for x in left - right)


def is_plain(M: sympy.Matrix) -> bool:
    """Whether entries have no decimals and no roots under roots, so that expanding them can prove zero."""
    powers = M.atoms(sympy.Pow)
    return not M.has(sympy.Float) and all(p.base.is_Rational for p in powers)
