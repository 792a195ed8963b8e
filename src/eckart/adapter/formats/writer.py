"""Writer: how a format lays an adapter out in files, before its numbers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.statement import Statement
from eckart.arrays import Array
from eckart.text import listing


@dataclass(frozen=True)
class FilePlan:
    """One safetensors file of an adapter.

    Parameters
    ----------
    path : Path
        Path within the adapter's folder; empty for a format of one file.
    groups : list of list of str
        Names of modules; those that share tensors form one group.
    fixed : dict of str to ndarray
        Tensors that are known in advance, by key.
    metadata : dict of str to str
        Metadata of the file's header.
    """

    path: Path
    groups: list[list[str]]
    fixed: dict[str, Array] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


class Writer(Protocol):
    """A format's layout of one adapter.

    Attributes
    ----------
    adapter : Adapter
        Its modules have the shapes and dtypes that will be written; they may be outlines.
    is_folder : bool
        Whether the format is a folder rather than one file.
    marker : str
        A file that every folder of this format holds. Only a folder that has it may be overwritten.
    notes : tuple of str
        What the format cannot store and leaves out, in sentences.
    """

    adapter: Adapter
    is_folder: bool
    marker: str
    notes: tuple[str, ...]

    def files(self) -> list[FilePlan]:
        """Return the files to write."""

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one group of modules by their keys.

        Parameters
        ----------
        modules : sequence of Module
            One of the groups of a `FilePlan`.

        Notes
        -----
        This is called twice for every group. The first calls get outlines, one group after another, and only
        the keys, shapes and dtypes of the result are used: they become the header of the file. The second
        calls get the modules with their numbers, from several threads at once and in any order. Both must
        return the same keys, shapes and dtypes, and the method must not change the writer.
        """

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Write the other files of the folder, configuration and statement, after all tensors.

        This is not called for a format of one file.
        """


def unknown_note(unknown: Mapping[str, Array]) -> tuple[str, ...]:
    """Return a note that lists the tensors of a file that were not understood; none if there are none."""
    if not unknown:
        return ()
    return (f"The file also holds {listing(unknown, 'tensor')} outside the low-rank updates",)


def left_out_note(unknown: Mapping[str, Array], format: str) -> tuple[str, ...]:
    """Return a note that lists the tensors which another format cannot store; none if there are none.

    Parameters
    ----------
    unknown : mapping of str to ndarray
        `Adapter.unknown`.
    format : str
        The format that is written.
    """
    if not unknown:
        return ()
    return (f"{listing(unknown, 'tensor')} left out: the {format} format stores low-rank updates only",)
