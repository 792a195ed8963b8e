"""The one rule for outputs: what may be replaced, where it is written, and how it gets its name."""

from __future__ import annotations

import os
import shutil
import stat
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from eckart.checkpoint.exchange import TAKEN, rename_new, sync_folder
from eckart.checkpoint.staging import Staging, make_staging, remove_leftovers
from eckart.checkpoint.target import REPLACE, FileKind, locate, mode_of
from eckart.errors import InputError, OutputError
from eckart.oserrors import fix_for, reason_of
from eckart.paths import user_path
from eckart.unfinished import add_unfinished, forget_unfinished


class Output(ABC):
    """A context manager that writes one file or folder completely or not at all.

    Parameters
    ----------
    path : str or Path
        The output. A link is followed; the link itself stays.
    overwrite : bool
        Whether an existing output may be replaced.

    Raises
    ------
    OutputError
        On entry and on exit: if `path` holds something that may not be replaced, or cannot be written.

    Notes
    -----
    The block writes into a hidden folder with a random name next to `path`. On success the result is renamed
    to `path`; if the block raises, the hidden folder is removed. If the process is killed, the next run that
    writes `path` removes it. What is at `path` is checked before the block and again after it.
    """

    def __init__(self, path: str | Path, overwrite: bool) -> None:
        self.given, self.overwrite = user_path(path), overwrite
        self.path = locate(self.given)
        self._staging: Staging | None = None
        self._created_parents: list[Path] = []

    @abstractmethod
    def _check_target(self) -> None:
        """Raise `OutputError` if what is at the path may not be replaced."""

    @abstractmethod
    def _staged(self, staging: Path) -> Path:
        """Return the path that the block writes, in the staging folder."""

    @abstractmethod
    def _commit(self, staged: Path) -> Path | None:
        """Give the written file or folder its name; return where an old folder is now."""

    @property
    def creates_parents(self) -> bool:
        """Whether missing parent folders are created."""
        return True

    def check(self) -> None:
        """Raise the `OutputError` that entering would raise because of what is at the path.

        Call it before slow work. It writes nothing, but it removes what killed runs left next to the path,
        and it restores an output that was being replaced when its process was killed.
        """
        try:
            remove_leftovers(self.path)
            self._check_target()
            self._check_parents()
        except OSError as error:
            raise cannot_write(self.given, error) from error

    def __enter__(self) -> Path:
        self.check()
        try:
            missing = [folder for folder in self.path.parents if not folder.exists()]
            for folder in reversed(missing):
                add_unfinished(folder, only_if_empty=True)
                folder.mkdir(exist_ok=True)
                self._created_parents.insert(0, folder)
            self._staging = make_staging(self.path)
        except OSError as error:
            self._discard()
            raise cannot_write(self.given, error) from error
        return self._staged(self._staging.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._staging is not None
        staged = self._staged(self._staging.path)
        try:
            if kind is not None:
                if isinstance(error, OutputError) and str(staged) in error.where:
                    # The hidden folder no longer exists, so the message names the output that was asked for.
                    where = error.where.replace(str(staged), str(self.given))
                    raise OutputError(where, error.what, error.fix) from error
                if isinstance(error, OSError):
                    raise self._error_of_block(error) from error
                return
            self._check_target()  # again, because the block may have taken hours
            sync_folder(self._staging.path)
            old = self._commit(staged)
            sync_folder(self.path.parent)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as failure:
            if failure.errno in TAKEN:
                self._check_target()  # another process was faster: this names what it wrote
            raise cannot_write(self.given, failure) from failure
        finally:
            self._discard()

    def _error_of_block(self, error: OSError) -> InputError:
        """Return the error for a file that the block could not write, or could not read."""
        # Copying a file to a full disk names the source first, and the copy as the second file.
        is_read = error.filename is not None and error.filename2 is None
        if is_read and not str(error.filename).startswith(str(self._staging and self._staging.path)):
            return InputError(str(error.filename), f"it cannot be read ({reason_of(error)})", fix_for(error))
        return cannot_write(self.given, error)

    def _check_parents(self) -> None:
        existing = next(folder for folder in self.path.parents if os.path.lexists(folder))
        if not existing.is_dir():
            raise OutputError(str(self.given), f"{existing} is a file, not a folder", "Use another path")
        if existing != self.path.parent and not self.creates_parents:
            raise OutputError(
                str(self.given),
                "it cannot be written, because its folder does not exist",
                "Create the folder first",
            )

    def _discard(self) -> None:
        if self._staging is not None:
            self._staging.discard()
        for folder in self._created_parents:  # rmdir fails, as it should, if a parent holds the result
            with suppress(OSError):  # or if another process uses it by now
                folder.rmdir()
            forget_unfinished(folder)


class OutputFile(Output):
    """A context manager that writes one file completely or not at all.

    Parameters
    ----------
    path : str or Path
        The file to write. A link is followed; the link itself stays.
    kind : FileKind
        What is written.
    overwrite : bool
        Whether an existing file of the same kind may be replaced.
    creates_parents : bool
        Whether missing parent folders are created; otherwise they are an error.

    Raises
    ------
    OutputError
        On entry and on exit: if `path` exists and `overwrite` is not given; if it is a folder, a device, a
        pipe or a socket; if it is a file of another kind; or if it cannot be written.

    Examples
    --------
    >>> with OutputFile("plan.json", PLAN) as staged:  # doctest: +SKIP
    ...     write_json(staged, plan.to_json())
    """

    def __init__(
        self, path: str | Path, kind: FileKind, overwrite: bool = False, *, creates_parents: bool = False
    ) -> None:
        super().__init__(path, overwrite)
        self.kind, self._creates_parents = kind, creates_parents

    @property
    def creates_parents(self) -> bool:
        """Whether missing parent folders are created."""
        return self._creates_parents

    def _check_target(self) -> None:
        mode = mode_of(self.given, "a file")
        if mode is None:
            return
        if stat.S_ISDIR(mode):
            raise OutputError(str(self.given), "expected a file, found a folder", "Use the path of a file")
        if not self.overwrite:
            raise OutputError(str(self.given), "this file exists already", REPLACE)
        is_empty = os.path.getsize(self.path) == 0
        if not is_empty and not self.kind.holds(self.path):
            raise OutputError(
                str(self.given),
                f"this file is not {self.kind.title}, so it will not be overwritten",
                "Use another path, or remove the file yourself",
            )

    def _staged(self, staging: Path) -> Path:
        return staging / self.path.name

    def _commit(self, staged: Path) -> Path | None:
        if self.overwrite:
            os.replace(staged, self.path)
        else:
            rename_new(staged, self.path)
        return None


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error for a file or folder that the operating system could not write.

    Parameters
    ----------
    path : Path
        The file or folder.
    error : OSError
        The error of the operating system.

    Returns
    -------
    OutputError
        The error, to be raised by the caller.
    """
    return OutputError(
        str(path),
        f"it cannot be written ({reason_of(error)})",
        fix_for(error, "Check the free space and the permissions of the folder, or use another path"),
    )
