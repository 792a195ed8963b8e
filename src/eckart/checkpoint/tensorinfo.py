"""The dtype, shape and location of one tensor, parsed from a safetensors header."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.dtypes import bits_of
from eckart.checks import is_whole_number
from eckart.errors import CheckpointError
from eckart.strictjson import DOWNLOAD_AGAIN, json_kind
from eckart.text import clip, count

MAX_DIMS = 64  # NumPy's limit
MAX_DIM = 2**63 - 1


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


def parse_entry(path: Path, name: str, entry: object, data_start: int) -> TensorInfo:
    """Parse and check one entry of a header.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Name of the tensor.
    entry : object
        The value of the key `name` in the header.
    data_start : int
        Offset in bytes at which the data begins in the file.

    Returns
    -------
    TensorInfo
        The checked entry.

    Raises
    ------
    CheckpointError
        If a field is missing or has the wrong type, or if shape, dtype and offsets are inconsistent. For
        a dtype that safetensors does not define, the number of bytes is not checked.
    """
    where = f"{path}: {clip(name)}"
    if not isinstance(entry, dict):
        raise CheckpointError(where, f"expected a JSON object, found {json_kind(entry)}", DOWNLOAD_AGAIN)
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            raise CheckpointError(where, f"the header entry has no {key}", DOWNLOAD_AGAIN)
    dtype = entry["dtype"]
    if not isinstance(dtype, str):
        raise CheckpointError(where, f"dtype must be a string, found {_show(dtype)}", DOWNLOAD_AGAIN)
    shape = _integers(where, "shape", entry["shape"])
    offsets = _integers(where, "data_offsets", entry["data_offsets"])
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            where, f"data_offsets must be [begin, end], found {_show(list(offsets))}", DOWNLOAD_AGAIN
        )
    begin, end = offsets
    bits = bits_of(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        needed = clip(count(-(-math.prod(shape) * bits // 8), "byte"))
        raise CheckpointError(
            where,
            f"a tensor of shape {_show(list(shape))} and dtype {dtype} needs {needed}, "
            f"found {end - begin:,} between its offsets",
            DOWNLOAD_AGAIN,
        )
    return TensorInfo(name, dtype, shape, path, data_start + begin, data_start + end)


def _integers(where: str, key: str, value: object) -> tuple[int, ...]:
    if (
        isinstance(value, list)
        and len(value) <= MAX_DIMS
        and all(is_whole_number(n, 0, MAX_DIM) for n in value)
    ):
        return tuple(value)
    raise CheckpointError(
        where,
        f"{key} must be a list of at most {MAX_DIMS} integers from 0 to 2**63 - 1, found {_show(value)}",
        DOWNLOAD_AGAIN,
    )


def _show(value: object) -> str:
    return clip(repr(value))
