"""Find the files of a checkpoint, and refuse those outside its folder.

A checkpoint is often downloaded from an untrusted source. A file name in its index or a symbolic link could
point outside the folder (``../../etc/passwd``), so both are refused if they do. The Hugging Face cache is
the one exception: there every file is a link from ``snapshots/`` to ``blobs/``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from eckart.checkpoint.foreign import convert_command, is_pickle_name
from eckart.documents import Document
from eckart.errors import CheckpointError
from eckart.strictjson import DOWNLOAD_AGAIN, cannot_read
from eckart.text import clip, count

SINGLE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"


@dataclass(frozen=True)
class Index:
    """The index of a checkpoint in several files.

    Parameters
    ----------
    weight_map : dict of str to str
        The name of a file by the name of a tensor.
    """

    weight_map: dict[str, str]


INDEX = Document(Index, "the index")


@dataclass(frozen=True)
class Located:
    """The files of a checkpoint.

    Parameters
    ----------
    folder : Path
        The folder that contains them.
    files : list of Path
        The safetensors files.
    weight_map : dict of str to Path, optional
        File by tensor name, if there is an index.
    notes : list of str
        Files that were ignored, one sentence each.
    """

    folder: Path
    files: list[Path]
    weight_map: dict[str, Path] | None = None
    notes: list[str] = field(default_factory=list)


def locate(path: Path) -> Located:
    """Find the files of a checkpoint.

    Parameters
    ----------
    path : Path
        A safetensors file, an index, or a folder.

    Returns
    -------
    Located
        The files, which exist if an index or a folder is given.

    Raises
    ------
    CheckpointError
        If there is no safetensors file, if there are several without an index, or if a file lies outside the
        folder.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(path)) if path.is_dir() else None
    except OSError as error:
        raise cannot_read(path, error) from error
    if names is None:
        if path.name.endswith(".index.json"):
            return _from_index(path)
        return Located(path.parent, [path])
    shards = [name for name in names if name.endswith(".safetensors")]
    indexes = [name for name in names if name.endswith(INDEX_SUFFIX)]
    if SINGLE in names:
        file = path / SINGLE
        check_link(path, file)
        others = [name for name in shards if name != SINGLE]
        notes = [f"{path}: {SINGLE} is read; ignored: {', '.join(others)}"] if others else []
        return Located(path, [file], notes=notes)
    if "model" + INDEX_SUFFIX in names:
        return _from_index(path / ("model" + INDEX_SUFFIX))
    if len(indexes) == 1:
        return _from_index(path / indexes[0])
    if len(shards) == 1:
        check_link(path, path / shards[0])
        return Located(path, [path / shards[0]])
    raise _ambiguous(path, names, shards)


def check_link(folder: Path, file: Path) -> None:
    """Raise if a file in a folder is a link to a file outside it, unless both are in the Hugging Face cache.

    Parameters
    ----------
    folder : Path
        The folder that the file must not leave.
    file : Path
        A file in the folder.

    Raises
    ------
    CheckpointError
        If the link leads out of the folder.
    """
    # os.path.realpath, because Path.resolve raises on a link that points to itself.
    target, root = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    if target.is_relative_to(root):
        return
    for parent in root.parents:
        if parent.name.startswith("models--") and target.is_relative_to(parent / "blobs"):
            return
    raise CheckpointError(
        str(file),
        f"this link leads out of its folder, to {target}",
        "If you trust it, replace the link with a copy of that file",
    )


def _from_index(path: Path) -> Located:
    folder = path.parent
    check_link(folder, path)
    weight_map = INDEX.read(path).weight_map
    if not weight_map:
        raise CheckpointError(str(path), "expected a weight_map with at least one tensor", DOWNLOAD_AGAIN)
    for name, shard in weight_map.items():
        if not _stays_inside(shard):
            raise CheckpointError(
                f"{path}: {clip(name)}",
                f"expected the name of a file in this folder, found {clip(repr(shard))}",
                "Do not use this checkpoint: download it from its author",
            )
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if not (folder / shard).exists()]
    if missing:
        raise CheckpointError(
            str(path),
            f"missing shards ({len(missing)} of {len(shards)}): {clip(', '.join(missing))}",
            "Download them into the same folder",
        )
    for shard in shards:
        check_link(folder, folder / shard)
    return Located(
        folder,
        [folder / shard for shard in shards],
        {name: folder / shard for name, shard in weight_map.items()},
    )


def _stays_inside(name: str) -> bool:
    # Windows rules apply on every system: a backslash separates folders, and C: is absolute.
    parts = PureWindowsPath(name)
    return (
        name.isprintable()
        and bool(parts.parts)
        and len(name.encode()) <= 255
        and not parts.anchor
        and "\\" not in name
        and ".." not in parts.parts
    )


def _ambiguous(folder: Path, names: list[str], shards: list[str]) -> CheckpointError:
    if shards:
        return CheckpointError(
            str(folder),
            f"expected {SINGLE} or an index, found {count(shards, 'file')} without an index: "
            f"{clip(', '.join(shards))}",
            f"Download model{INDEX_SUFFIX} too, or pass the path of one file",
        )
    pickles = [Path(name) for name in names if is_pickle_name(Path(name))]
    if pickles:
        return CheckpointError(
            str(folder),
            "expected a .safetensors file, found only pickles, which can run code when they are loaded: "
            f"{clip(', '.join(map(str, pickles)))}",
            f"Convert {pickles[0]}: {convert_command(pickles[0])}",
        )
    return CheckpointError(
        str(folder),
        f"expected a .safetensors file, found {clip(', '.join(names)) or 'an empty folder'}",
        f"Use the folder that holds {SINGLE}",
    )
