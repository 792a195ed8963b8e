"""The journal of an unfinished pass: one JSON line per tensor, appended when the tensor is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eckart.checkpoint import Checkpoint, write_json, write_safetensors
from eckart.checkpoint.strictjson import JsonObject
from eckart.store.files import FORMAT, JOURNAL, MANIFEST, SPECTRA, check_sources, factor_file
from eckart.store.record import TensorRecord


@dataclass(frozen=True)
class StoredState:
    """What a store on disk knows, from its journal or its manifest.

    Parameters
    ----------
    sources : dict
        The checkpoints of the pass, as `PairSources.describe` returns them.
    records : dict of str to TensorRecord
        The finished tensors, and earlier records of those that are being replaced.
    stale : set of str
        Names of the tensors that were being replaced and are not finished.
    """

    sources: JsonObject
    records: dict[str, TensorRecord]
    stale: set[str]


class Journal:
    """The journal of a store.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    durable : bool
        Whether to wait until each line has reached the disk.
    """

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self.path, self.durable = folder / JOURNAL, durable

    def read(self) -> StoredState:
        """Read the journal. A line that a crash truncated, and all lines after it, are ignored."""
        lines = []
        for line in self.path.read_bytes().split(b"\n")[:-1]:
            try:
                lines.append(json.loads(line))
            except (ValueError, RecursionError):
                break
        header, *entries = lines or [{}]
        sources = header.get("sources") if isinstance(header, dict) else None
        records: dict[str, TensorRecord] = {}
        stale: set[str] = set()
        for entry in entries:
            is_stale = isinstance(entry, dict) and entry.pop("stale", False)
            record = TensorRecord.from_json(entry, str(self.path))
            records[record.name] = record
            if is_stale:
                stale.add(record.name)
            else:
                stale.discard(record.name)
        return StoredState(check_sources(sources, str(self.path)), records, stale)

    def start(self, sources: JsonObject, records: Sequence[TensorRecord], stale: set[str]) -> None:
        """Write a new journal atomically, with the known records. Those in ``stale`` will be replaced."""
        lines: list[JsonObject] = [{"format": FORMAT, "sources": sources}]
        lines += [r.to_json() | ({"stale": True} if r.name in stale else {}) for r in records]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            if self.durable:
                os.fsync(file.fileno())
        temporary.replace(self.path)

    def append(self, record: TensorRecord) -> None:
        """Add one finished tensor. The line is on the disk when this returns, if the journal is durable."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_json()) + "\n")
            file.flush()
            if self.durable:
                os.fsync(file.fileno())

    def fold(self, sources: JsonObject, records: dict[str, TensorRecord]) -> None:
        """Write the manifest and the spectra, then remove the journal."""
        folder = self.path.parent
        spectra = {}
        for record in records.values():
            if record.known:
                stored = Checkpoint.open(folder / factor_file(record.name))
                spectra[record.name] = np.array(stored.map("values"))
        if spectra:
            write_safetensors(folder / SPECTRA, spectra, durable=self.durable)
        write_json(
            folder / MANIFEST,
            {"format": FORMAT, "sources": sources, "tensors": [r.to_json() for r in records.values()]},
        )
        self.path.unlink(missing_ok=True)
