"""AdapterFile: the tensors of one adapter file, mapped once and checked as they are taken."""

from __future__ import annotations

import math
from pathlib import Path

from eckart.adapter.adapter import Array
from eckart.checkpoint import Checkpoint, all_finite, is_float
from eckart.checkpoint.mapping import MappedFile
from eckart.errors import AdapterError


class AdapterFile:
    """A safetensors file of an adapter.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        If it is not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._file = Checkpoint.open(path)
        self._map = MappedFile(path) if len(self._file) else None
        self.path = path
        self.keys = self._file.names()
        self.metadata = self._file.metadata

    def where(self, key: str) -> str:
        """Return the file and a key in it, for a message."""
        return f"{self.path}: {key}"

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._file.info(key).shape

    def raw(self, key: str) -> Array:
        """Map a tensor, whatever it holds."""
        assert self._map is not None
        return self._map.array(self._file.info(key))

    def array(self, key: str) -> Array:
        """Map a tensor; raise if it is not made of finite numbers."""
        array = self.raw(key)
        if not is_float(array.dtype):
            raise AdapterError(self.where(key), f"expected floating numbers, found {array.dtype}")
        if not all_finite(array):
            raise AdapterError(self.where(key), "holds a NaN or an infinity", "Make the adapter again")
        return array

    def number(self, key: str) -> float:
        """Read a tensor of one number, e.g. an alpha."""
        array = self.raw(key)
        if array.size != 1 or array.dtype == bool:
            raise AdapterError(self.where(key), f"expected one number, found shape {array.shape}")
        number = float(array.reshape(-1)[0])
        if not math.isfinite(number):
            raise AdapterError(self.where(key), f"is {number}, expected a finite number")
        return number

    def release(self) -> None:
        """Give back the memory of the pages that were read; see `MappedFile.release`."""
        if self._map is not None:
            self._map.release()
