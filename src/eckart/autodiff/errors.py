"""Every exception this room raises, and the line of the user's code that it names.

    AutodiffError          the root
    ├── MissingRuleError   no derivative is known for this call (a NotImplementedError)
    ├── TracerError        a traced array went where only a plain one can go (a TypeError)
    ├── ArgumentError      an argument is of the wrong kind, shape or dtype (a TypeError)
    ├── TieError           the derivative does not exist, or not in this form, at equal values
    └── CheckError         a check of a derivative failed (an AssertionError)

A message is built from three parts: where (the call and the user's line), what, and what to type.
"""

from __future__ import annotations

import linecache
import sys
from os.path import dirname
from pathlib import Path
from types import FrameType

import numpy as np
import scipy

HERE, NUMPY, SCIPY = dirname(__file__), dirname(np.__file__), dirname(scipy.__file__)


class AutodiffError(Exception):
    """Root of every exception raised by `eckart.autodiff`.

    Parameters
    ----------
    where : str
        The call at fault, e.g. ``"np.linalg.eig"``.
    what : str
        What was expected and what was found.
    fix : str, optional
        What to type instead.
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


def user_frame() -> FrameType | None:
    """Return the innermost frame that is neither in this room nor in NumPy or SciPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((HERE, NUMPY, SCIPY)):
        frame = frame.f_back
    return frame


def in_scipy() -> bool:
    """Return whether SciPy stands between here and the user's line."""
    frame, user = sys._getframe(1), user_frame()
    while frame is not user and frame.f_back is not None:
        if frame.f_code.co_filename.startswith(SCIPY):
            return True
        frame = frame.f_back
    return False


def user_line() -> tuple[str, str]:
    """Return the place ``"file.py:12"`` and the text of the user's line that is running now."""
    frame = user_frame()
    if frame is None:
        return "", ""
    name, number = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(name).name}:{number}", linecache.getline(name, number).strip()


def at_line() -> str:
    """Return ``" at file.py:12 (the text of that line)"``, or as much of it as is known."""
    place, text = user_line()
    return (f" at {place}" + (f" ({text})" if text else "")) if place else ""
