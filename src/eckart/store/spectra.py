"""The file with the known singular values of every tensor. It repeats what the tensors' own files hold.

Each array is compared with the checksum in its tensor's record. One that does not match is read from the
tensor's own file, so a store stays readable when this file is damaged, or newer than the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from eckart.arrays import Floats
from eckart.checkpoint import write_safetensors
from eckart.checkpoint.header import read_header
from eckart.checkpoint.mapping import MappedFile
from eckart.errors import CheckpointError, StoreError
from eckart.store.checksum import checksum_of
from eckart.store.factors import read_values
from eckart.store.files import REPAIR, SPECTRA
from eckart.store.record import TensorRecord
from eckart.text import clip


def read_spectra(folder: Path) -> dict[str, Floats]:
    """Return the arrays of the file by tensor name, unchecked; nothing if the file cannot be read."""
    path = folder / SPECTRA
    try:
        header = read_header(path)
        if not header.tensors:
            return {}
        file = MappedFile(path)
        return {name: np.array(file.array(info)) for name, info in header.tensors.items()}
    except CheckpointError:
        return {}


def is_intact(values: Floats | None, record: TensorRecord) -> bool:
    """Return whether an array has the number of values and the checksum that a record states."""
    if values is None or values.shape != (record.known,):
        return False
    return checksum_of({"values": values}) == record.values_checksum


def has_intact_spectra(folder: Path, records: Iterable[TensorRecord]) -> bool:
    """Return whether the file holds the values of every record that has some."""
    spectra = read_spectra(folder)
    return all(is_intact(spectra.get(record.name), record) for record in records if record.file)


def write_spectra(folder: Path, records: Iterable[TensorRecord], durable: bool) -> None:
    """Write the file, with the values of every record that has some.

    Raises
    ------
    StoreError
        If the values of a tensor are damaged.
    """
    old = read_spectra(folder)
    spectra: dict[str, Floats] = {}
    for record in records:
        if not record.file:
            continue
        values = old.get(record.name)
        if not is_intact(values, record):
            values = read_values(folder, record)
        if values is None:
            raise damaged(folder, record.name)
        spectra[record.name] = values
    if spectra:
        write_safetensors(folder / SPECTRA, spectra, durable=durable)
    else:
        (folder / SPECTRA).unlink(missing_ok=True)


def damaged(folder: Path, name: str) -> StoreError:
    """Return the error for a tensor whose data in a store is missing or damaged."""
    return StoreError(
        f"{folder}: {clip(name)}", "the stored data of this tensor is missing or damaged", REPAIR
    )
