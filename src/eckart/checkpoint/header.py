"""Read and check the header of a safetensors file without reading its data.

A file consists of the header's length (eight bytes, little-endian), the header in JSON, and the data. The
header gives the dtype, the shape and the two data offsets of each tensor. Every field is checked against
the others and against the size of the file before any of them is used to allocate or map memory.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.foreign import refuse_foreign
from eckart.checkpoint.tensorinfo import HeaderEntry, TensorInfo, locate_tensor
from eckart.documents import Document
from eckart.errors import CheckpointError
from eckart.strictjson import DOWNLOAD_AGAIN, cannot_read, collector_paused, parse_object
from eckart.text import clip, count

MAX_HEADER = 100_000_000  # the limit of the safetensors library
MAX_TENSORS = 200_000  # in one file; their header takes three seconds and 250 MB

ENTRIES = Document(dict[str, HeaderEntry], "the header")
METADATA = Document(dict[str, str], "the metadata")


@dataclass(frozen=True, slots=True)
class Header:
    """The checked header of a safetensors file.

    Parameters
    ----------
    tensors : dict of str to TensorInfo
        Tensors by name, in the order of the header.
    metadata : dict of str to str
        The ``__metadata__`` entry.
    digest : str
        SHA-256 of the header's bytes, in hexadecimal. It covers names, dtypes and shapes but not the data.
    size : int
        Size of the whole file in bytes.
    mtime_ns : int
        Modification time of the file in nanoseconds.
    inode : int
        Number of the file in its file system; another file that takes its place has another one.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    digest: str
    size: int
    mtime_ns: int
    inode: int = 0


def read_header(path: str | Path) -> Header:
    """Read and check the header of a safetensors file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Header
        Its tensors cover the data exactly, without gaps or overlaps.

    Raises
    ------
    CheckpointError
        If the file cannot be read, has another format, or contradicts itself.

    Notes
    -----
    At most 100 MB are read, whatever length the file claims. The data is not read, so flipped bits in it are
    not detected.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError(
                str(path), "expected a file, found a folder", "Use Checkpoint.open for folders"
            )
        if not stat.S_ISREG(mode):  # reading a pipe would block forever
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
    with collector_paused():
        tensors, metadata = _parse(path, raw)
        _check_coverage(path, list(tensors.values()), 8 + length, status.st_size)
    digest = hashlib.sha256(raw).hexdigest()
    return Header(tensors, metadata, digest, status.st_size, status.st_mtime_ns, status.st_ino)


def _parse(path: Path, raw: bytes) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    stored = parse_object(raw, path, "the header", finite=False)  # the types below refuse any such number
    metadata = METADATA.convert(stored.pop("__metadata__", {}), f"{path}: __metadata__")
    if len(stored) > MAX_TENSORS:
        raise CheckpointError(
            str(path),
            f"the header lists {len(stored):,} tensors, but the limit is {MAX_TENSORS:,}",
            "Split the checkpoint into several files with an index",
        )
    entries = ENTRIES.convert(stored, str(path))
    data_start = 8 + len(raw)
    return {n: locate_tensor(path, n, entry, data_start) for n, entry in entries.items()}, metadata


def _header_length(path: Path, head: bytes, size: int) -> int:
    if size == 0:
        raise CheckpointError(str(path), "the file is empty", DOWNLOAD_AGAIN)
    refuse_foreign(path, head)
    if size < 8:
        raise CheckpointError(
            str(path),
            f"expected at least 8 bytes, found {size}: this is not a safetensors file",
            DOWNLOAD_AGAIN,
        )
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER:
        raise CheckpointError(
            str(path),
            f"the header claims {length:,} bytes, but the limit is {MAX_HEADER:,}: "
            "the file is damaged or not a safetensors file",
            DOWNLOAD_AGAIN,
        )
    if length > size - 8:
        raise CheckpointError(
            str(path),
            f"the header claims {length:,} bytes, but only {size - 8:,} follow the length: "
            "the file is truncated or not a safetensors file",
            DOWNLOAD_AGAIN,
        )
    if head[8:9] != b"{" or length == 0:
        raise CheckpointError(
            str(path), "the header must begin with '{': this is not a safetensors file", DOWNLOAD_AGAIN
        )
    return length


def _check_coverage(path: Path, tensors: list[TensorInfo], data_start: int, size: int) -> None:
    """Raise unless the tensors cover the data without gaps or overlaps, up to the end of the file."""
    end, previous = data_start, ""
    for info in sorted(tensors, key=lambda t: (t.start, t.stop)):
        if info.start < end:
            raise CheckpointError(
                f"{path}: {clip(info.name)}",
                f"its data overlaps that of {clip(previous)} by {count(end - info.start, 'byte')}",
                DOWNLOAD_AGAIN,
            )
        if info.start > end:
            raise CheckpointError(
                f"{path}: {clip(info.name)}",
                f"there is a gap of {count(info.start - end, 'byte')} before its data",
                DOWNLOAD_AGAIN,
            )
        end, previous = info.stop, info.name
    if end > size:
        cut = min((t for t in tensors if t.stop > size), key=lambda t: t.stop)
        raise CheckpointError(
            f"{path}: {clip(cut.name)}",
            f"the file is truncated: expected {end:,} bytes, found {size:,}; "
            f"{end - size:,} bytes are missing from this tensor onwards",
            DOWNLOAD_AGAIN,
        )
    if end < size:
        raise CheckpointError(
            str(path),
            f"expected {end:,} bytes, found {size:,}: {size - end:,} bytes more than the header declares",
            DOWNLOAD_AGAIN,
        )
