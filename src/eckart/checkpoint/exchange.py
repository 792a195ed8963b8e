"""Give a new file or folder the name of an old one in one step, where the system has such a step."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from eckart.checkpoint.holding import hold

# From linux/fs.h and macOS's sys/stdio.h.
_LINUX_NOREPLACE, _LINUX_EXCHANGE, _AT_FDCWD = 1, 2, -100
_MACOS_SWAP, _MACOS_EXCL = 2, 4
# What a system or a file system without the call answers. Linux also answers EINVAL for a folder that would
# move into itself, which the plain rename then refuses with the same error.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}
TAKEN = {errno.EEXIST, errno.ENOTEMPTY}  # errors of renaming to a name that is taken
_two_renames = Lock()


def hidden_path(target: Path, state: str) -> Path:
    """Return a random hidden path next to a target, for example ``.adapter.tmp-0123456789abcdef``.

    Parameters
    ----------
    target : Path
        A file or folder.
    state : {"tmp", "old"}
        What will be at the path: a new output that is not complete, or the old one that is being replaced.
    """
    return target.with_name(f"{hidden_stem(target.name)}.{state}-{secrets.token_hex(8)}")


def hidden_stem(name: str) -> str:
    """Return the start of the hidden names that belong to a file name.

    Parameters
    ----------
    name : str
        Name of a file or folder. A very long one is cut, because most systems limit names to 255 bytes.
    """
    encoded = os.fsencode(name)
    if len(encoded) > 200:
        name = f"{encoded[:160].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:16]}"
    return f".{name}"


def exchange(new: Path, target: Path) -> Path | None:
    """Give a new file or folder the name of an old one, and keep the old one.

    Parameters
    ----------
    new : Path
        A complete file or folder in the same folder as `target`. It is at `target` afterwards.
    target : Path
        The name. Something of the same type may be there, or nothing.

    Returns
    -------
    Path or None
        Where the old file or folder is now: at `new`, or at a hidden path. The caller removes it. None if
        nothing was at `target`.

    Raises
    ------
    OSError
        If the system refuses. Then the old one is still at `target`, and the new one at `new`.

    Notes
    -----
    On Linux and macOS this is one system call, and a reader finds the old or the new one at any time. Where
    the file system lacks the call, and on Windows, the old one is renamed to ``.NAME.old-RANDOM`` first. A
    process that is killed at this moment leaves nothing at `target`;
    `eckart.checkpoint.staging.remove_leftovers` moves the old one back.
    """
    while True:
        try:
            if not os.path.lexists(target):
                with _two_renames:  # the name is also free between the two renames of another thread
                    rename_new(new, target)
                return None
            _swap(new, target)
            return new
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                with _two_renames:
                    old = _rename_twice(new, target)
                if old is not None:
                    return old
                continue
            is_overtaken = error.errno in TAKEN or (error.errno == errno.ENOENT and os.path.lexists(new))
            if not is_overtaken or not target.parent.is_dir():
                raise


def rename_new(new: Path, target: Path) -> None:
    """Rename a file or folder to a name that must be free.

    Parameters
    ----------
    new : Path
        The file or folder.
    target : Path
        Its new name. An empty folder may be there if `new` is a folder.

    Raises
    ------
    OSError
        If the name is taken, or the system refuses.
    """
    if new.is_dir():
        # This refuses a folder that is not empty, and replaces an empty one, except on Windows.
        if sys.platform == "win32":
            with suppress(FileNotFoundError):
                target.rmdir()
        os.rename(new, target)
        return
    try:
        _rename_exclusively(new, target)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(new, target)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder have reached the disk, where the system can do this.

    Parameters
    ----------
    folder : Path
        A folder in which something was renamed.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some network file systems refuse it; the rename itself is done
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(new: Path, target: Path) -> None:
    if sys.platform == "linux":
        _call("renameat2", new, target, _LINUX_EXCHANGE)
    elif sys.platform == "darwin":
        _call("renamex_np", new, target, _MACOS_SWAP)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))


def _rename_exclusively(new: Path, target: Path) -> None:
    if sys.platform == "linux":
        _call("renameat2", new, target, _LINUX_NOREPLACE)
    elif sys.platform == "darwin":
        _call("renamex_np", new, target, _MACOS_EXCL)
    else:
        os.rename(new, target)  # Windows refuses a name that is taken


def _call(name: str, new: Path, target: Path, flags: int) -> None:
    """Call one of the two system functions; raise OSError if it fails or does not exist."""
    function = _function(name)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    paths = [os.fsencode(new), os.fsencode(target)]
    if name == "renameat2":
        result = function(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags)
    else:
        result = function(*paths, flags)
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(new), None, str(target))


@cache
def _function(name: str) -> Any:
    """Return a function of the C library; None where it does not exist."""
    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, name, None)
    if function is not None:
        path = ctypes.c_char_p
        at = ctypes.c_int
        function.argtypes = [at, path, at, path, ctypes.c_uint] if name == "renameat2" else [path, path, at]
    return function


def _rename_twice(new: Path, target: Path) -> Path | None:
    """Replace in two steps, and hold the old one's lock between them, so that no other run restores it.

    Return where the old one is; None if another run was between its own two steps and nothing was replaced.
    """
    aside = hidden_path(target, "old")
    release = None
    try:
        while release is None:  # None: another run has replaced the target meanwhile
            release = hold(target, aside, wait=True)
    except FileNotFoundError:
        return None  # another run is between its two renames, or the target is gone
    except OSError:
        pass  # without locks, no run restores anything either
    try:
        try:
            os.rename(target, aside)
        except FileNotFoundError:
            if not os.path.lexists(new) or not target.parent.is_dir():
                raise
            return None
        try:
            os.rename(new, target)
        except OSError as error:
            if error.errno in TAKEN:  # another run wrote there; what is aside is older than its output
                os.rename(aside, hidden_path(target, "tmp"))
                return None
            os.rename(aside, target)
            raise
        rest = hidden_path(target, "tmp")
        os.rename(aside, rest)  # from here on it is never restored, not even in part
    finally:
        if release is not None:
            release()
    return rest
