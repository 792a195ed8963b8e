"""Patterns: the regular expressions of other people's configurations, matched in bounded time.

PEFT matches them with Python's ``re``, which can take exponential time. Here a key that stands for a list of
names becomes entries of a table, and RE2 matches every other key in linear time. What RE2 does not support
is refused.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from eckart.errors import AdapterError
from eckart.text import clip

MAX_TEXT = 5_000_000  # characters of all keys of a pattern; a key for each of 20,000 modules has 1,200,000
MAX_NAMES = 50_000  # names that a key stands for
MAX_WORK = 30_000_000  # characters written to list them, for all keys together
MAX_GROUPS = 10  # within each other, in such a key
MAX_EXPRESSIONS = 1000  # keys that are not lists of names
MAX_EXPRESSION_TEXT = 50_000  # characters of these keys; Python's re compiles as many in 0.6 s
MAX_PROGRAM = 100_000  # RE2's instructions for them; a match against so many takes a second at worst
MAX_SECONDS = 1.0  # of matching; ten thousand modules and twenty ordinary expressions take half

_RUN = re.compile(r"(?:[^\\^$*+?{}\[\]|()]|\\[^\w\s])+")  # no character of it has another meaning in a key
_UNLIKE_PYTHON = re.compile(r"\{,|\[:")  # {,3} is plain text in RE2, [[:alpha:]] a class
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class _Matcher(Protocol):
    """What is used of RE2's compiled expressions."""

    programsize: int

    def fullmatch(self, text: str) -> object: ...


@dataclass(frozen=True)
class _Expression:
    place: int
    matcher: _Matcher
    value: object


class Pattern:
    """PEFT's ``rank_pattern`` or ``alpha_pattern``.

    Parameters
    ----------
    pattern : mapping of str to object
        Values by regular expression.
    default : object
        The value of a module that no key matches.
    where : str
        File and name of the pattern, for messages.

    Raises
    ------
    AdapterError
        If a key is not a regular expression that PEFT accepts, if RE2 does not support it, or if there are
        more or larger keys than the limits of this module.

    Notes
    -----
    PEFT tries ``re.match(rf"(.*\\.)?({key})$", name)`` for every key and takes the first that matches. A key
    of plain characters, groups and alternatives, such as ``h\\.(?:0|1)\\.q``, stands for a list of names,
    which are looked up by the endings of a module's name. A dot in such a key stands for a dot.
    """

    def __init__(self, pattern: Mapping[str, object], default: object, where: str) -> None:
        self.default, self.where = default, where
        self._endings: dict[str, tuple[int, object]] = {}
        self._whole: dict[str, tuple[int, object]] = {}  # of keys that begin with ^
        self._expressions: list[_Expression] = []
        self._program = self._text = 0
        self._seconds = 0.0
        size = sum(map(len, pattern))
        if size > MAX_TEXT:
            raise self._refusal(f"its keys have {size:,} characters, but the limit is {MAX_TEXT:,}")
        expander = _Expander(MAX_NAMES, MAX_WORK)
        for place, (key, value) in enumerate(pattern.items()):
            table = self._whole if key.startswith("^") else self._endings
            names = expander.names_of(key)
            if names is None:
                self._add_expression(place, key, value)
            else:
                for name in names:
                    table.setdefault(name, (place, value))

    def __getitem__(self, name: str) -> object:
        """Return the value of the first key that matches a module's name, or the default."""
        starts = [0] + [i + 1 for i, letter in enumerate(name) if letter == "."]
        listed = [self._endings[name[i:]] for i in starts if name[i:] in self._endings]
        if name in self._whole:
            listed.append(self._whole[name])
        place, value = min(listed, key=lambda match: match[0], default=(None, self.default))
        start = time.perf_counter()
        for expression in self._expressions:
            if place is not None and expression.place > place:
                break
            if self._matches(expression, name):
                value = expression.value
                break
        self._seconds += time.perf_counter() - start
        if self._seconds > MAX_SECONDS:
            raise self._refusal(f"matching its keys takes too long: the limit is {MAX_SECONDS:g} s")
        return value

    def _matches(self, expression: _Expression, name: str) -> bool:
        if not (name.isascii() and name.isprintable()):  # RE2's \\w, \\d and $ differ from Python's there
            raise self._refusal(
                f"its expressions cannot be compared with the module name {clip(name, 60)}, "
                "which is not printable ASCII"
            )
        return expression.matcher.fullmatch(name) is not None

    def _add_expression(self, place: int, key: str, value: object) -> None:
        import re2  # 10 ms

        if len(self._expressions) == MAX_EXPRESSIONS:
            raise self._refusal(f"it has more than {MAX_EXPRESSIONS:,} keys that are regular expressions")
        shown = f'the key "{clip(key, 60)}"'
        self._text += len(key)
        if self._text > MAX_EXPRESSION_TEXT:
            raise self._refusal(f"its regular expressions are too long, from {shown} on")
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        defect = _python_refuses(key)
        if defect:
            raise self._refusal(f"{shown} is not a regular expression that PEFT accepts: {defect}")
        if _UNLIKE_PYTHON.search(key):
            raise self._refusal(f"{shown} means one thing in Python's regular expressions, another in RE2's")
        try:
            re2.compile(key, options)  # fails for one that is valid only in the next line, such as a)|(b
            matcher = re2.compile(rf"(?:.*\.)?(?:{key})", options)
        except re2.error as reason:
            text = reason.args[0]
            detail = clip(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text), 60)
            raise self._refusal(
                f"{shown} needs more than RE2's regular expressions, which take linear time: {detail}"
            ) from None
        self._program += matcher.programsize
        if self._program > MAX_PROGRAM:
            raise self._refusal(f"its regular expressions are too large, from {shown} on")
        self._expressions.append(_Expression(place, matcher, value))

    def _refusal(self, what: str) -> AdapterError:
        fix = "Use keys that are names of modules, or ends of names, such as q_proj"
        return AdapterError(self.where, what, fix)


