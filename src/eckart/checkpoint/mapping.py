"""A tensor's bytes as an array, without reading them: the file is mapped into memory."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import CheckpointError
from eckart.text import clip


def map_tensor(info: TensorInfo) -> NDArray[Any]:
    """Map a tensor into memory, read-only, in its stored dtype and shape.

    Parameters
    ----------
    info : TensorInfo
        The tensor.

    Returns
    -------
    ndarray
        Its region of the file, unmapped when the last view of it is gone: a pass over a model of
        any depth needs the memory of one tensor. It may be unaligned.

    Raises
    ------
    CheckpointError
        If its dtype is not one of `DTYPES`, or if the file has shrunk since its header was read.

    Notes
    -----
    No copy, and no read until a page is touched. A file that is cut short while it is mapped ends
    the process, as with any mapped file.
    """
    if info.dtype not in DTYPES:
        raise unread(info)
    dtype = DTYPES[info.dtype]
    try:
        if info.nbytes == 0:  # no operating system maps zero bytes
            empty = np.empty(info.shape, dtype)
            empty.flags.writeable = False
            return empty
        region = np.memmap(info.file, dtype, mode="r", offset=info.start, shape=info.shape)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{info.file}: {clip(info.name)}",
            f"shape {info.shape} cannot be mapped ({error})",
            "If the file was changed since it was opened, open it again",
        ) from error
    return region.view(np.ndarray)


def unread(info: TensorInfo) -> CheckpointError:
    """Return the error that names a dtype which is not read."""
    return CheckpointError(
        f"{info.file}: {clip(info.name)}",
        f"expected one of {', '.join(DTYPES)}, found {clip(info.dtype)}",
        "Dequantise the checkpoint, or save it as BF16",
    )


def prefetch_tensor(info: TensorInfo) -> None:
    """Ask the operating system to read a tensor ahead; does nothing where it cannot.

    Parameters
    ----------
    info : TensorInfo
        The tensor. The call returns at once; a file that is gone is not an error yet.
    """
    if sys.platform == "linux":
        try:
            descriptor = os.open(info.file, os.O_RDONLY)
        except OSError:
            return  # a hint must not fail: the read that follows says what is wrong
        try:
            os.posix_fadvise(descriptor, info.start, info.nbytes, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


class MappedFile:
    """A whole file mapped once, for files of many small tensors that are all used.

    Parameters
    ----------
    path : Path
        The file, which must not be empty.

    Notes
    -----
    A system allows some 65,000 mappings to a process, and an adapter for a mixture of experts has
    more tensors than that. Pages that were read stay with the process until `release`.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(str(path), f"cannot be mapped ({error})", "Give another file") from error

    def array(self, info: TensorInfo) -> NDArray[Any]:
        """Return a tensor as a read-only view, in its stored dtype and shape."""
        if info.dtype not in DTYPES:
            raise unread(info)
        if info.stop > len(self._map):
            raise CheckpointError(f"{info.file}: {clip(info.name)}", "the file has shrunk", "Open it again")
        flat = np.frombuffer(self._map, DTYPES[info.dtype], info.size, info.start)
        return flat.reshape(info.shape)

    def release(self) -> None:
        """Let the operating system have the pages back; views stay valid and read them again."""
        if sys.platform == "linux":
            self._map.madvise(mmap.MADV_DONTNEED)
