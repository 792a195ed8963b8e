"""Write a folder of files atomically: readers see either all of them or none."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from eckart.checkpoint.exchange import exchange, rename_new
from eckart.checkpoint.output import Output
from eckart.checkpoint.target import REPLACE, FileKind, mode_of
from eckart.errors import OutputError, UsageError
from eckart.paths import real_path


class OutputFolder(Output):
    """A context manager that writes a folder completely or not at all.

    Parameters
    ----------
    path : str or Path
        The folder to write. Missing parent folders are created. A link is followed; the link itself stays.
    overwrite : bool
        Whether an existing folder that is not empty may be replaced.
    marker : str
        Name of a file that an existing folder must hold to be replaced, for example
        ``"adapter_config.json"``. Required with `overwrite`: it keeps a mistyped path from wiping a home
        directory.
    kind : FileKind, optional
        What the marker must be, if its name alone is not enough.

    Raises
    ------
    OutputError
        On entry and on exit: if `path` is a file, or a folder that is not empty and may not be replaced; or
        if the folder cannot be written.
    UsageError
        If `overwrite` is given without `marker`.

    Notes
    -----
    See `eckart.checkpoint.output.Output`. An existing folder is replaced in one step where the system has
    one, see `eckart.checkpoint.exchange.exchange`.

    Examples
    --------
    >>> with OutputFolder("adapter") as staging:  # doctest: +SKIP
    ...     write_json(staging / "adapter_config.json", {"r": 8})
    """

    def __init__(
        self, path: str | Path, overwrite: bool = False, *, marker: str = "", kind: FileKind | None = None
    ) -> None:
        if overwrite and not marker:
            raise UsageError(
                "OutputFolder",
                "overwrite=True needs a marker",
                'Pass the name of a file that the old folder must hold, for example marker="plan.json"',
            )
        super().__init__(path, overwrite)
        if not self.path.name:
            raise OutputError(str(path), "the root folder cannot be replaced", "Use another path")
        self.marker, self.kind = marker, kind

    def _check_target(self) -> None:
        mode = mode_of(self.given, "a folder")
        if mode is None:
            return
        if not stat.S_ISDIR(mode):
            raise OutputError(str(self.given), "expected a folder, found a file", "Use another path")
        if not any(self.path.iterdir()):
            return
        if not self.overwrite:
            raise OutputError(str(self.given), "the folder is not empty", REPLACE)
        if not (self.path / self.marker).is_file():
            raise OutputError(
                str(self.given),
                f"the folder is not empty and has no {self.marker}, so it will not be overwritten",
                "Use another path, or empty the folder yourself",
            )
        if self.kind is not None and not self.kind.holds(self.path / self.marker):
            raise OutputError(
                str(self.given),
                f"its {self.marker} is not {self.kind.title}, so the folder will not be overwritten",
                "Use another path, or empty the folder yourself",
            )

    def _staged(self, staging: Path) -> Path:
        return staging

    def _commit(self, staged: Path) -> Path | None:
        if self.overwrite:
            return exchange(staged, self.path)
        rename_new(staged, self.path)
        return None


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
    target = real_path(out)
    for given in inputs:
        if given is not None and real_path(given).is_relative_to(target):
            raise OutputError(str(out), f"the output is or contains the input {given}", "Use another path")
