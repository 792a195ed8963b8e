"""Resize a folder of adapters: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from eckart.adapter.formats.peft.pipeline import PIPELINE
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.adapter.formats.streaming import ADAPTER_FILE
from eckart.checkpoint import OutputFolder, refuse_overlap
from eckart.errors import AdapterError
from eckart.operations.resize import Resized, resize
from eckart.parallel import OnProgress
from eckart.paths import input_path, user_path
from eckart.rank import RankRule
from eckart.serving.consumers import ConsumerNames


@dataclass(frozen=True)
class Batch:
    """The result of `resize_all`.

    Parameters
    ----------
    is_single : bool
        Whether the input was one adapter. Then the output is one adapter too, rather than a folder of them.
    results : tuple of Resized
        In the order of the adapters' names, PEFT folders before files.
    """

    is_single: bool
    results: tuple[Resized, ...]


def resize_all(
    path: str | Path,
    out: str | Path,
    *,
    rule: RankRule,
    dtype: str | None = None,
    format: str | None = None,
    consumers: ConsumerNames = (),
    base: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress_for: Callable[[str], OnProgress | None] | None = None,
) -> Batch:
    """Resize one adapter or every adapter of a folder. If one fails, nothing is written.

    Parameters
    ----------
    path : str or Path
        An adapter, or a folder whose entries are adapters.
    out : str or Path
        Where to write: an adapter for one, a folder of adapters of the same names for several.
    rule, dtype, format, consumers, base, overwrite, workers
        As for `resize`.
    progress_for : callable, optional
        Called with the name of each adapter; returns the function that receives its progress.

    Returns
    -------
    Batch

    Raises
    ------
    InputError
        As for `resize`. Also if there is nothing at `path`.
    """
    path, out = input_path(path), user_path(out)
    sources = adapters_in(path)

    def resize_one(source: Path, target: Path, overwrite: bool) -> Resized:
        listener = None if progress_for is None else progress_for(source.name)
        return resize(
            source,
            target,
            rule=rule,
            dtype=dtype,
            format=format,
            consumers=consumers,
            base=base,
            overwrite=overwrite,
            workers=workers,
            progress=listener,
        )

    if not sources:
        return Batch(is_single=True, results=(resize_one(path, out, overwrite),))
    refuse_overlap(out, [path])
    first = sources[0]
    marker = os.path.join(first.name, CONFIG) if first.is_dir() else first.name
    results = []
    kind = None if first.is_dir() else ADAPTER_FILE
    with OutputFolder(out, overwrite=overwrite, marker=marker, kind=kind) as staging:
        for source in sources:
            resized = resize_one(source, staging / source.name, overwrite=False)
            results.append(replace(resized, path=out / source.name))
    return Batch(is_single=False, results=tuple(results))


def adapters_in(path: Path) -> list[Path]:
    """Return the adapters of a folder that holds several; none if the path is itself one adapter.

    Parameters
    ----------
    path : Path
        An adapter, or a folder whose entries are PEFT folders or ``.safetensors`` files.

    Returns
    -------
    list of Path
        PEFT folders first, then files, each in the order of their names. Empty for one adapter.

    Raises
    ------
    AdapterError
        If there is nothing at `path`.
    """
    if not path.exists():
        raise AdapterError(str(path), "there is no such file or folder", "Check the path")
    if not path.is_dir() or (path / CONFIG).is_file():
        return []
    entries = sorted(path.iterdir())
    folders = [entry for entry in entries if entry.is_dir() and (entry / CONFIG).is_file()]
    files = [entry for entry in entries if entry.is_file() and entry.suffix == ".safetensors"]
    is_pipeline = not PIPELINE.isdisjoint(folder.name for folder in folders)
    return [] if is_pipeline or len(folders) + len(files) < 2 else folders + files
