"""FilePlan: what one file of an adapter will hold, before its numbers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from eckart.adapter.adapter import Array, Module
from eckart.adapter.statement import Statement


@dataclass(frozen=True)
class FilePlan:
    """One safetensors file.

    Parameters
    ----------
    path : Path
        Within the adapter's folder; for a format of one file, empty.
    groups : list of list of str
        Names of modules, those together that share tensors.
    fixed : dict of str to ndarray
        Tensors that are there already.
    metadata : dict of str to str
    """

    path: Path
    groups: list[list[str]]
    fixed: dict[str, Array] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


class Writer(Protocol):
    """A format's way to lay an adapter out."""

    adapter: Any  # Adapter, its modules as they will be in shape and dtype
    folder: bool  # whether the format is a folder, or one file
    marker: str  # a file that a folder of this format holds, so that it may be overwritten

    def files(self) -> list[FilePlan]:
        """Return the files."""

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one group of modules by their keys."""

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Write what comes beside the tensors."""
