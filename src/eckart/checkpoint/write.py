"""Write files atomically: a reader finds the old file or the complete new one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from eckart.arrays import Array
from eckart.checkpoint.dtypes import name_of
from eckart.checkpoint.exchange import hidden_path, sync_folder
from eckart.checkpoint.output import cannot_write
from eckart.errors import OutputError, UsageError


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


@contextmanager
def stream_safetensors(
    path: str | Path,
    outline: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
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
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    starts: dict[str, int] = {}
    end = 0
    for name in order:
        starts[name], end = end, end + outline[name].nbytes
        header[name] = _entry(path, name, outline[name], [starts[name], end])
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data_start = 8 + len(text)
    missing = set(order)
    with _replacing(Path(path), durable) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
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
            ready = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            data = ready.reshape(-1).view(np.uint8).data
            position = data_start + starts[name]
            _write_at(descriptor, data, position)

        yield put
        if missing:
            raise UsageError(
                f"{path}: {min(missing)}", "the outline lists this tensor, but it was never written"
            )


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
    try:
        text = json.dumps(obj, indent=1, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise OutputError(
            str(path), f"the data cannot be written as JSON ({error})", "Replace the value with null"
        ) from error
    with _replacing(Path(path)) as file:
        file.write(f"{text}\n".encode())


def check_output_file(path: Path) -> None:
    """Raise the error that writing a file would raise for its place; call it before slow work.

    Parameters
    ----------
    path : Path
        The file to write. It may exist.

    Raises
    ------
    OutputError
        If the path is a folder, or its folder does not exist.
    """
    if path.is_dir():
        raise OutputError(str(path), "expected a file, found a folder", "Use the path of a file")
    if not path.absolute().parent.is_dir():
        raise OutputError(str(path), "its folder does not exist", "Create the folder first")


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
    with _replacing(Path(path)) as file:
        file.write(data)


@contextmanager
def _replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a new hidden file next to a path, and rename it to the path at the end."""
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


def _create_hidden(path: Path) -> tuple[Path, IO[bytes]]:
    """Create a file with a random name. No link is followed, and no existing file is opened."""
    while True:
        temporary = hidden_path(path, "tmp")
        with suppress(FileExistsError):
            return temporary, temporary.open("xb")


def _entry(path: str | Path, name: str, array: Array, offsets: list[int]) -> dict[str, object]:
    where = f"{path}: {name}"
    if name == "__metadata__":
        raise UsageError(where, "the format reserves this name", "Rename the tensor")
    try:
        dtype = name_of(array.dtype)
    except UsageError as error:
        raise UsageError(where, error.what, error.fix) from None
    return {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
