"""A tensor's bytes as an array, without reading them: the file is mapped into memory."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.strictjson import clip
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import CheckpointError


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
    where = f"{info.file}: {clip(info.name)}"
    if info.dtype not in DTYPES:
        raise CheckpointError(
            where,
            f"expected one of {', '.join(DTYPES)}, found {clip(info.dtype)}",
            "Dequantise the checkpoint, or save it as BF16",
        )
    dtype = DTYPES[info.dtype]
    try:
        if info.nbytes == 0:  # no operating system maps zero bytes
            empty = np.empty(info.shape, dtype)
            empty.flags.writeable = False
            return empty
        region = np.memmap(info.file, dtype, mode="r", offset=info.start, shape=info.shape)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            where,
            f"shape {info.shape} cannot be mapped ({error})",
            "If the file was changed since it was opened, open it again",
        ) from error
    return region.view(np.ndarray)


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
