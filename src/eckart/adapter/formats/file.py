"""AdapterFile: the tensors of one adapter file, mapped once and checked when they are read."""

from __future__ import annotations

import math
from pathlib import Path

from eckart.arrays import Array
from eckart.checkpoint import Checkpoint, all_finite, is_float
from eckart.checkpoint.mapping import MappedFile
from eckart.errors import AdapterError


class AdapterFile:
    """A safetensors file of an adapter.

    Parameters
    ----------
    path : Path
        The file.

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

    @property
    def mapped(self) -> tuple[MappedFile, ...]:
        """The mapped file, for `Adapter.files`; none for a file without tensors."""
        return () if self._map is None else (self._map,)

    def where(self, key: str) -> str:
        """Return the file and a key in it, for a message."""
        return f"{self.path}: {key}"

    def raw(self, key: str) -> Array:
        """Map a tensor without checking it."""
        assert self._map is not None
        return self._map.array(self._file.info(key))

    def array(self, key: str) -> Array:
        """Map a tensor of finite numbers.

        Raises
        ------
        AdapterError
            If its dtype is not a floating one, or it holds a NaN or an infinity.
        """
        array = self.raw(key)
        if not is_float(array.dtype):
            raise AdapterError(
                self.where(key),
                f"expected a floating dtype, found {array.dtype}",
                "Use the adapter as it was trained, before any quantisation",
            )
        if not all_finite(array):
            raise AdapterError(
                self.where(key),
                "expected finite numbers, found a NaN or an infinity",
                "Download the adapter again; if that does not help, its training diverged",
            )
        return array

    def number(self, key: str) -> float:
        """Read a tensor of one finite number, e.g. an alpha.

        Raises
        ------
        AdapterError
            If it holds several numbers, none, or one that is not finite.
        """
        array = self.raw(key)
        if array.size != 1 or array.dtype == bool:
            raise AdapterError(self.where(key), f"expected one number, found shape {array.shape}")
        number = float(array.reshape(-1)[0])
        if not math.isfinite(number):
            raise AdapterError(self.where(key), f"expected a finite number, found {number}")
        return number
