"""Hold: the lock of one hidden file or folder, by which other runs see that its writer is alive.

The system drops the lock when the process ends, however it ends. On Unix the lock is on the file or folder
itself and follows it through renames. Windows cannot lock a folder, so a file ``NAME.lock`` is locked there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOCKED_BY_NAME = sys.platform == "win32"
LOCK_SUFFIX = ".lock"

Release = Callable[[], None]


def hold(path: Path, name: Path | None = None, *, wait: bool = False) -> Release | None:
    """Take the lock of a file or folder.

    Parameters
    ----------
    path : Path
        The file or folder. A link is refused.
    name : Path, optional
        The hidden path that it has or is about to get; `path` by default.
    wait : bool
        Whether to wait for a process that holds the lock.

    Returns
    -------
    callable or None
        A function without arguments that drops the lock. None if another process or thread holds it.

    Raises
    ------
    OSError
        If `path` cannot be opened, or the file system has no locks.
    """
    if LOCKED_BY_NAME:
        return _hold_name(name or path, wait)
    return _hold_inode(path, wait)


def _hold_inode(path: Path, wait: bool) -> Release | None:
    import fcntl

    # O_NONBLOCK: opening a pipe would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False)):
            return lambda: os.close(descriptor)
        os.close(descriptor)
    except (BlockingIOError, FileNotFoundError):  # held; or removed by the one who held it
        os.close(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return None


def _hold_name(name: Path, wait: bool) -> Release | None:
    from filelock import FileLock, Timeout

    file = name.with_name(name.name + LOCK_SUFFIX)
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        return None

    def release() -> None:
        lock.release()
        with suppress(OSError):  # another run may hold it by now, to remove what is left
            file.unlink()

    return release
