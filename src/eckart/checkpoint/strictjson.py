"""Parse JSON from untrusted files; every defect raises an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eckart.errors import CheckpointError
from eckart.text import clip

JsonObject = dict[str, Any]
"""A parsed JSON object. The values are Any because every reader checks the fields that it uses."""

DOWNLOAD_AGAIN = "Download the file again, or recreate it with the program that wrote it"


def parse_object(raw: bytes, where: Path, what: str, *, unique: bool = True) -> JsonObject:
    """Parse bytes that must hold one JSON object.

    Parameters
    ----------
    raw : bytes
        The text in UTF-8.
    where : Path
        The file, for the error message.
    what : str
        A description of the text for the error message, e.g. ``"the header"``.
    unique : bool
        Whether a repeated key is an error. It must be one if two programs that read the file could otherwise
        see different tensors.

    Returns
    -------
    dict of str to Any
        The parsed object.

    Raises
    ------
    CheckpointError
        If the bytes are not UTF-8, not JSON or not an object, or if a key is repeated.
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise CheckpointError(str(where), f"{what} is nested too deeply", DOWNLOAD_AGAIN) from None
    except ValueError as error:  # includes UnicodeDecodeError, JSONDecodeError and integers of 5000 digits
        defect = f"{what} is not valid JSON ({clip(str(error))})"
        raise CheckpointError(str(where), defect, DOWNLOAD_AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError(
            str(where), f"{what} must be a JSON object, found {json_kind(value)}", DOWNLOAD_AGAIN
        )
    return value


def json_kind(value: object) -> str:
    """Return the JSON type of a parsed value, for an error message.

    Parameters
    ----------
    value : object
        A value that ``json.loads`` returned.

    Returns
    -------
    str
        The type with its article, e.g. ``"an array"``.
    """
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path : Path
        A small file.

    Returns
    -------
    bytes
        Its contents.

    Raises
    ------
    CheckpointError
        If the file cannot be read. The message names it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a file that the operating system could not read.

    Parameters
    ----------
    path : Path
        The file.
    error : OSError
        The error of the operating system.

    Returns
    -------
    CheckpointError
        The error, to be raised by the caller.
    """
    if isinstance(error, FileNotFoundError):
        return CheckpointError(str(path), "there is no such file or folder", "Check the path")
    if isinstance(error, PermissionError):
        return CheckpointError(str(path), "permission to read it was denied", f"Run: chmod u+r {path.name}")
    return CheckpointError(
        str(path), f"it cannot be read ({error.strerror or error})", "Check the path and the disk"
    )


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} appears twice")
        key.encode("utf-8")  # raises on half a surrogate pair, which JSON can express and UTF-8 cannot
        result[key] = value
    return result
