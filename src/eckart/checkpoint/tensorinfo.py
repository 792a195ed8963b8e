"""The dtype, shape and location of one tensor, checked against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.dtypes import bits_of
from eckart.errors import CheckpointError
from eckart.strictjson import DOWNLOAD_AGAIN
from eckart.text import clip, count

MAX_DIMS = 64  # NumPy's limit
MAX_DIM = 2**63 - 1
# Names are compared by their parts, which takes time proportional to the square of the number of parts. The
# longest names of models on the Hub have about 150 characters and 20 parts.
MAX_NAME = 1000
MAX_PARTS = 64


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The dtype, shape and location of one tensor, without its data.

    Parameters
    ----------
    name : str
        Name of the tensor in the file.
    dtype : str
        Safetensors name of the dtype. It may be one that Eckart does not read.
    shape : tuple of int
        Shape of the tensor, ``()`` for a scalar.
    file : Path
        The file that holds the tensor.
    start, stop : int
        The tensor's byte range, as offsets from the start of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Number of bytes in the file."""
        return self.stop - self.start

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class HeaderEntry:
    """One entry of a header, as the file has it.

    Parameters
    ----------
    dtype : str
        Safetensors name of the dtype.
    shape : tuple of int
        Shape of the tensor.
    data_offsets : (int, int)
        The tensor's byte range, as offsets from the start of the data.
    """

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def locate_tensor(path: Path, name: str, entry: HeaderEntry, data_start: int) -> TensorInfo:
    """Check the numbers of one entry of a header against each other.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Name of the tensor.
    entry : HeaderEntry
        The entry.
    data_start : int
        Offset in bytes at which the data begins in the file.

    Returns
    -------
    TensorInfo
        The checked entry.

    Raises
    ------
    CheckpointError
        If the name is too long, a number is out of range, or shape, dtype and offsets are inconsistent. For
        a dtype that safetensors does not define, the number of bytes is not checked.
    """
    shape, (begin, end) = entry.shape, entry.data_offsets
    bits = bits_of(entry.dtype)
    if (
        defect_of_name(name)
        or len(shape) > MAX_DIMS
        or (shape and not 0 <= min(shape) <= max(shape) <= MAX_DIM)
        or (0 in shape and _extent(shape) > MAX_DIM)
        or not 0 <= begin <= end <= MAX_DIM
        or (bits is not None and math.prod(shape) * bits != (end - begin) * 8)
    ):
        raise CheckpointError(f"{path}: {clip(name)}", _defect(name, entry), DOWNLOAD_AGAIN)
    return TensorInfo(name, entry.dtype, shape, path, data_start + begin, data_start + end)


def defect_of_name(name: str) -> str:
    """Return what is wrong with the name of a tensor or a module; empty for a name within the limits.

    Parameters
    ----------
    name : str
        The name.
    """
    if len(name) > MAX_NAME:
        return f"the name has {len(name):,} characters, but the limit is {MAX_NAME:,}"
    parts = name.count(".") + 1
    if parts > MAX_PARTS:
        return f"the name has {parts:,} parts separated by dots, but the limit is {MAX_PARTS}"
    return ""


def _extent(shape: tuple[int, ...]) -> int:
    """Return the bytes that NumPy counts for an empty array of float64: those of the axes above 0."""
    return 8 * math.prod(n for n in shape if n)


def _defect(name: str, entry: HeaderEntry) -> str:
    """Return what is wrong with an entry."""
    shape, offsets = list(entry.shape), list(entry.data_offsets)
    if defect_of_name(name):
        return defect_of_name(name)
    for key, value in (("shape", shape), ("data_offsets", offsets)):
        if len(value) > MAX_DIMS or not all(0 <= n <= MAX_DIM for n in value):
            return (
                f"{key} must be a list of at most {MAX_DIMS} integers from 0 to 2**63 - 1, "
                f"found {clip(str(value))}"
            )
    if 0 in shape and _extent(entry.shape) > MAX_DIM:
        return f"a tensor of shape {clip(str(shape))} is larger than NumPy allows, although it is empty"
    begin, end = offsets
    if begin > end:
        return f"data_offsets must be [begin, end], found {clip(str(offsets))}"
    needed = clip(count(-(-math.prod(shape) * (bits_of(entry.dtype) or 0) // 8), "byte"))
    return (
        f"a tensor of shape {clip(str(shape))} and dtype {entry.dtype} needs {needed}, "
        f"found {end - begin:,} between its offsets"
    )
