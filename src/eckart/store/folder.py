"""The folder of a store: whether a folder is one, and which of its files nothing refers to any more."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from eckart.checkpoint.target import locate, mode_of
from eckart.errors import OutputError
from eckart.store.factors import is_factor_file
from eckart.store.files import FACTORS, JOURNAL, KIND, LOCK, MANIFEST, SPECTRA
from eckart.store.record import TensorRecord

OWN = (MANIFEST, JOURNAL, SPECTRA)
JOURNAL_TEMPORARY = f"{Path(JOURNAL).stem}.tmp"

# How a manifest and a journal begin. Files of format 1 had neither a checksum nor a kind.
_MARK = re.compile(
    rb'\{\s*("checksum": "[^"]*",\s*"kind": "%s"|"format": 1,\s*"sources": \{)' % KIND.encode()
)


def check_target(folder: Path) -> None:
    """Raise `OutputError` unless a path can become a store, or is one, whatever its state.

    Parameters
    ----------
    folder : Path
        The path. It need not exist.

    Raises
    ------
    OutputError
        If it is not a folder, or a folder that is neither empty nor a store.
    """
    locate(folder)
    mode = mode_of(folder, "a folder")
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise OutputError(str(folder), "expected a folder, found a file", "Use another path")
    if not is_store_or_empty(folder):
        raise OutputError(
            str(folder), "the folder is not empty and is not a factor store", "Use another folder"
        )


def is_store_or_empty(folder: Path) -> bool:
    """Return whether a folder is a store, what a killed pass left of one, or empty.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    bool

    Notes
    -----
    A manifest or a journal shows it by its first bytes. Where both are missing or damaged, every file must
    have the name of a store's file, and each file in ``factors/`` must hold singular values and factors.
    """
    names = {entry.name for entry in folder.iterdir()}
    if _has_mark(folder / MANIFEST) or _has_mark(folder / JOURNAL):
        return True
    if not all(name in (*OWN, FACTORS, LOCK) or _is_temporary(name) for name in names):
        return False
    entries = _entries(folder / FACTORS)
    if not all(entry.name.startswith(".") or is_factor_file(entry) for entry in entries):
        return False
    return bool(entries) or not names & {MANIFEST, JOURNAL}


def has_remnants(folder: Path) -> bool:
    """Return whether a killed pass left a journal, a lock or temporary files in a store."""
    names = {entry.name for entry in folder.iterdir()}
    hidden = any(entry.name.startswith(".") for entry in _entries(folder / FACTORS))
    return bool(names & {JOURNAL, LOCK}) or any(map(_is_temporary, names)) or hidden


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that a killed pass left in a store. The caller holds the lock."""
    hidden = [entry for entry in _entries(folder / FACTORS) if entry.name.startswith(".")]
    for entry in [*hidden, *(e for e in folder.iterdir() if _is_temporary(e.name))]:
        _remove(entry)


def remove_unused(folder: Path, records: Iterable[TensorRecord]) -> None:
    """Remove the factor files of a store that no record refers to. The caller holds the lock."""
    used = {Path(record.file).name for record in records}
    for entry in _entries(folder / FACTORS):
        if entry.suffix == ".safetensors" and entry.name not in used:
            _remove(entry)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(file: Path) -> None:
    # Windows refuses to remove a file that another program reads. A later pass removes it.
    with suppress(FileNotFoundError, PermissionError):
        file.unlink()


def _has_mark(file: Path) -> bool:
    try:
        if not file.is_file():  # opening a pipe would wait forever
            return False
        with file.open("rb") as opened:
            return _MARK.match(opened.read(200)) is not None
    except OSError:
        return False


def _is_temporary(name: str) -> bool:
    """Return whether a name is that of a file that was being written when its pass was killed."""
    return name == JOURNAL_TEMPORARY or any(name.startswith(f".{own}.") for own in OWN)
