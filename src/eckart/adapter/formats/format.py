"""Format: one file format of adapters, as one entry of the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.writer import Writer


@dataclass(frozen=True)
class Format:
    """A file format of adapters.

    Parameters
    ----------
    name : str
        The name that users pass, e.g. ``"kohya"``.
    factor_key : Pattern
        Matches the whole of a key that holds a factor in this format, and in no other.
    read : callable
        Builds an `Adapter` from an `AdapterFile`.
    writer : callable, optional
        Builds a `Writer` for an `Adapter`; None for a format that is read only.
    is_folder : bool
        Whether it is written as a folder rather than as one ``.safetensors`` file.
    other_key : Pattern, optional
        Matches the start of a key that shows the format although it holds no factor of a LoRA.
    """

    name: str
    factor_key: re.Pattern[str]
    read: Callable[[AdapterFile], Adapter]
    writer: Callable[[Adapter], Writer] | None = None
    is_folder: bool = False
    other_key: re.Pattern[str] | None = None

    def is_factor(self, key: str) -> bool:
        """Whether a key holds a factor in this format."""
        return self.factor_key.fullmatch(key) is not None

    def is_format(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is in this format."""
        return any(
            self.is_factor(key) or (self.other_key is not None and self.other_key.match(key)) for key in keys
        )
