"""Staging: hidden folders in which outputs are written, and the removal of those that dead runs left."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.exchange import hidden_path, hidden_stem
from eckart.checkpoint.holding import LOCK_SUFFIX, LOCKED_BY_NAME, Release, hold
from eckart.unfinished import add_unfinished, forget_unfinished

ATTEMPTS = 100
# ".NAME.tmp-0123456789abcdef"; earlier versions used the process id, ".NAME.tmp-1234".
_STATE = re.compile(r"\.(?P<state>tmp|old)-(?:[0-9a-f]{16}|(?P<process>\d{1,10}))")


@dataclass(frozen=True)
class Staging:
    """A hidden folder next to an output, in which the output is written.

    Parameters
    ----------
    path : Path
        The folder. Its name is random.
    release : callable
        Drops the lock of the folder.
    """

    path: Path
    release: Release

    def discard(self) -> None:
        """Remove the folder with everything in it, if it still exists, and drop its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        forget_unfinished(self.path)
        self.release()


def make_staging(target: Path) -> Staging:
    """Create a staging folder for an output.

    Parameters
    ----------
    target : Path
        The output. The staging folder is created next to it.

    Returns
    -------
    Staging
        An empty folder that this process holds.

    Raises
    ------
    OSError
        If the folder cannot be created.

    Notes
    -----
    The name is random and ``mkdir`` follows no link, so nothing that another user prepared is written to.
    """
    for _ in range(ATTEMPTS):
        path = hidden_path(target, "tmp")
        add_unfinished(path)
        release = hold(path) if LOCKED_BY_NAME else None  # first, because an unlocked folder counts as left
        try:
            path.mkdir()
        except FileExistsError:  # something was put there
            forget_unfinished(path)
            if release is not None:
                release()
            continue
        if not LOCKED_BY_NAME:
            try:
                release = hold(path)
            except FileNotFoundError:  # another run took the unlocked folder for left behind, and removed it
                pass
            except OSError:  # the file system has no locks; then nothing there is ever taken for left behind
                release = _nothing
        if release is not None:
            return Staging(path, release)
        forget_unfinished(path)
    raise FileExistsError(f"no free hidden name next to {target}")


def remove_leftovers(target: Path) -> None:
    """Remove what dead runs left next to an output, and restore the output if it was being replaced.

    Parameters
    ----------
    target : Path
        The output that is about to be written.

    Notes
    -----
    Only files and folders with the hidden names of this output, owned by this user, are touched; links are
    not, nor what a running process or thread holds. If `target` does not exist and a replaced version of it
    does, that version is moved back: its process was killed between two renames.
    """
    stem = hidden_stem(target.name)
    try:
        names = {
            name.removesuffix(LOCK_SUFFIX) for name in os.listdir(target.parent) if name.startswith(stem)
        }
    except OSError:
        return
    for name in sorted(names):
        match = _STATE.fullmatch(name, len(stem))
        if match is None or (match["process"] and _is_running(int(match["process"]))):
            continue
        with suppress(OSError):  # another run removes it at this moment, or the file system has no locks
            _settle(target.with_name(name), target, match["state"])


def _settle(leftover: Path, target: Path, state: str) -> None:
    """Remove one leftover, or move it back to the target, unless its writer is alive."""
    if os.path.lexists(leftover) and not _is_own(leftover):
        return
    release = hold(leftover)
    if release is None:
        return
    try:
        if state == "old" and not os.path.lexists(target):
            os.rename(leftover, target)
        elif leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink()
    finally:
        release()


def _is_own(path: Path) -> bool:
    """Whether a path is a regular file or a folder, not a link, and belongs to this user."""
    status = path.stat(follow_symlinks=False)
    is_plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return is_plain and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def _is_running(process: int) -> bool:
    """Whether another process with this id exists; only earlier versions wrote ids."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":
        return False  # os.kill would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _nothing() -> None:
    """Release nothing."""
