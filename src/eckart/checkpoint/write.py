"""Writing that is all or nothing: a reader finds the old or the new, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
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
    with _replacing(Path(path), durable) as file:
        # The widest first, as in the library, keeps every tensor aligned to its dtype.
        order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
        header: dict[str, Any] = {}
        if metadata:
            header["__metadata__"] = dict(sorted(metadata.items()))
        begin = 0
        for name in order:
            end = begin + tensors[name].nbytes
            header[name] = _entry(path, name, tensors[name], [begin, end])
            begin = end
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.asarray(tensors[name], tensors[name].dtype.newbyteorder("<"), order="C")
            file.write(array.reshape(-1).view(np.uint8).data)


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
