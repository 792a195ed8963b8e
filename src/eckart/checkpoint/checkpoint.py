"""A checkpoint on disk as one mapping from tensor name to tensor, whether it is one file or many shards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eckart.arrays import Array
from eckart.checkpoint.dtypes import to_float
from eckart.checkpoint.header import Header, read_header
from eckart.checkpoint.locate import Located, check_link, locate
from eckart.checkpoint.mapping import map_tensor, prefetch_tensor
from eckart.checkpoint.order import natural_sort
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.documents import Document
from eckart.errors import CheckpointError
from eckart.oserrors import reading
from eckart.paths import input_path
from eckart.strictjson import JsonObject, cannot_read, parse_object, read_bytes
from eckart.text import clip, count, preview


@dataclass(frozen=True)
class ModelConfig:
    """The entries of ``config.json`` by which Eckart recognises a model. Others are kept, unchecked.

    Parameters
    ----------
    model_type : str, optional
    architectures : list of str, optional
    tie_word_embeddings, is_encoder_decoder : bool, optional
    """

    model_type: str | None = None
    architectures: list[str] | None = None
    tie_word_embeddings: bool | None = None
    is_encoder_decoder: bool | None = None


CONFIG = Document(ModelConfig, "the configuration")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model on disk. Use `Checkpoint.open` to create one.

    It holds neither tensor data nor open files.

    Parameters
    ----------
    path : Path
        The path that was opened.
    folder : Path
        The folder that contains the files.
    tensors : dict of str to TensorInfo
        Tensors by name, in natural order: layer 2 comes before layer 10.
    config : dict
        The contents of ``config.json`` in the same folder, or ``{}`` if there is none.
    files : list of Path
        The safetensors files.
    metadata : dict of str to str
        The ``__metadata__`` of all files. If two files disagree on a key, the first one wins.
    notes : list of str
        Irregularities that were tolerated, one sentence each.
    headers : dict of Path to Header
        The header of each file, as it was when the checkpoint was opened.
    """

    path: Path
    folder: Path
    tensors: dict[str, TensorInfo]
    config: JsonObject
    files: list[Path]
    metadata: dict[str, str]
    notes: list[str]
    headers: dict[Path, Header]

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Open a checkpoint by reading and checking its headers, without reading any tensor data.

        Parameters
        ----------
        path : str or Path
            A ``.safetensors`` file, an ``.index.json`` file, or a folder that holds
            ``model.safetensors``, an index with its shards, or one other ``.safetensors`` file.

        Returns
        -------
        Checkpoint

        Raises
        ------
        CheckpointError
            If a file is missing, damaged, in another format, or outside the folder.

        Examples
        --------
        >>> checkpoint = Checkpoint.open("base")  # doctest: +SKIP
        >>> checkpoint.map("lm_head.weight").shape  # doctest: +SKIP
        (32000, 4096)
        """
        with reading(path, CheckpointError):
            return cls._open(input_path(path))

    @classmethod
    def _open(cls, path: Path) -> Checkpoint:
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
        """Return the names of all tensors, in natural order."""
        return tuple(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """Return the dtype, shape and location of a tensor.

        Parameters
        ----------
        name : str
            Name of the tensor.

        Returns
        -------
        TensorInfo
            Description of the tensor, without its data.

        Raises
        ------
        CheckpointError
            If the checkpoint has no tensor of this name. The message suggests similar names.
        """
        if name not in self.tensors:
            close = difflib.get_close_matches(name, self.tensors, n=3)
            fix = f"Did you mean {' or '.join(close)}" if close else "Use a name from Checkpoint.names()"
            raise CheckpointError(f"{self.path}: {clip(name)}", "there is no such tensor", fix)
        return self.tensors[name]

    def map(self, name: str) -> Array:
        """Map a tensor into memory, read-only, in its stored dtype and shape. See `map_tensor`.

        Parameters
        ----------
        name : str
            Name of the tensor.
        """
        return map_tensor(self.info(name))

    def read_float(self, name: str) -> Array:
        """Return a tensor as float32, or as float64 if that is its stored dtype. See `to_float`.

        Parameters
        ----------
        name : str
            Name of the tensor.
        """
        return to_float(self.map(name))

    def prefetch(self, name: str) -> None:
        """Ask the operating system to read a tensor ahead. See `prefetch_tensor`.

        Parameters
        ----------
        name : str
            Name of the tensor.
        """
        prefetch_tensor(self.info(name))

    def fingerprint(self) -> JsonObject:
        """Describe the files as they were when opened, so that a later change can be detected.

        Returns
        -------
        dict
            A JSON object ``{"files": [{"name", "size", "mtime_ns", "header"}, ...]}``, where ``header``
            is the SHA-256 of the file's header.

        Notes
        -----
        The tensor data is not hashed, so a change that preserves size and modification time is not detected.
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

    def check_unchanged(self, files: Iterable[Path] | None = None) -> None:
        """Raise if a file has changed since the checkpoint was opened; call it after reading tensors.

        Parameters
        ----------
        files : iterable of Path, optional
            Some of `files`; all of them by default.

        Raises
        ------
        CheckpointError
            If the size, the modification time or the inode of a file differs. The message names the file.
        """
        for file in self.files if files is None else files:
            opened = self.headers[file]
            try:
                now = file.stat()
            except OSError as error:
                raise cannot_read(file, error) from error
            if (now.st_size, now.st_mtime_ns, now.st_ino) != (opened.size, opened.mtime_ns, opened.inode):
                raise CheckpointError(
                    str(file),
                    "the file has changed while it was being read",
                    "Run the command again when no program writes to this file",
                )


def _merge(headers: dict[Path, Header]) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for file, header in headers.items():
        for name, info in header.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{file}: {clip(name)}",
                    f"the same tensor is also in {tensors[name].file.name}",
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
                "the index assigns the tensor to this file, but the file does not hold it",
                "Download the index and all shards again, from the same revision",
            )
    extra = natural_sort(tensors.keys() - located.weight_map.keys())
    if not extra:
        return []
    return [f"{path}: the index does not list {count(extra, 'tensor')} in the shards: {preview(extra, 5)}"]


def _read_config(folder: Path) -> JsonObject:
    file = folder / "config.json"
    if not file.exists():
        return {}
    check_link(folder, file)
    # Configurations hold infinities (Mamba) and repeated keys; no program reads tensors by them.
    config = parse_object(read_bytes(file), file, "the configuration", unique=False, finite=False)
    CONFIG.convert(config, str(file))
    return config
