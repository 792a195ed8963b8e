"""Every exception this room raises, and the line of the user's code that it names.

AutodiffError          the root
├── MissingRuleError   no derivative is known for this call (a NotImplementedError)
├── TracerError        a traced array went where only a plain one can go (a TypeError)
├── ArgumentError      an argument is of the wrong kind, shape or dtype (a TypeError)
├── TieError           the derivative does not exist, or not in this form, at equal values
└── CheckError         a check of a derivative failed (an AssertionError)
"""

from __future__ import annotations

import linecache
import sys
from itertools import takewhile
from os.path import basename, dirname
from traceback import walk_stack

import numpy as np
import scipy

SCIPY = dirname(scipy.__file__)
OURS = (dirname(__file__), dirname(np.__file__), SCIPY)  # what is in none of them is the user's


class AutodiffError(Exception):
    """Root of every exception raised by `eckart.autodiff`.

    ``where`` is the call at fault, e.g. ``"np.linalg.eig"``; ``what`` says what was expected and what found,
    ``fix`` what to type instead.
    """

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        self.where, self.what, self.fix = where, what, fix
        super().__init__(f"`{where}`: {what}." + (f" {fix}." if fix else ""))


class MissingRuleError(AutodiffError, NotImplementedError):
    """No derivative is known. For example of ``np.linalg.qr(A, mode="complete")``, A tall."""


class TracerError(AutodiffError, TypeError):
    """A traced array went where only a plain one can go. For example into ``float()``."""


class ArgumentError(AutodiffError, TypeError):
    """An argument is of the wrong kind. For example an integer array, which has no tangent."""


class TieError(AutodiffError, ArithmeticError):
    """No derivative at equal singular values or eigenvalues. For example of one singular vector."""


class CheckError(AutodiffError, AssertionError):
    """A derivative disagrees with the function. For example a sign that was lost by hand."""


def user_line() -> tuple[str, str]:
    """Return the place ``"file.py:12"`` and the text of the user's line that is running now."""
    for frame, number in walk_stack(sys._getframe()):
        file = frame.f_code.co_filename
        if not file.startswith(OURS):
            return f"{basename(file)}:{number}", linecache.getline(file, number).strip()
    return "", ""


def in_scipy() -> bool:
    """Return whether SciPy stands between here and the user's line."""
    files = (frame.f_code.co_filename for frame, _ in walk_stack(sys._getframe()))
    return any(file.startswith(SCIPY) for file in takewhile(lambda file: file.startswith(OURS), files))


def at_line() -> str:
    """Return ``" at file.py:12 (the text of that line)"``, or as much of it as is known."""
    place, text = user_line()
    return (f" at {place}" + (f" ({text})" if text else "")) if place else ""
