"""Errors of the operating system: the words of the system, and how to fix each."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eckart.errors import InputError

_SPACE = "Free some space, or use another path"
_PERMISSIONS = "Check the permissions of the file and of its folders"
_FIXES = {
    "ENOENT": "Check the path",
    "ENOTDIR": "Check the path: a part of it is a file, not a folder",
    "EISDIR": "Use the path of a file",
    "EACCES": _PERMISSIONS,
    "EPERM": _PERMISSIONS,
    "ELOOP": "Remove the link that leads to itself, or use another path",
    "ENAMETOOLONG": "Use a shorter name",
    "ENOSPC": _SPACE,
    "EDQUOT": _SPACE,
    "EFBIG": "Check the free space of the disk, and the limit of ulimit -f",
    "EROFS": "Use a path on a disk that can be written",
    "EIO": "Check the disk, and read the log of the system",
    "ESTALE": "Check the mount of the network disk, and run the command again",
    "EMFILE": "Raise the limit of ulimit -n",
    "ENFILE": "Close other programs",
    "ENOMEM": "Use fewer workers, or close other programs",
}
_BY_NUMBER = {getattr(errno, name): fix for name, fix in _FIXES.items() if hasattr(errno, name)}


def reason_of(error: OSError) -> str:
    """Return what happened, in the words of the system.

    Parameters
    ----------
    error : OSError
        The error.

    Examples
    --------
    >>> reason_of(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device'
    """
    return str(error.strerror or error) or type(error).__name__


def fix_for(error: OSError, otherwise: str = "Check the path and the disk") -> str:
    """Return how to fix an error.

    Parameters
    ----------
    error : OSError
        The error.
    otherwise : str
        The fix for an error that is not listed.

    Examples
    --------
    >>> fix_for(OSError(errno.ENOSPC, "No space left on device"))
    'Free some space, or use another path'
    """
    return _BY_NUMBER.get(error.errno or 0, otherwise)


@contextmanager
def reading(path: str | Path, error: type[InputError]) -> Iterator[None]:
    """Turn every error of the system in a block that reads into one of Eckart.

    Parameters
    ----------
    path : str or Path
        What is read. The message names it, or the file in it that cannot be read.
    error : type
        Class of the exception.

    Raises
    ------
    InputError
        An `error`, instead of an OSError.
    """
    try:
        yield
    except OSError as reason:
        where = str(path if reason.filename is None else reason.filename)
        raise error(where, f"it cannot be read ({reason_of(reason)})", fix_for(reason)) from reason
