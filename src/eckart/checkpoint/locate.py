"""Which files a checkpoint is made of, and which it must not reach.

A checkpoint is often a folder from a stranger, so that a file name in an index, or a symbolic link,
is a way out of it (``../../etc/passwd``). Names that lead out are refused, and so are links, but
for those of the Hugging Face cache, where every file is a link from ``snapshots/`` to ``blobs/``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from eckart.checkpoint.foreign import convert_command, is_pickle_name
from eckart.checkpoint.strictjson import AGAIN, cannot_read, parse_object, read_bytes
from eckart.errors import CheckpointError
from eckart.text import clip

SINGLE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"


@dataclass(frozen=True)
class Located:
    """The files of a checkpoint.

    Parameters
    ----------
    folder : Path
        Where it lies.
    files : list of Path
        Its safetensors files.
    weight_map : dict of str to Path, optional
        Tensor name to file, where an index says so.
    notes : list of str
        What was passed over, in sentences.
    """

    folder: Path
    files: list[Path]
    weight_map: dict[str, Path] | None = None
    notes: list[str] = field(default_factory=list)


def locate(path: Path) -> Located:
    """Find the files of a checkpoint, given a file, an index or a folder.

    Raises
    ------
    CheckpointError
        If there is none, if it is not clear which is meant, or if one lies outside the folder.
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
        notes = [f"{path}: {SINGLE} is read, not {', '.join(others)}"] if others else []
        return Located(path, [file], notes=notes)
    if "model" + INDEX_SUFFIX in names:
        return _from_index(path / ("model" + INDEX_SUFFIX))
    if len(indexes) == 1:
        return _from_index(path / indexes[0])
    if len(shards) == 1:
        check_link(path, path / shards[0])
        return Located(path, [path / shards[0]])
    raise _unclear(path, names, shards)


def check_link(folder: Path, file: Path) -> None:
    """Raise if a file of a folder is a link that leads out of it, the Hub's cache excepted."""
    # realpath, because Path.resolve raises on a link that points to itself
    target, root = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    if target.is_relative_to(root):
        return
    for parent in root.parents:
        if parent.name.startswith("models--") and target.is_relative_to(parent / "blobs"):
            return
    raise CheckpointError(
        str(file),
        f"it is a link that leads out of its folder, to {target}",
        "If you trust it, put a copy of that file in the place of the link",
    )


def _from_index(path: Path) -> Located:
    folder = path.parent
    check_link(folder, path)
    weight_map = parse_object(read_bytes(path), path, "the index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(str(path), "expected a weight_map with at least one tensor", AGAIN)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _stays_inside(shard):
            raise CheckpointError(
                f"{path}: {clip(name)}",
                f"expected the name of a file in this folder, found {clip(repr(shard))}",
                "Do not trust this checkpoint; download it from its author",
            )
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if not (folder / shard).exists()]
    if missing:
        raise CheckpointError(
            str(path),
            f"{len(missing)} of {len(shards)} shards are missing: {clip(', '.join(missing))}",
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
    # Judged by the rules of Windows too: there, a backslash parts folders and C: is absolute.
    parts = PureWindowsPath(name)
    return (
        name.isprintable()
        and bool(parts.parts)
        and len(name.encode()) <= 255
        and not parts.anchor
        and "\\" not in name
        and ".." not in parts.parts
    )


def _unclear(folder: Path, names: list[str], shards: list[str]) -> CheckpointError:
    if shards:
        return CheckpointError(
            str(folder),
            f"expected {SINGLE} or an index, found {len(shards)} files without one: "
            f"{clip(', '.join(shards))}",
            f"Download model{INDEX_SUFFIX} too, or give the path of one file",
        )
    pickles = [Path(name) for name in names if is_pickle_name(Path(name))]
    if pickles:
        return CheckpointError(
            str(folder),
            f"expected a .safetensors file, found only pickles: "
            f"{clip(', '.join(map(str, pickles)))}; loading a pickle can run its code",
            f"Convert it: {convert_command(pickles[0])}",
        )
    return CheckpointError(
        str(folder),
        f"expected a .safetensors file, found {clip(', '.join(names)) or 'an empty folder'}",
        f"Give the folder that holds {SINGLE}",
    )
