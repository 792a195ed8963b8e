"""All exceptions of `eckart.autodiff`, and the search for the user's line that caused them.

AutodiffError          the root
├── MissingRuleError   no derivative is known for this call (a NotImplementedError)
├── TracerError        a traced array was used where only a plain one can be (a TypeError)
├── ArgumentError      an argument has the wrong kind, shape or dtype (a TypeError)
├── TieError           the derivative does not exist at this point (an ArithmeticError)
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
LIBRARIES = (dirname(__file__), dirname(np.__file__), SCIPY)  # code outside these folders belongs to the user


class AutodiffError(Exception):
    """Root of every exception raised by `eckart.autodiff`.

    Parameters
    ----------
    where : str
        The call at fault, e.g. ``"np.linalg.eig"``.
    what : str
        What was expected and what was found.
    fix : str, optional
        What to write instead.

    Examples
    --------
    >>> print(AutodiffError("float", "a traced array cannot be converted", "Leave it out"))
    `float`: a traced array cannot be converted. Leave it out.
    """

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        self.where, self.what, self.fix = where, what, fix
        super().__init__(f"`{where}`: {what}." + (f" {fix}." if fix else ""))


class MissingRuleError(AutodiffError, NotImplementedError):
    """No derivative is known, for example of ``np.linalg.qr(A, mode="complete")`` for a tall A."""


class TracerError(AutodiffError, TypeError):
    """A traced array was used where only a plain one can be, for example in ``float()``."""


class ArgumentError(AutodiffError, TypeError):
    """An argument has the wrong kind, shape or dtype, for example an integer array to differentiate."""


class TieError(AutodiffError, ArithmeticError):
    """The derivative does not exist, for example of one singular vector where singular values are equal."""


class CheckError(AutodiffError, AssertionError):
    """A derivative disagrees with the function, for example because of a sign error in a derivation."""


def user_line() -> tuple[str, str]:
    """Return the location ``"file.py:12"`` and the text of the user's line that is running now."""
    for frame, number in walk_stack(sys._getframe()):
        file = frame.f_code.co_filename
        if not file.startswith(LIBRARIES):
            return f"{basename(file)}:{number}", linecache.getline(file, number).strip()
    return "", ""


def in_scipy() -> bool:
    """Return whether the user's line has called SciPy, which in turn has called this library."""
    files = (frame.f_code.co_filename for frame, _ in walk_stack(sys._getframe()))
    return any(file.startswith(SCIPY) for file in takewhile(lambda file: file.startswith(LIBRARIES), files))


def at_line() -> str:
    """Return ``" at file.py:12 (text of the line)"``, or the part of it that is known."""
    place, text = user_line()
    if not place:
        return ""
    return f" at {place} ({text})" if text else f" at {place}"
