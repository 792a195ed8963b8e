"""Checks of single arguments: finite numbers, and whole numbers within bounds."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import TypeGuard

import numpy as np

from eckart.arguments import argument
from eckart.errors import UsageError

LARGEST = sys.float_info.max


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number that float64 can hold, and not a bool, NaN or infinity.

    Parameters
    ----------
    value : object

    Returns
    -------
    bool

    Examples
    --------
    >>> is_number(2), is_number(0.5), is_number(float("nan")), is_number(True), is_number("2")
    (True, True, False, False, False)
    """
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, (int, np.integer)):
        return abs(int(value)) <= LARGEST
    return isinstance(value, (float, np.floating)) and bool(np.isfinite(value))


def is_whole_number(value: object, least: int = 0, most: int | None = None) -> TypeGuard[int]:
    """Whether a value is an integer, Python's or NumPy's, from ``least`` to ``most``, and not a bool.

    Parameters
    ----------
    value : object
    least : int
        Smallest integer that is accepted.
    most : int, optional
        Largest integer that is accepted; unbounded by default.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_whole_number(2), is_whole_number(2.0), is_whole_number(True), is_whole_number(0, least=1)
    (True, False, False, False)
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        return False
    return int(value) >= least and (most is None or int(value) <= most)


def check_whole_number(value: object, where: str, least: int = 0, most: int | None = None) -> int:
    """Return an integer that an argument must be, as a Python int, or refuse it.

    Parameters
    ----------
    value : object
        What the caller passed.
    where : str
        The argument as the message shows it, for example ``"seed=-1"``.
    least : int
        Smallest integer that is accepted.
    most : int, optional
        Largest integer that is accepted; unbounded by default.

    Returns
    -------
    int

    Raises
    ------
    UsageError
        If the value is not an integer, is a bool, or is out of range.

    Examples
    --------
    >>> check_whole_number(np.int64(3), "rank=3", least=1)
    3
    """
    if is_whole_number(value, least, most):
        return int(value)
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise UsageError(where, f"expected a whole number {bounds}")


def check_choice(value: object, keyword: str, choices: Iterable[str]) -> str:
    """Return the alternative that an argument names, in upper or lower case, or refuse it.

    Parameters
    ----------
    value : object
        What the caller passed.
    keyword : str
        The argument's name, for example ``"format"``.
    choices : iterable of str
        The alternatives.

    Returns
    -------
    str
        One of `choices`.

    Raises
    ------
    UsageError
        If the value is none of them. The message suggests a similar one.

    Examples
    --------
    >>> check_choice("PEFT", "format", ["peft", "kohya"])
    'peft'
    """
    by_name = {choice.lower(): choice for choice in choices}
    plain = str(value).strip().lower()
    if isinstance(value, str) and plain in by_name:
        return by_name[plain]
    close = difflib.get_close_matches(plain, by_name, n=1)
    fix = f"Use {argument(keyword, by_name[close[0]])}" if close else ""
    raise UsageError(argument(keyword, value), f"expected one of {', '.join(by_name.values())}", fix)
