"""Write files atomically: a reader finds the old file or the complete new one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from eckart.checkpoint.exchange import hidden_path, sync_folder
from eckart.checkpoint.output import cannot_write
from eckart.errors import OutputError
from eckart.paths import user_path
from eckart.unfinished import add_unfinished, forget_unfinished


def write_json(path: str | Path, obj: object) -> None:
    """Write an object as JSON atomically, with its keys in the given order and an indent of one.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is replaced.
    obj : object
        Any value that ``json.dumps`` accepts.

    Raises
    ------
    OutputError
        If the file cannot be written, or if a number is NaN or infinite, which JSON cannot represent.
    """
    write_bytes(path, json_text(obj, str(path)).encode())


def json_text(obj: object, where: str) -> str:
    """Return an object as JSON, as `write_json` writes it.

    Parameters
    ----------
    obj : object
        Any value that ``json.dumps`` accepts.
    where : str
        The file, for the error message.

    Raises
    ------
    OutputError
        If a number is NaN or infinite, which JSON cannot represent.
    """
    try:
        return json.dumps(obj, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise OutputError(
            where, f"the data cannot be written as JSON ({error})", "Replace the value with null"
        ) from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes to a file atomically.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is replaced.
    data : bytes
        Contents of the file.

    Raises
    ------
    OutputError
        If the file cannot be written. An existing file is kept.
    """
    with replacing(user_path(path)) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a new hidden file next to a path, and give it the path's name at the end of the block.

    Parameters
    ----------
    path : Path
        The file. An existing file is replaced.
    durable : bool
        Whether to wait until the data and the name have reached the disk.

    Raises
    ------
    OutputError
        If the file cannot be written. An existing file is kept.
    """
    temporary = None
    try:
        temporary, file = _create_hidden(path)
        with file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # it no longer exists after success, and must not hide another error
                temporary.unlink()
            forget_unfinished(temporary)


def _create_hidden(path: Path) -> tuple[Path, IO[bytes]]:
    """Create a file with a random name. No link is followed, and no existing file is opened."""
    while True:
        temporary = hidden_path(path, "tmp")
        add_unfinished(temporary)
        try:
            return temporary, temporary.open("xb")
        except FileExistsError:  # something was put there
            forget_unfinished(temporary)
