"""A folder of adapters, taken one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eckart.adapter.formats.peftconfig import CONFIG
from eckart.adapter.formats.pipeline import PIPELINE
from eckart.errors import AdapterError


def adapters_in(path: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Give the adapters of a folder, each with the place of its result in another folder.

    Parameters
    ----------
    path : Path
        An adapter, or a folder whose entries are PEFT folders or ``.safetensors`` files.
    out : Path
        The result's place for one adapter; a folder of the same names for several.

    Raises
    ------
    AdapterError
        If the folder holds no adapter.
    """
    if not path.exists():
        raise AdapterError(str(path), "there is no such file or folder", "Check the path")
    entries = sorted(path.iterdir()) if path.is_dir() and not (path / CONFIG).is_file() else []
    folders = [e for e in entries if e.is_dir() and (e / CONFIG).is_file()]
    files = [e for e in entries if e.is_file() and e.suffix == ".safetensors"]
    if len(folders) + len(files) < 2 or {f.name for f in folders} & PIPELINE:
        yield path, out
        return
    for entry in folders + files:
        yield entry, out / entry.name
