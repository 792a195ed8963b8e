"""JSON from strangers: read so that every defect is one error with a file name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eckart.errors import CheckpointError
from eckart.text import clip

AGAIN = "Download the file again, or write it again with the program that made it"


def parse_object(raw: bytes, where: Path, what: str, *, unique: bool = True) -> dict[str, Any]:
    """Parse bytes that must hold one JSON object.

    Parameters
    ----------
    raw : bytes
        The text, which must be UTF-8.
    where : Path
        The file, for the message.
    what : str
        What the bytes are, for the message, e.g. ``"the header"``.
    unique : bool
        Whether a key that appears twice is an error. It is one where two readers could come to
        two different tensors.

    Raises
    ------
    CheckpointError
        If the bytes are not UTF-8, not JSON, not an object, or repeat a key.
    """
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise CheckpointError(str(where), f"{what} is nested too deeply", AGAIN) from None
    except ValueError as error:  # also UnicodeDecodeError, JSONDecodeError, an int of 5000 digits
        raise CheckpointError(str(where), f"{what} is not valid JSON ({clip(str(error))})", AGAIN) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            str(where), f"{what} must be a JSON object, found a {type(found).__name__}", AGAIN
        )
    return found


def read_bytes(path: Path) -> bytes:
    """Read a small file whole; a CheckpointError names it if that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: OSError) -> CheckpointError:
    """Turn an operating-system error into one that names the file and what to do."""
    if isinstance(error, FileNotFoundError):
        return CheckpointError(str(path), "there is no such file or folder", "Check the path")
    if isinstance(error, PermissionError):
        return CheckpointError(str(path), "reading it is not permitted", f"Try: chmod u+r {path.name}")
    return CheckpointError(
        str(path), f"it cannot be read ({error.strerror or error})", "Check the path and the disk"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} appears twice")
        key.encode("utf-8")  # JSON can spell half a surrogate pair, which no file can hold
        found[key] = value
    return found
