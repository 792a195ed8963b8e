"""Parsing of one matrix entry: integers, decimals, fractions and square roots. No text is evaluated as code.

sum     = product { ("+" | "-") product }
product = factor { ("*" | "/" | nothing, before a root) factor }
factor  = [sign] ( number | "sqrt" factor | "(" sum ")" )
"""

from __future__ import annotations

import re

import sympy

from eckart.errors import MatrixError
from eckart.explain.exact import Number, inverse, surd_terms, tidy

DIGITS = 6  # limit for an entry: longer numbers cannot be followed on paper
LENGTH = 40  # limit for the characters of an entry
TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?|\.\d+(?:[eE][+-]?\d{1,2})?)|(sqrt|√)|([-+*/()]))"
)
FIX = "Use numbers such as 3, -0.25, 1/2, sqrt(2) or 3*sqrt(2)/4"
ROUND = f"Round it to at most {DIGITS} digits, or use eckart.svd, which has no such limit"


def read_entry(text: str, where: str) -> Number:
    """Read one entry exactly.

    Parameters
    ----------
    text : str
        The entry.
    where : str
        The place of the entry, for the error message.

    Raises
    ------
    MatrixError
        The text is not a real number of the kinds above, or has more than 6 digits.

    Examples
    --------
    >>> read_entry("-0.25", "entry"), read_entry("3*sqrt(2)/4", "entry")
    (-1/4, 3*sqrt(2)/4)
    """
    word = text.strip()
    if len(word) > LENGTH:
        raise MatrixError(where, f"expected at most {LENGTH} characters, got {len(word)}", FIX)
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise MatrixError(where, f"expected a finite number, got {word!r}", "Replace it with a number")
    if re.fullmatch(r"[-+\d.()]*[ij]", word.replace(" ", "")) and word[-1] in "ij":
        raise MatrixError(where, f"expected a real number, got the complex number {word!r}", FIX)
    value = _Reader(word, where).read()
    if any(max(abs(c.p), c.q, d) >= 10**DIGITS for d, c in surd_terms(value).items()):
        raise MatrixError(where, f"{word!r} needs more than {DIGITS} digits as a fraction", ROUND)
    return value


class _Reader:
    """A recursive-descent parser with one token of look-ahead."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.tokens: list[str] = []
        place = 0
        while place < len(text):
            match = TOKEN.match(text, place)
            if not match:
                raise self.not_a_number()
            self.tokens.append(match.group().strip())
            place = match.end()
        self.tokens.append("")

    def not_a_number(self) -> MatrixError:
        return MatrixError(self.where, f"expected a number, got {self.text!r}", FIX)

    def read(self) -> Number:
        value = self.sum()
        if self.tokens[0]:
            raise self.not_a_number()
        return value

    def sum(self) -> Number:
        value = self.product()
        while self.tokens[0] in ("+", "-"):
            sign = 1 if self.tokens.pop(0) == "+" else -1
            value = tidy(value + sign * self.product())
        return value

    def product(self) -> Number:
        value = self.factor()
        while self.tokens[0] in ("*", "/", "sqrt", "√"):
            divides = self.tokens[0] == "/"
            if self.tokens[0] in "*/":
                self.tokens.pop(0)
            other = self.factor()
            if divides and other == 0:
                raise MatrixError(self.where, f"{self.text!r} divides by zero")
            value = tidy(value * (inverse(other) if divides else other))
        return value

    def factor(self) -> Number:
        token = self.tokens.pop(0)
        if token in ("+", "-"):
            return self.factor() * (1 if token == "+" else -1)
        if token in ("sqrt", "√"):
            inside = self.factor()
            if not inside.is_Rational:
                raise MatrixError(self.where, f"{self.text!r} has a root under a root", FIX)
            if inside < 0:
                raise MatrixError(
                    self.where, f"{self.text!r} is not real: it has a root of a negative number"
                )
            return sympy.sqrt(inside)
        if token == "(":
            value = self.sum()
            if self.tokens.pop(0) != ")":
                raise self.not_a_number()
            return value
        if not token or token in "*/)":
            raise self.not_a_number()
        return sympy.Rational(token)
