"""Memory-map tensors, so that their bytes are read only when they are used."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import numpy as np

from eckart.arrays import Array
from eckart.checkpoint.dtypes import DTYPES, dtype_name
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import CheckpointError
from eckart.text import clip


def map_tensor(info: TensorInfo) -> Array:
    """Map a tensor into memory, read-only, in its stored dtype and shape.

    Parameters
    ----------
    info : TensorInfo
        The tensor.

    Returns
    -------
    ndarray
        A view of the file, possibly unaligned. It is unmapped when its last view is deleted, so a pass over
        a model needs memory for one tensor only.

    Raises
    ------
    CheckpointError
        If the dtype is not in `DTYPES`, or if the file has shrunk since its header was read.

    Notes
    -----
    Nothing is copied, and a page is read when it is first accessed. Truncating a mapped file while it is in
    use crashes the process, as with any memory map.
    """
    if info.dtype not in DTYPES:
        raise unsupported_dtype(info)
    dtype = DTYPES[info.dtype]
    try:
        if info.nbytes == 0:  # operating systems do not map zero bytes
            empty = np.empty(info.shape, dtype)
            empty.flags.writeable = False
            return empty
        region = np.memmap(info.file, dtype, mode="r", offset=info.start, shape=info.shape)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{info.file}: {clip(info.name)}",
            f"shape {info.shape} cannot be mapped ({error})",
            "If the file has changed since it was opened, open it again",
        ) from error
    return region.view(np.ndarray)


def unsupported_dtype(info: TensorInfo) -> CheckpointError:
    """Return the error for a tensor whose dtype Eckart does not read.

    Parameters
    ----------
    info : TensorInfo
        The tensor.

    Returns
    -------
    CheckpointError
        The error, to be raised by the caller.
    """
    return CheckpointError(
        f"{info.file}: {clip(info.name)}",
        f"expected one of {', '.join(dtype_name(name) for name in DTYPES)}, found {clip(info.dtype)}",
        "Dequantise the checkpoint, or save it as bfloat16",
    )


def prefetch_tensor(info: TensorInfo) -> None:
    """Ask the operating system to read a tensor ahead of its use.

    Parameters
    ----------
    info : TensorInfo
        The tensor.

    Notes
    -----
    The call returns at once and never fails. It has no effect on systems other than Linux.
    """
    if sys.platform == "linux":
        try:
            descriptor = os.open(info.file, os.O_RDONLY)
        except OSError:
            return  # a hint must not fail; the read that follows reports the error
        try:
            os.posix_fadvise(descriptor, info.start, info.nbytes, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


class MappedFile:
    """A whole file mapped once, for files with many small tensors that are all used.

    Parameters
    ----------
    path : Path
        The file, which must not be empty.

    Raises
    ------
    CheckpointError
        If the file cannot be mapped.

    Notes
    -----
    Linux limits a process to about 65,000 mappings, and an adapter for a mixture of experts can have more
    tensors than that. Pages that were read stay in memory until `release` is called.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                str(path), f"the file cannot be mapped ({error})", "Check the path and its permissions"
            ) from error

    def array(self, info: TensorInfo) -> Array:
        """Return a tensor as a read-only view, in its stored dtype and shape.

        Parameters
        ----------
        info : TensorInfo
            A tensor of this file.

        Returns
        -------
        ndarray
            A view of the mapped file, possibly unaligned.

        Raises
        ------
        CheckpointError
            If the dtype is not in `DTYPES`, or if the file has shrunk since its header was read.
        """
        if info.dtype not in DTYPES:
            raise unsupported_dtype(info)
        if info.stop > len(self._map):
            raise CheckpointError(
                f"{info.file}: {clip(info.name)}", "the file has shrunk since it was opened", "Open it again"
            )
        flat = np.frombuffer(self._map, DTYPES[info.dtype], info.size, info.start)
        return flat.reshape(info.shape)

    def release(self) -> None:
        """Return the pages to the operating system. Views stay valid and read the pages again when used."""
        if sys.platform == "linux":
            self._map.madvise(mmap.MADV_DONTNEED)
