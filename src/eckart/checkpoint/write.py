"""Writing that is all or nothing: a reader finds the old or the new, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint.dtypes import name_of
from eckart.errors import OutputError, UsageError


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
) -> None:
    """Write a safetensors file, or nothing.

    Equivalent to ``safetensors.numpy.save_file``.

    Parameters
    ----------
    path : str or Path
        The file, replaced if it is there.
    tensors : mapping of str to ndarray
        Of any dtype in `DTYPES`, any order in memory.
    metadata : mapping of str to str, optional
        Text for the header.
    durable : bool
        Whether to wait until the disk has it; scratch that will be removed need not.

    Raises
    ------
    OutputError
        If the place cannot be written, or the disk is full; what was there before still is.
    UsageError
        If safetensors has no name for the dtype of a tensor, or keeps its name for itself.

    Notes
    -----
    The same tensors give the same bytes. The library (0.8) writes the keys of `metadata` in another
    order each time, and leaves a file that only its owner can read; hence this one.
    """
    with stream_safetensors(path, tensors, metadata, durable) as put:
        for name, array in tensors.items():
            put(name, array)


@contextmanager
def stream_safetensors(
    path: str | Path,
    outline: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    durable: bool = True,
) -> Iterator[Callable[[str, NDArray[Any]], None]]:
    """Write a safetensors file tensor by tensor, in any order and from any thread, or nothing.

    Parameters
    ----------
    path, metadata, durable
        As for `write_safetensors`.
    outline : mapping of str to ndarray
        Arrays of the shapes and dtypes to come; their numbers are not looked at, so that
        ``numpy.broadcast_to(numpy.zeros((), dtype), shape)``, which takes no memory, will do.

    Yields
    ------
    callable
        ``put(name, array)``, to be called once for every name; other calls are a `UsageError`.
    """
    # The widest first, as in the library, keeps every tensor aligned to its dtype.
    order = sorted(outline, key=lambda name: (-outline[name].itemsize, name))
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    begin = 0
    for name in order:
        end = begin + outline[name].nbytes
        header[name] = _entry(path, name, outline[name], [begin, end])
        begin = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    offset = 8 + len(text)
    missing = set(order)
    with _replacing(Path(path), durable) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
        descriptor = file.fileno()
        os.truncate(descriptor, offset + begin)

        def put(name: str, array: NDArray[Any]) -> None:
            if (
                name not in missing
                or array.shape != outline[name].shape
                or array.dtype != outline[name].dtype
            ):
                raise UsageError(f"{path}: {name}", "was written already, or is not as it was outlined")
            missing.discard(name)
            ready = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            data = ready.reshape(-1).view(np.uint8).data
            place = offset + header[name]["data_offsets"][0]
            while data:  # a system writes at most 2 GiB at a time
                done = os.pwrite(descriptor, data, place)
                data, place = data[done:], place + done

        yield put
        if missing:
            raise UsageError(f"{path}: {min(missing)}", "was outlined and never written")


def write_json(path: str | Path, obj: object) -> None:
    """Write an object as JSON, or nothing: keys in the order given, indented by one.

    Raises
    ------
    OutputError
        If the place cannot be written, or a number is NaN or infinite, which JSON cannot say.
    """
    try:
        text = json.dumps(obj, indent=1, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise OutputError(
            str(path), f"it cannot be written as JSON ({error})", "Replace the value by null"
        ) from error
    with _replacing(Path(path)) as file:
        file.write(f"{text}\n".encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file of these bytes, or nothing.

    Raises
    ------
    OutputError
        If the place cannot be written; what was there before still is.
    """
    with _replacing(Path(path)) as file:
        file.write(data)


@contextmanager
def _replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it is gone after success, and must not hide an error otherwise
            temporary.unlink()


def _entry(path: str | Path, name: str, array: NDArray[Any], offsets: list[int]) -> dict[str, Any]:
    where = f"{path}: {name}"
    if name == "__metadata__":
        raise UsageError(where, "the format keeps this name for itself", "Rename the tensor")
    try:
        dtype = name_of(array.dtype)
    except UsageError as error:
        raise UsageError(where, error.what, error.fix) from None
    return {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Turn an operating-system error into one that names the place and what to do."""
    return OutputError(
        str(path),
        f"it cannot be written ({error.strerror or error})",
        "Check the free space and the permissions of the folder, or give another path",
    )
