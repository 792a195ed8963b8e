"""Checkpoint: a file or a folder of safetensors as one mapping from name to tensor."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from eckart.checkpoint.dtypes import to_float
from eckart.checkpoint.header import Header, read_header
from eckart.checkpoint.locate import Located, check_link, locate
from eckart.checkpoint.mapping import map_tensor, prefetch_tensor
from eckart.checkpoint.order import natural_sort
from eckart.checkpoint.strictjson import parse_object, read_bytes
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import CheckpointError
from eckart.text import clip


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model on disk. Made by `Checkpoint.open`; holds no data and no open file.

    Parameters
    ----------
    path : Path
        What was opened.
    folder : Path
        The folder it lies in.
    tensors : dict of str to TensorInfo
        By name, in natural order: layer 2 comes before layer 10.
    config : dict
        The ``config.json`` beside the tensors, ``{}`` where there is none.
    files : list of Path
        The safetensors files.
    metadata : dict of str to str
        The ``__metadata__`` of the files; where two differ, that of the first file.
    notes : list of str
        What was tolerated, in sentences.
    headers : dict of Path to Header
        What each file said when it was opened.
    """

    path: Path
    folder: Path
    tensors: dict[str, TensorInfo]
    config: dict[str, Any]
    files: list[Path]
    metadata: dict[str, str]
    notes: list[str]
    headers: dict[Path, Header]

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Open a checkpoint: read the headers, check them, touch no data.

        Parameters
        ----------
        path : str or Path
            A ``.safetensors`` file, an ``.index.json``, or a folder that holds
            ``model.safetensors``, an index with its shards, or one other ``.safetensors`` file.

        Raises
        ------
        CheckpointError
            If a file is missing, damaged, of another format, or outside the folder.

        Examples
        --------
        >>> checkpoint = Checkpoint.open("base")  # doctest: +SKIP
        >>> checkpoint.map("lm_head.weight").shape  # doctest: +SKIP
        (32000, 4096)
        """
        path = Path(path)
        located = locate(path)
        headers = {file: read_header(file) for file in located.files}
        tensors = _merge(headers)
        notes = located.notes + _check_index(path, located, tensors)
        metadata: dict[str, str] = {}
        for header in headers.values():
            metadata = {**header.metadata, **metadata}
        return cls(
            path=path,
            folder=located.folder,
            tensors={name: tensors[name] for name in natural_sort(tensors)},
            config=_read_config(located.folder),
            files=located.files,
            metadata=metadata,
            notes=notes,
            headers=headers,
        )

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __len__(self) -> int:
        return len(self.tensors)

    def names(self) -> tuple[str, ...]:
        """Give the names of all tensors, in natural order."""
        return tuple(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """Give the dtype, shape and place of a tensor; CheckpointError if there is none."""
        if name not in self.tensors:
            close = difflib.get_close_matches(name, self.tensors, n=3)
            hint = f"Did you mean {' or '.join(close)}" if close else "See Checkpoint.names()"
            raise CheckpointError(f"{self.path}: {clip(name)}", "there is no such tensor", hint)
        return self.tensors[name]

    def map(self, name: str) -> NDArray[Any]:
        """Map a tensor into memory, read-only, in its stored dtype and shape; see `map_tensor`."""
        return map_tensor(self.info(name))

    def read_float(self, name: str) -> NDArray[Any]:
        """Give a tensor as float32, or float64 where it is stored so; see `to_float`."""
        return to_float(self.map(name))

    def prefetch(self, name: str) -> None:
        """Ask the operating system to read a tensor ahead; does nothing where it cannot."""
        prefetch_tensor(self.info(name))

    def fingerprint(self) -> dict[str, Any]:
        """Describe the files as they were when opened, to tell later whether they have changed.

        Returns
        -------
        dict
            ``{"files": [{"name", "size", "mtime_ns", "header"}, ...]}``, fit for JSON; ``header``
            is the SHA-256 of the header.

        Notes
        -----
        The data itself is not hashed: a change that keeps size and time goes unseen.
        """
        return {
            "files": [
                {
                    "name": file.relative_to(self.folder).as_posix(),
                    "size": header.size,
                    "mtime_ns": header.mtime_ns,
                    "header": header.digest,
                }
                for file, header in self.headers.items()
            ]
        }


def _merge(headers: dict[Path, Header]) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for file, header in headers.items():
        for name, info in header.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{file}: {clip(name)}",
                    f"the same tensor is in {tensors[name].file.name} too",
                    "Download the checkpoint again, into an empty folder",
                )
            tensors[name] = info
    return tensors


def _check_index(path: Path, located: Located, tensors: dict[str, TensorInfo]) -> list[str]:
    if located.weight_map is None:
        return []
    for name, file in located.weight_map.items():
        if name not in tensors or tensors[name].file != file:
            raise CheckpointError(
                f"{file}: {clip(name)}",
                "the index says that this file holds the tensor, and it does not",
                "Download the index and its shards again, from one revision",
            )
    extra = natural_sort(tensors.keys() - located.weight_map.keys())
    if not extra:
        return []
    shown = clip(", ".join(extra[:5]))
    return [f"{path}: in the shards and not in the index ({len(extra)}): {shown}"]


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        return {}
    check_link(folder, file)
    return parse_object(read_bytes(file), file, "the configuration", unique=False)
