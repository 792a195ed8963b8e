"""What is at the path of an output, and whether it may be replaced."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eckart.arguments import argument
from eckart.errors import EckartError, OutputError

REPLACE = f"Use another path, or pass {argument('overwrite', True)} to replace it"
STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_TYPES = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True)
class FileKind:
    """A kind of output file. A file is only replaced by one of the same kind.

    Parameters
    ----------
    title : str
        The kind with its article, for messages, e.g. ``"a plan"``.
    matches : callable
        Whether an existing regular file is of this kind; it may raise OSError or an `EckartError` instead of
        returning False.
    """

    title: str
    matches: Callable[[Path], bool]

    def holds(self, path: Path) -> bool:
        """Whether an existing regular file is of this kind."""
        try:
            return self.matches(path)
        except (EckartError, ValueError):
            return False


def is_stdout(path: str | Path) -> bool:
    """Whether the path of an output stands for the standard output, as ``-`` does.

    Parameters
    ----------
    path : str or Path
        The path, as it was given.
    """
    return str(path) in STDOUT


def mode_of(given: Path, expected: str) -> int | None:
    """Return the mode of what is at an output's path; None if nothing is there.

    Parameters
    ----------
    given : Path
        The output. A link is followed.
    expected : {"a file", "a folder"}
        What is written, for the message.

    Raises
    ------
    OutputError
        If it is a device, a pipe or a socket.
    """
    try:
        mode = os.stat(given).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    special = _TYPES.get(stat.S_IFMT(mode))
    if special is not None:
        raise OutputError(str(given), f"expected {expected}, found {special}", f"Use the path of {expected}")
    return mode


def locate(given: Path) -> Path:
    """Return the path of an output without links.

    Parameters
    ----------
    given : Path
        The path of the output. Nothing need be there.

    Returns
    -------
    Path
        An absolute path.

    Raises
    ------
    OutputError
        If it stands for the standard output, or is a link that leads nowhere.
    """
    if is_stdout(given):
        raise OutputError(
            str(given),
            "this output cannot be written to the standard output",
            "Use the path of a file or folder",
        )
    try:
        if given.is_symlink():
            os.path.realpath(given, strict=True)
    except OSError as error:
        raise OutputError(
            str(given),
            f"this link leads nowhere ({error.strerror})",
            "Remove the link, or use another path",
        ) from None
    return Path(os.path.realpath(given))
