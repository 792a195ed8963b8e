"""Write safetensors files one tensor at a time, with the header at the end."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from eckart.arrays import Array
from eckart.checkpoint.dtypes import name_of
from eckart.checkpoint.write import replacing
from eckart.errors import UsageError
from eckart.paths import user_path
from eckart.workers import writing


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
) -> None:
    """Write a safetensors file atomically.

    Equivalent to ``safetensors.numpy.save_file``.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is replaced.
    tensors : mapping of str to ndarray
        Arrays of any dtype in `DTYPES`, contiguous or not.
    metadata : mapping of str to str, optional
        The ``__metadata__`` of the header.
    durable : bool
        Whether to wait until the data has reached the disk. Temporary files need not.

    Raises
    ------
    OutputError
        If the file cannot be written, for example because the disk is full. An existing file is kept.
    UsageError
        If safetensors has no such dtype, or reserves the name of a tensor.

    Notes
    -----
    The same tensors give the same bytes. The safetensors library (0.8) does not guarantee this, since it
    writes the keys of `metadata` in a different order each time; it also leaves a file that only its owner
    can read.
    """
    with stream_safetensors(path, tensors, metadata, durable) as put:
        for name, array in tensors.items():
            put(name, array)


@dataclass(frozen=True)
class LateMetadata:
    """Entries of a file's metadata that are known only after all its tensors are written.

    Parameters
    ----------
    draft : mapping of str to str
        The same keys, each with a text that is at least as long. Room for it is reserved in the header.
    final : callable
        Called at the end with the digest of the tensors, see `tensors_digest`; returns the entries.
    """

    draft: Mapping[str, str]
    final: Callable[[str], Mapping[str, str]]


@contextmanager
def stream_safetensors(
    path: str | Path,
    outline: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
    late: LateMetadata | None = None,
) -> Iterator[Callable[[str, Array], None]]:
    """Write a safetensors file atomically, one tensor at a time, in any order and from any thread.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is replaced.
    outline : mapping of str to ndarray
        Arrays with the shapes and dtypes that will be written. Their values are not used, so
        ``numpy.broadcast_to(numpy.zeros((), dtype), shape)``, which needs no memory, is enough.
    metadata, durable
        As for `write_safetensors`.
    late : LateMetadata, optional
        Entries that are added to the metadata at the end.

    Yields
    ------
    callable
        ``put(name, array)``, to be called exactly once for every name in `outline`.

    Raises
    ------
    OutputError
        As for `write_safetensors`.
    UsageError
        As for `write_safetensors`, and if a tensor is written twice, never, or with another shape or dtype
        than in `outline`.
    """
    # Writing the widest dtypes first, as the library does, keeps every tensor aligned.
    order = sorted(outline, key=lambda name: (-outline[name].itemsize, name))
    entries: dict[str, object] = {}
    starts: dict[str, int] = {}
    end = 0
    for name in order:
        starts[name], end = end, end + outline[name].nbytes
        entries[name] = _entry(path, name, outline[name], [starts[name], end])
    early = dict(metadata or {})
    draft = _header(early | dict(late.draft if late else {}), entries)
    room = -(-len(draft) // 8) * 8
    data_start = 8 + room
    missing = set(order)
    digests: dict[str, bytes] = {}
    with replacing(user_path(path), durable) as file:
        descriptor = file.fileno()
        os.truncate(descriptor, data_start + end)

        def put(name: str, array: Array) -> None:
            if (
                name not in missing
                or array.shape != outline[name].shape
                or array.dtype != outline[name].dtype
            ):
                raise UsageError(
                    f"{path}: {name}",
                    f"expected a tensor of the outline that is not yet written, found shape {array.shape} of "
                    f"{array.dtype}",
                )
            missing.discard(name)
            data = _bytes_of(array)
            if late is not None:
                digests[name] = _digest(name, array, data)
            with writing():  # after the block, the descriptor is closed, or is that of another file
                _write_at(descriptor, data, data_start + starts[name])

        yield put
        if missing:
            raise UsageError(
                f"{path}: {min(missing)}", "the outline lists this tensor, but it was never written"
            )
        text = draft if late is None else _header(early | dict(late.final(_joined(digests))), entries)
        if len(text) > room:
            raise ValueError(f"{path}: the metadata is longer than its draft")
        _write_at(descriptor, memoryview(room.to_bytes(8, "little") + text.ljust(room)), 0)


def tensors_digest(tensors: Mapping[str, Array]) -> str:
    """Return a SHA-256 digest of the names, dtypes, shapes and values of tensors.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Arrays of any dtype in `DTYPES`.

    Returns
    -------
    str
        The digest in hexadecimal. It does not depend on the order of the tensors, nor on the machine.
    """
    return _joined({name: _digest(name, array, _bytes_of(array)) for name, array in tensors.items()})


def _bytes_of(array: Array) -> memoryview:
    """Return the entries of an array as a file holds them."""
    ready = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return ready.reshape(-1).view(np.uint8).data


def _digest(name: str, array: Array, data: memoryview) -> bytes:
    outline = json.dumps([name, name_of(array.dtype), list(array.shape)])
    return hashlib.sha256(outline.encode() + b"\0" + hashlib.sha256(data).digest()).digest()


def _joined(digests: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(digests[name] for name in sorted(digests))).hexdigest()


def _header(metadata: Mapping[str, str], entries: Mapping[str, object]) -> bytes:
    """Return the JSON of a header, without padding."""
    head: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    return json.dumps(head | dict(entries), ensure_ascii=False, separators=(",", ":")).encode()


def _entry(path: str | Path, name: str, array: Array, offsets: list[int]) -> dict[str, object]:
    where = f"{path}: {name}"
    if name == "__metadata__":
        raise UsageError(where, "the format reserves this name", "Rename the tensor")
    try:
        dtype = name_of(array.dtype)
    except UsageError as error:
        raise UsageError(where, error.what, error.fix) from None
    return {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}


_SEEKING = Lock()


def _write_at(descriptor: int, data: memoryview, position: int) -> None:
    """Write bytes at a position of a file, from any thread."""
    if sys.platform == "win32":  # it has no pwrite
        with _SEEKING:
            os.lseek(descriptor, position, os.SEEK_SET)
            while data:
                data = data[os.write(descriptor, data) :]
        return
    while data:  # one call writes at most 2 GiB
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written
