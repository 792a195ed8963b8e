"""The header of a safetensors file: read without its data, and believed only after checking.

A file is eight bytes of length (little-endian), that many bytes of JSON, and the data. The JSON
gives each tensor a dtype, a shape and its two offsets into the data. Every claim is checked against
the others and against the size of the file before any of it is used to allocate or to map.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.foreign import refuse_foreign
from eckart.checkpoint.strictjson import AGAIN, cannot_read, parse_object
from eckart.checkpoint.tensorinfo import TensorInfo, parse_entry
from eckart.errors import CheckpointError
from eckart.text import clip

MAX_HEADER = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself.

    Parameters
    ----------
    tensors : dict of str to TensorInfo
        In the order of the file.
    metadata : dict of str to str
        The ``__metadata__`` of the file.
    digest : str
        SHA-256 of the header's bytes, in hexadecimal: names, dtypes and shapes, not the data.
    size : int
        Bytes of the whole file.
    mtime_ns : int
        When the file was last written, in nanoseconds.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    digest: str
    size: int
    mtime_ns: int


def read_header(path: str | Path) -> Header:
    """Read and check the header of a safetensors file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Header
        Whose tensors tile the data exactly: no hole, no overlap, nothing missing.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is another format, or contradicts itself.

    Notes
    -----
    Reads at most 100 MB, whatever length the file claims. The data is not read, so that flipped
    bits in it go unseen.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError(
                str(path), "expected a file, found a folder", "Open it with Checkpoint.open"
            )
        if not stat.S_ISREG(mode):  # a pipe would block for ever
            raise CheckpointError(
                str(path), "expected a regular file, found a pipe or a device", "Check the path"
            )
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(9)
            length = _header_length(path, head, status.st_size)
            raw = head[8:] + file.read(length - 1)
    except OSError as error:
        raise cannot_read(path, error) from error
    found = parse_object(raw, path, "the header")
    metadata = _metadata(path, found.pop("__metadata__", {}))
    data = 8 + length
    tensors = {name: parse_entry(path, name, entry, data) for name, entry in found.items()}
    _check_tiling(path, list(tensors.values()), data, status.st_size)
    digest = hashlib.sha256(raw).hexdigest()
    return Header(tensors, metadata, digest, status.st_size, status.st_mtime_ns)


def _header_length(path: Path, head: bytes, size: int) -> int:
    if size == 0:
        raise CheckpointError(str(path), "the file is empty", AGAIN)
    refuse_foreign(path, head)
    if size < 8:
        raise CheckpointError(
            str(path), f"expected at least 8 bytes, found {size}: not a safetensors file", AGAIN
        )
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER:
        raise CheckpointError(
            str(path),
            f"the header claims {length:,} bytes and the limit is {MAX_HEADER:,}: "
            "not a safetensors file, or a damaged one",
            AGAIN,
        )
    if length > size - 8:
        raise CheckpointError(
            str(path),
            f"the header claims {length:,} bytes and the file holds {size - 8:,} after the "
            "length: truncated, or not a safetensors file",
            AGAIN,
        )
    if head[8:9] != b"{" or length == 0:
        raise CheckpointError(str(path), "the header must begin with '{': not a safetensors file", AGAIN)
    return length


def _metadata(path: Path, found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise CheckpointError(str(path), "expected __metadata__ to map strings to strings", AGAIN)
    return found


def _check_tiling(path: Path, tensors: list[TensorInfo], data: int, size: int) -> None:
    end, before = data, ""
    for info in sorted(tensors, key=lambda t: (t.start, t.stop)):
        where = f"{path}: {clip(info.name)}"
        if info.start < end:
            raise CheckpointError(
                where, f"its data overlaps that of {before} by {end - info.start:,} bytes", AGAIN
            )
        if info.start > end:
            raise CheckpointError(
                where, f"there is a hole of {info.start - end:,} bytes before its data", AGAIN
            )
        end, before = info.stop, clip(info.name)
    if end > size:
        cut = min((t for t in tensors if t.stop > size), key=lambda t: t.stop)
        raise CheckpointError(
            f"{path}: {clip(cut.name)}",
            f"the file is truncated: expected {end:,} bytes, found {size:,}, "
            f"so that {end - size:,} bytes are missing from this tensor on",
            AGAIN,
        )
    if end < size:
        raise CheckpointError(
            str(path),
            f"expected {end:,} bytes, found {size:,}: {size - end:,} bytes more than declared",
            AGAIN,
        )
