"""TensorInfo: what a header says of one tensor, checked against itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eckart.checkpoint.dtypes import bits_of
from eckart.checkpoint.strictjson import AGAIN
from eckart.errors import CheckpointError
from eckart.text import clip

MAX_DIMS = 64  # the limit of NumPy
MAX_DIM = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies and what it is; no data.

    Parameters
    ----------
    name : str
        Its name in the file.
    dtype : str
        The safetensors name of the dtype, which may be one that Eckart does not read.
    shape : tuple of int
        Its shape, ``()`` for a scalar.
    file : Path
        The file that holds it.
    start, stop : int
        Its bytes, as offsets from the start of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.stop - self.start

    @property
    def size(self) -> int:
        """Count of numbers."""
        return math.prod(self.shape)


def parse_entry(path: Path, name: str, entry: object, data: int) -> TensorInfo:
    """Check one entry of a header, by itself.

    Parameters
    ----------
    path, name : Path, str
        The file and the tensor, for the messages.
    entry : object
        What the header holds under `name`.
    data : int
        Where the data begins in the file.

    Raises
    ------
    CheckpointError
        If a field is missing or of another type, or if shape, dtype and offsets disagree. The size
        of a dtype that safetensors does not define is not checked.
    """
    where = f"{path}: {clip(name)}"
    if not isinstance(entry, dict):
        raise CheckpointError(where, f"expected a JSON object, found a {type(entry).__name__}", AGAIN)
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            raise CheckpointError(where, f"its entry has no {key}", AGAIN)
    dtype = entry["dtype"]
    if not isinstance(dtype, str):
        raise CheckpointError(where, f"dtype must be a string, found {_show(dtype)}", AGAIN)
    shape = _integers(where, "shape", entry["shape"])
    offsets = _integers(where, "data_offsets", entry["data_offsets"])
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            where, f"data_offsets must be [begin, end], found {_show(list(offsets))}", AGAIN
        )
    begin, end = offsets
    bits = bits_of(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        expected = clip(f"{-(-math.prod(shape) * bits // 8):,}")
        raise CheckpointError(
            where,
            f"shape {_show(list(shape))} of {dtype} takes {expected} bytes, "
            f"found {end - begin:,} between its offsets",
            AGAIN,
        )
    return TensorInfo(name, dtype, shape, path, data + begin, data + end)


def _integers(where: str, key: str, found: object) -> tuple[int, ...]:
    # type(n), because bool is an int in Python, and true is no number in JSON
    if (
        isinstance(found, list)
        and len(found) <= MAX_DIMS
        and all(type(n) is int and 0 <= n <= MAX_DIM for n in found)
    ):
        return tuple(found)
    raise CheckpointError(
        where,
        f"{key} must be a list of at most {MAX_DIMS} integers from 0 to 2**63 - 1, found {_show(found)}",
        AGAIN,
    )


def _show(found: Any) -> str:
    return clip(repr(found))
