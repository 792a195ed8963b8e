"""The unfinished files and folders of this process, which a program that must end at once removes.

They are normally removed by the block that created them. A block cannot do so if a signal arrives between two
of its statements, or if the main thread is inside a call of LAPACK, which no signal can interrupt.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_paths: dict[Path, bool] = {}  # in the order in which they were added; the value is `only_if_empty`


def add_unfinished(path: Path, *, only_if_empty: bool = False) -> None:
    """Register a file or folder that must not stay behind; call this before it is created.

    Parameters
    ----------
    path : Path
        A path that only this process uses, unless it is removed only if it is empty.
    only_if_empty : bool
        Whether it is a folder that others may use too, such as the parent of an output.
    """
    _paths[path] = only_if_empty


def forget_unfinished(path: Path) -> None:
    """Forget a path that was renamed or removed.

    Parameters
    ----------
    path : Path
        The path. It need not be registered.
    """
    _paths.pop(path, None)


def remove_unfinished() -> None:
    """Remove everything that is registered. Errors are ignored, because the process is about to end."""
    for path, only_if_empty in reversed(list(_paths.items())):
        with suppress(OSError):
            if only_if_empty:
                path.rmdir()
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a temporary folder, and remove it when the block ends.

    Yields
    ------
    Path
        The folder, which is empty.
    """
    with tempfile.TemporaryDirectory(prefix="eckart-", ignore_cleanup_errors=True) as name:
        path = Path(os.path.realpath(name))
        add_unfinished(path)
        try:
            yield path
        finally:
            forget_unfinished(path)
