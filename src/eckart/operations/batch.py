"""A folder of adapters, taken one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from eckart.adapter.formats.peft.config import CONFIG
from eckart.adapter.formats.peft.pipeline import PIPELINE
from eckart.checkpoint import OutputFolder, refuse_overlap
from eckart.errors import AdapterError
from eckart.operations.resize import Resized, resize_to
from eckart.parallel import OnProgress


def resize_all(
    path: Path,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[str], OnProgress | None] | None = None,
    **how: Any,
) -> list[Resized]:
    """Resize an adapter, or every adapter of a folder: all of them, or none.

    Parameters
    ----------
    path, out : Path
        As in `adapters_in`.
    progress : callable, optional
        Asked, with an adapter's name, for the listener to its progress.
    **how
        Passed on to `resize_to`.
    """
    pairs = list(adapters_in(path, out))

    def listener(name: str) -> OnProgress | None:
        return None if progress is None else progress(name)

    if pairs == [(path, out)]:
        return [resize_to(path, out, overwrite=overwrite, progress=listener(path.name), **how)]
    refuse_overlap(out, [path])
    first = pairs[0][0]
    marker = os.path.join(first.name, CONFIG) if first.is_dir() else first.name
    done = []
    with OutputFolder(out, overwrite=overwrite, marker=marker) as staging:
        for source, target in pairs:
            made = resize_to(source, staging / source.name, progress=listener(source.name), **how)
            done.append(replace(made, path=target))
    return done


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
