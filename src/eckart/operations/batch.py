"""Resize a folder of adapters: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from eckart.adapter.formats.peft.config import CONFIG
from eckart.adapter.formats.peft.pipeline import PIPELINE
from eckart.checkpoint import OutputFolder, refuse_overlap
from eckart.errors import AdapterError
from eckart.operations.resize import Resized, resize
from eckart.parallel import OnProgress
from eckart.rank import RankRule
from eckart.serving.consumers import ConsumerNames


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
    progress: Callable[[str], OnProgress | None] | None = None,
) -> list[Resized]:
    """Resize one adapter or every adapter of a folder. If one fails, nothing is written.

    Parameters
    ----------
    path : str or Path
        An adapter, or a folder whose entries are adapters.
    out : str or Path
        Where to write: an adapter for one, a folder of adapters of the same names for several.
    rule, dtype, format, consumers, base, overwrite, workers
        As for `resize`.
    progress : callable, optional
        Called with the name of each adapter; returns the function that receives its progress.

    Returns
    -------
    list of Resized
        In the order of the adapters' names.

    Raises
    ------
    InputError
        As for `resize`. Also if there is nothing at `path`.
    """
    path, out = Path(path), Path(out)
    pairs = list(adapters_in(path, out))

    def resize_one(source: Path, target: Path, overwrite: bool) -> Resized:
        listener = None if progress is None else progress(source.name)
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

    if pairs == [(path, out)]:
        return [resize_one(path, out, overwrite)]
    refuse_overlap(out, [path])
    first = pairs[0][0]
    marker = os.path.join(first.name, CONFIG) if first.is_dir() else first.name
    results = []
    with OutputFolder(out, overwrite=overwrite, marker=marker) as staging:
        for source, target in pairs:
            resized = resize_one(source, staging / source.name, overwrite=False)
            results.append(replace(resized, path=target))
    return results


def adapters_in(path: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the adapters of a folder, each with the path of its result.

    Parameters
    ----------
    path : Path
        An adapter, or a folder whose entries are PEFT folders or ``.safetensors`` files.
    out : Path
        The path of the result for one adapter; for several, the folder of the results.

    Yields
    ------
    (Path, Path)
        An adapter and the path of its result.

    Raises
    ------
    AdapterError
        If there is nothing at `path`.
    """
    if not path.exists():
        raise AdapterError(str(path), "there is no such file or folder", "Check the path")
    entries = sorted(path.iterdir()) if path.is_dir() and not (path / CONFIG).is_file() else []
    folders = [entry for entry in entries if entry.is_dir() and (entry / CONFIG).is_file()]
    files = [entry for entry in entries if entry.is_file() and entry.suffix == ".safetensors"]
    if len(folders) + len(files) < 2 or {folder.name for folder in folders} & PIPELINE:
        yield path, out
        return
    for entry in folders + files:
        yield entry, out / entry.name
