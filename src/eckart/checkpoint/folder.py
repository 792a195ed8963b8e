"""Write a folder of files atomically: readers see either all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from eckart.arguments import argument
from eckart.checkpoint.write import cannot_write
from eckart.errors import OutputError, UsageError


class OutputFolder:
    """A context manager that writes a folder completely or not at all.

    Parameters
    ----------
    path : str or Path
        The folder to write. Missing parent folders are created.
    overwrite : bool
        Whether an existing folder that is not empty may be replaced.
    marker : str
        Name of a file that an existing folder must hold to be replaced, for example
        ``"adapter_config.json"``. Required with `overwrite`: it keeps a mistyped path from wiping a home
        directory.

    Raises
    ------
    OutputError
        On entry, if `path` is a file, or a folder that is not empty and may not be replaced. On entry and on
        exit, if the folder cannot be written.
    UsageError
        If `overwrite` is given without `marker`.

    Notes
    -----
    The block writes into a hidden staging folder next to `path`. On success the staging folder is renamed to
    `path`; if the block raises, it is removed. Replacing an existing folder takes two renames, and between
    them neither folder is at `path`; if the second rename fails, the old folder is moved back.

    Examples
    --------
    >>> with OutputFolder("adapter") as staging:  # doctest: +SKIP
    ...     write_json(staging / "adapter_config.json", {"r": 8})
    """

    def __init__(self, path: str | Path, overwrite: bool = False, *, marker: str = "") -> None:
        if overwrite and not marker:
            raise UsageError(
                "OutputFolder",
                "overwrite=True needs a marker",
                'Pass the name of a file that the old folder must hold, for example marker="plan.json"',
            )
        self.path = Path(os.path.realpath(path))
        if not self.path.name:
            raise OutputError(str(path), "the root folder cannot be replaced", "Use another path")
        self.overwrite, self.marker = overwrite, marker
        self._staging = self.path.with_name(f".{self.path.name}.tmp-{os.getpid()}")
        self._aside = self.path.with_name(f".{self.path.name}.old-{os.getpid()}")
        self._created_parents: list[Path] = []

    def __enter__(self) -> Path:
        try:
            self._check_target()
            missing = [folder for folder in self.path.parents if not folder.exists()]
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                self._created_parents.insert(0, folder)
            if self._staging.exists():  # left by a killed process that had the same process id
                shutil.rmtree(self._staging)
            self._staging.mkdir()
        except OSError as error:
            self._discard()
            raise cannot_write(self.path, error) from error
        return self._staging

    def check(self) -> None:
        """Raise the `OutputError` that entering would raise because of what is at `path`, without writing.

        Call it before slow work whose result goes into the folder.
        """
        self._check_target()
        existing = next(folder for folder in self.path.parents if os.path.lexists(folder))
        if not existing.is_dir():
            raise OutputError(str(self.path), f"{existing} is a file, not a folder", "Use another path")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            hidden = str(self._staging)
            if isinstance(error, OutputError) and hidden in error.where:
                # The staging folder no longer exists, so the message names the folder that was asked for.
                where = error.where.replace(hidden, str(self.path))
                raise OutputError(where, error.what, error.fix) from error
            return
        try:
            self._check_target()  # again, because the block may have taken hours
            self._commit()
        except OSError as failure:
            raise cannot_write(self.path, failure) from failure
        finally:
            self._discard()

    def _check_target(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise OutputError(str(self.path), "expected a folder, found a file", "Use another path")
        if not any(self.path.iterdir()):
            return
        if not self.overwrite:
            raise OutputError(
                str(self.path),
                "the folder is not empty",
                f"Use another path, or pass {argument('overwrite', True)} to replace it",
            )
        if not (self.path / self.marker).is_file():
            raise OutputError(
                str(self.path),
                f"the folder is not empty and has no {self.marker}, so it will not be overwritten",
                "Use another path, or empty the folder yourself",
            )

    def _commit(self) -> None:
        if not self.path.exists():
            os.rename(self._staging, self.path)
            return
        os.rename(self.path, self._aside)
        try:
            os.rename(self._staging, self.path)
        except OSError:
            os.rename(self._aside, self.path)
            raise
        shutil.rmtree(self._aside, ignore_errors=True)

    def _discard(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        for folder in self._created_parents:  # rmdir fails, as it should, if a parent holds the result
            with suppress(OSError):  # or if another process uses it by now
                folder.rmdir()


def refuse_overlap(out: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise if an output is one of the inputs or a folder that contains one of them.

    Parameters
    ----------
    out : str or Path
        The file or folder to write. It need not exist.
    inputs : iterable of str, Path or None
        Files and folders that are read. None stands for an input that is not on disk.

    Raises
    ------
    OutputError
        If writing `out` would replace an input. An output inside an input folder is allowed.

    Examples
    --------
    >>> refuse_overlap("models/small", ["models/base", None])
    >>> refuse_overlap("models", ["models/base"])
    Traceback (most recent call last):
    ...
    eckart.errors.OutputError: `models`: the output is or contains the input models/base. Use another path.
    """
    target = Path(out).resolve()
    for given in inputs:
        if given is not None and Path(given).resolve().is_relative_to(target):
            raise OutputError(str(out), f"the output is or contains the input {given}", "Use another path")
