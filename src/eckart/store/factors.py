"""The file of one tensor: its known singular values and its factors, checked on reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eckart.arrays import Array, Floats
from eckart.checkpoint import write_safetensors
from eckart.checkpoint.header import read_header
from eckart.checkpoint.mapping import map_tensor
from eckart.errors import CheckpointError
from eckart.linalg import LowRank
from eckart.store.checksum import checksum_of
from eckart.store.files import factor_file
from eckart.store.record import TensorRecord
from eckart.workers import writing

KEYS = {"values", "U", "Vh"}


def write_factors(
    folder: Path, name: str, factors: LowRank | None, values: Floats, durable: bool = True
) -> tuple[str, str]:
    """Write the known singular values of a tensor and, if there are any, its factors.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    name : str
        Name of the tensor.
    factors : LowRank or None
        The factors.
    values : ndarray (k,), float64
        The known singular values.
    durable : bool
        Whether to wait until the file has reached the disk.

    Returns
    -------
    (str, str)
        The checksums of the values and of the factors, computed before writing. The second is empty if there
        are no factors.
    """
    arrays: dict[str, Array] = {"values": np.ascontiguousarray(values)}
    sums = (checksum_of(arrays), "")
    if factors is not None:
        sides = {"U": np.ascontiguousarray(factors.U), "Vh": np.ascontiguousarray(factors.Vh)}
        arrays |= sides
        sums = (sums[0], checksum_of(sides))
    path = folder / factor_file(name, *sums)
    # A tensor that is factored again often gives the same bytes. A reader may have mapped them.
    if _read(path, *sums) is None:
        with writing():
            write_safetensors(path, arrays, durable=durable)
    return sums


def read_values(folder: Path, record: TensorRecord) -> Floats | None:
    """Return the known singular values of a tensor from its file; None if they are missing or damaged."""
    arrays = _read(folder / record.file, record.values_checksum, None)
    if arrays is None or arrays["values"].shape != (record.known,):
        return None
    return np.array(arrays["values"])


def read_factors(folder: Path, record: TensorRecord, *, is_verified: bool = False) -> dict[str, Array] | None:
    """Return the arrays of a tensor's file, mapped; None if the file is missing or damaged.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    record : TensorRecord
        What the store holds of the tensor.
    is_verified : bool
        Whether the checksums were compared before, so that they need not be compared again.

    Returns
    -------
    dict of str to ndarray, or None
        ``values`` and, if the store holds factors, ``U`` and ``Vh``.
    """
    path = folder / record.file
    if is_verified:
        return _mapped(path)
    return _read(path, record.values_checksum, record.factors_checksum)


def is_factor_file(path: Path) -> bool:
    """Return whether a file holds the singular values of a tensor, and nothing but them and factors."""
    try:
        names = read_header(path).tensors.keys()
    except CheckpointError:
        return False
    return "values" in names and names <= KEYS


def _read(path: Path, values: str, factors: str | None) -> dict[str, Array] | None:
    """Return the mapped arrays if they have these checksums; `factors=None` leaves the factors unchecked."""
    arrays = _mapped(path)
    if arrays is None or "values" not in arrays or checksum_of({"values": arrays["values"]}) != values:
        return None
    if factors is not None:
        sides = {name: array for name, array in arrays.items() if name != "values"}
        if (checksum_of(sides) if sides else "") != factors:
            return None
    return arrays


def _mapped(path: Path) -> dict[str, Array] | None:
    try:
        return {name: map_tensor(info) for name, info in read_header(path).tensors.items()}
    except CheckpointError:
        return None