def _python_refuses(key: str) -> str:
    """Return why PEFT could not compile a key; empty if it could."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # An expression that is valid alone can be invalid here, for example one that starts with (?i).
            re.compile(rf"(.*\.)?({key})$")
    except re.error as reason:
        return clip(reason.msg, 80)
    except (OverflowError, RecursionError) as reason:
        return clip(str(reason), 80)
    return ""


class _Expander:
    """Lists the names that keys of plain characters, groups and alternatives stand for.

    Parameters
    ----------
    most : int
        The largest number of names of one key.
    work : int
        The largest number of characters to write, for all keys together.
    """

    def __init__(self, most: int, work: int) -> None:
        self.most, self.work = most, work

    def names_of(self, key: str) -> list[str] | None:
        """Return the names that a key stands for; None for a key of another form, or beyond the limits.

        Parameters
        ----------
        key : str
            A key of a pattern. A ``^`` at its start is skipped.
        """
        start = 1 if key.startswith("^") else 0
        try:
            names, end = self._alternatives(key, start, 0)
        except _OtherForm:
            return None
        return names if end == len(key) else None

    def _alternatives(self, key: str, start: int, depth: int) -> tuple[list[str], int]:
        """Return the names for the alternatives that begin at ``start``, and where they end."""
        done: list[str] = []
        names, i = [""], start
        while i < len(key) and key[i] != ")":
            run = _RUN.match(key, i)
            if run is not None:
                names, i = self._joined(names, [_ESCAPED.sub(r"\1", run[0])]), run.end()
            elif key[i] == "|" and (depth or key[0] != "^"):  # in ^a|b, the ^ belongs to a alone
                done += names
                names, i = [""], i + 1
            elif key.startswith("(?:", i) and depth < MAX_GROUPS:
                inner, i = self._alternatives(key, i + 3, depth + 1)
                if not key.startswith(")", i):
                    raise _OtherForm
                names, i = self._joined(names, inner), i + 1
            else:
                raise _OtherForm
        return done + names, i

    def _joined(self, names: list[str], endings: list[str]) -> list[str]:
        if len(names) * len(endings) > self.most:
            raise _OtherForm
        joined = [name + ending for name in names for ending in endings]
        self.work -= sum(map(len, joined))
        if self.work < 0:
            raise _OtherForm
        return joined


class _OtherForm(Exception):
    """A key that does not stand for a list of names."""
