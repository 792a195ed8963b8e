"""One entry of a matrix from text: whole numbers, decimals, fractions and square roots. Nothing is evaluated.

sum     = product { ("+" | "-") product }
product = factor { ("*" | "/" | nothing, before a root) factor }
factor  = [sign] ( number | "sqrt" factor | "(" sum ")" )
"""

from __future__ import annotations

import re

import sympy

from eckart.errors import MatrixError
from eckart.explain.exact import Number, inverse, surd_terms, tidy

DIGITS = 6  # of an entry: more is no work for paper
LENGTH = 40  # characters of an entry
TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?|\.\d+(?:[eE][+-]?\d{1,2})?)|(sqrt|√)|([-+*/()]))"
)
CURE = "Write numbers as 3, -0.25, 1/2, sqrt(2) or 3*sqrt(2)/4"
ROUND = f"Round it to at most {DIGITS} digits, or take eckart.svd, which has no such limit"


def read_entry(text: str, where: str) -> Number:
    """Read one entry, exactly.

    Parameters
    ----------
    text : str
        What stands there.
    where : str
        The place, for the error.

    Raises
    ------
    MatrixError
        It is no real number of the kinds above, or has more than 6 digits.

    Examples
    --------
    >>> read_entry("-0.25", "entry"), read_entry("3*sqrt(2)/4", "entry")
    (-1/4, 3*sqrt(2)/4)
    """
    word = text.strip()
    if len(word) > LENGTH:
        raise MatrixError(where, f"an entry of {len(word)} characters is too long", CURE)
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise MatrixError(where, f"{word!r} is no number to calculate with", "Mend or mask it first")
    if re.fullmatch(r"[-+\d.()]*[ij]", word.replace(" ", "")) and word[-1] in "ij":
        raise MatrixError(where, f"expected a real number, got the complex {word!r}", CURE)
    value = _Reader(word, where).read()
    if any(max(abs(c.p), c.q, d) >= 10**DIGITS for d, c in surd_terms(value).items()):
        raise MatrixError(where, f"{word!r} takes more than {DIGITS} digits as a fraction", ROUND)
    return value


class _Reader:
    """Reads an entry from left to right, with one symbol of look-ahead."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.tokens: list[str] = []
        place = 0
        while place < len(text):
            found = TOKEN.match(text, place)
            if not found:
                raise self.wrong()
            self.tokens.append(found.group().strip())
            place = found.end()
        self.tokens.append("")

    def wrong(self) -> MatrixError:
        return MatrixError(self.where, f"expected a number, got {self.text!r}", CURE)

    def read(self) -> Number:
        value = self.sum()
        if self.tokens[0]:
            raise self.wrong()
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
                raise MatrixError(self.where, f"{self.text!r} has a root under a root", CURE)
            if inside < 0:
                raise MatrixError(self.where, f"{self.text!r} is not real: a root of a negative number")
            return sympy.sqrt(inside)
        if token == "(":
            value = self.sum()
            if self.tokens.pop(0) != ")":
                raise self.wrong()
            return value
        if not token or token in "*/)":
            raise self.wrong()
        return sympy.Rational(token)
