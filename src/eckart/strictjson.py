"""Parse JSON from untrusted files within stated limits on size, depth and numbers."""

from __future__ import annotations

import gc
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eckart.checks import LARGEST
from eckart.errors import CheckpointError, InputError
from eckart.oserrors import fix_for, reason_of
from eckart.text import clip

JsonObject = dict[str, Any]
"""A parsed JSON object whose values the reader checks itself."""

DOWNLOAD_AGAIN = "Download the file again, or recreate it with the program that wrote it"

MAX_BYTES = 64_000_000  # the index of a checkpoint with 140,000 tensors has 14 MB
MAX_VALUES = 4_000_000  # a parsed value can take 100 times the bytes of its text
MAX_DEPTH = 64

# Without a match, every number has at most 199 digits and an exponent below 100: float64 holds it.
_LARGE_NUMBER = re.compile(rb"[eE]\+?\d{3}|(?<!\d)\d{200}")
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(
    raw: bytes,
    where: str,
    what: str,
    error: type[InputError] = CheckpointError,
    fix: str = DOWNLOAD_AGAIN,
    *,
    unique: bool = True,
    finite: bool = True,
) -> object:
    """Parse bytes that must hold one JSON value.

    Parameters
    ----------
    raw : bytes
        The text in UTF-8.
    where : str
        The file, for the error message.
    what : str
        A description of the text for the error message, e.g. ``"the header"``.
    error : type
        Class of the exception to raise.
    fix : str
        Third part of the error message.
    unique : bool
        Whether a repeated key is an error. It must be one if two programs that read the file could otherwise
        see different values.
    finite : bool
        Whether NaN, infinity and numbers beyond the range of float64 are errors.

    Returns
    -------
    object
        The parsed value.

    Raises
    ------
    InputError
        As the class `error`, if the bytes are not UTF-8 or not JSON, if a key is repeated, a number is not
        finite, or a limit is exceeded.

    Notes
    -----
    The limits are `MAX_VALUES` values and `MAX_DEPTH` levels of nesting.
    """
    if sum(raw.count(mark) for mark in (b",", b":", b"[", b"{")) > MAX_VALUES:
        raise error(where, f"{what} holds more than {MAX_VALUES:,} values", fix)
    with collector_paused():
        return _parsed(raw, where, what, error, fix, unique, finite)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector of reference cycles while many values are built, which none of them is part of.

    It would take half the time of a header with 200,000 tensors.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parsed(
    raw: bytes, where: str, what: str, error: type[InputError], fix: str, unique: bool, finite: bool
) -> object:
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique if unique else None,
            parse_constant=_refuse_constant if finite else None,
        )
        if _HALF_PAIR.search(raw):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises on half a surrogate pair
    except RecursionError:
        raise error(where, f"{what} is nested too deeply", fix) from None
    except UnicodeEncodeError:  # JSON can express half a surrogate pair, UTF-8 cannot
        raise error(where, f"{what} is not valid JSON (a string holds half a surrogate pair)", fix) from None
    except ValueError as reason:  # includes UnicodeDecodeError, JSONDecodeError and integers of 5000 digits
        is_long = "integer string conversion" in str(reason)
        shown = "it holds an integer of more than 4,300 digits" if is_long else clip(str(reason))
        raise error(where, f"{what} is not valid JSON ({shown})", fix) from None
    if _is_deep(value):
        raise error(where, f"{what} is nested too deeply: the limit is {MAX_DEPTH} levels", fix)
    if finite and _LARGE_NUMBER.search(raw):
        place = _place_of_large_number(value)
        if place is not None:
            at = f"{where}: {clip(place)}" if place else where
            raise error(at, "the number is too large: float64 cannot hold it", fix)
    return value


def parse_object(
    raw: bytes,
    where: str | Path,
    what: str,
    error: type[InputError] = CheckpointError,
    fix: str = DOWNLOAD_AGAIN,
    *,
    unique: bool = True,
    finite: bool = True,
) -> JsonObject:
    """Parse bytes that must hold one JSON object.

    Parameters
    ----------
    raw, where, what, error, fix, unique, finite
        As for `parse_json`.

    Returns
    -------
    dict of str to Any
        The parsed object.

    Raises
    ------
    InputError
        As the class `error`, where `parse_json` raises one, or if the value is not an object.
    """
    value = parse_json(raw, str(where), what, error, fix, unique=unique, finite=finite)
    if not isinstance(value, dict):
        raise error(str(where), f"{what} must be a JSON object, found {json_kind(value)}", fix)
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


def read_bytes(path: Path, error: type[InputError] = CheckpointError, limit: int = MAX_BYTES) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path : Path
        A small file.
    error : type
        Class of the exception to raise.
    limit : int
        Largest size that is read, in bytes.

    Returns
    -------
    bytes
        Its contents.

    Raises
    ------
    InputError
        As the class `error`, if the file cannot be read, is not a regular file, or is too large.
    """
    check_regular(path, error)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise error(
                    str(path), f"the file has {size:,} bytes, but the limit is {limit:,}", DOWNLOAD_AGAIN
                )
            return file.read(size)
    except OSError as reason:
        raise cannot_read(path, reason, error) from None


def check_regular(path: Path, error: type[InputError] = CheckpointError) -> None:
    """Refuse a path that is not a regular file, because reading a pipe would block forever.

    Parameters
    ----------
    path : Path
        The file.
    error : type
        Class of the exception to raise.

    Raises
    ------
    InputError
        As the class `error`, if there is no such file, or it is not a regular one.
    """
    try:
        mode = path.stat().st_mode
    except OSError as reason:
        raise cannot_read(path, reason, error) from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise error(str(path), f"expected a regular file, found {kind}", "Check the path")


def cannot_read(path: Path, reason: OSError, error: type[InputError] = CheckpointError) -> InputError:
    """Return the error for a file that the operating system could not read.

    Parameters
    ----------
    path : Path
        The file.
    reason : OSError
        The error of the operating system.
    error : type
        Class of the exception.

    Returns
    -------
    InputError
        The error, to be raised by the caller.
    """
    if isinstance(reason, FileNotFoundError):
        return error(str(path), "there is no such file or folder", "Check the path")
    if isinstance(reason, PermissionError):
        return error(str(path), "permission to read it was denied", f"Run: chmod u+rX {path.name}")
    return error(str(path), f"it cannot be read ({reason_of(reason)})", fix_for(reason))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {clip(key)!r} appears twice")
            seen.add(key)
    return result


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number in JSON")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for container in level:
            if isinstance(container, dict):
                inner += [entry for entry in container.values() if isinstance(entry, (dict, list))]
            elif isinstance(container, list):
                inner += [entry for entry in container if isinstance(entry, (dict, list))]
        if not inner:
            return False
        level = inner
    return True


def _place_of_large_number(document: object) -> str | None:
    """Return where a number is that float64 cannot hold, or None if there is none."""
    places: list[tuple[str, object]] = [("", document)]
    while places:
        place, value = places.pop()
        if isinstance(value, dict):
            places += [(f"{place}.{key}" if place else key, v) for key, v in value.items() if _is_suspect(v)]
        elif isinstance(value, list):
            places += [(f"{place}[{i}]", v) for i, v in enumerate(value) if _is_suspect(v)]
        elif _is_suspect(value):
            return place
    return None


def _is_suspect(value: object) -> bool:
    """Whether a value is a number that float64 cannot hold, or may contain one."""
    if isinstance(value, int):
        return not -LARGEST <= value <= LARGEST
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, (dict, list))
