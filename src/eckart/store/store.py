"""FactorStore: a folder that holds spectra and nested factors, and is its own journal."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint import Checkpoint, write_json, write_safetensors
from eckart.errors import StoreError
from eckart.linalg import LowRank, Spectrum
from eckart.store.record import TensorRecord

FORMAT = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
SPECTRA = "spectra.safetensors"
FACTORS = "factors"

Floats = NDArray[np.float64]


class FactorStore:
    """The result of one pass over two checkpoints.

    Open one with `FactorStore.open`; fill one with `eckart.factor`.

    Parameters
    ----------
    path : Path
        The folder.
    sources : dict
        Paths and fingerprints of base and tuned (``base`` is None for a single checkpoint).
    records : dict of str to TensorRecord
        By tensor name, in the order of the model.

    Notes
    -----
    While a pass runs, every finished tensor has its factors in ``factors/`` and a line in
    ``journal.jsonl``, written in that order; a line that was cut short by a crash is ignored. When
    the pass ends, the journal is folded into ``manifest.json`` and ``spectra.safetensors`` and
    removed. No file holds a time or anything else that differs between two runs.
    """

    def __init__(self, path: Path, sources: dict[str, Any], records: dict[str, TensorRecord]) -> None:
        self.path, self.sources, self.records = path, sources, records
        self._spectra: dict[str, Floats] = {}

    @classmethod
    def open(cls, path: str | Path) -> FactorStore:
        """Open a finished store."""
        folder = Path(path)
        if not folder.is_dir():
            raise StoreError(str(path), "no such folder", "Make it: eckart factor BASE TUNED -o STORE")
        if not (folder / MANIFEST).is_file():
            if (folder / JOURNAL).is_file():
                raise StoreError(
                    str(path),
                    "the pass that fills it is not finished",
                    "Run eckart factor again to resume it",
                )
            raise StoreError(
                str(path), f"not a factor store: no {MANIFEST}", "Make one: eckart factor BASE TUNED -o STORE"
            )
        return cls._read_manifest(folder)

    @classmethod
    def _read_manifest(cls, folder: Path) -> FactorStore:
        where = str(folder / MANIFEST)
        try:
            data = json.loads((folder / MANIFEST).read_text("utf-8"))
            form, sources, tensors = data["format"], data["sources"], list(data["tensors"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as reason:
            raise StoreError(
                where, f"cannot be read ({type(reason).__name__})", "Factor again with --overwrite"
            ) from None
        if form != FORMAT:
            raise StoreError(where, f"format {form!r}, expected {FORMAT}", "Factor again with --overwrite")
        records = [TensorRecord.from_json(entry, where) for entry in tensors]
        return cls(folder, _check_sources(sources, where), {r.name: r for r in records})

    @property
    def single(self) -> bool:
        """Whether the store was made of one checkpoint alone."""
        return self.sources["base"] is None

    @property
    def base_parameters(self) -> int:
        """Parameters of the whole base model (of the one checkpoint, where there is one)."""
        return int((self.sources["base"] or self.sources["tuned"])["parameters"])

    def spectrum(self, name: str) -> Spectrum:
        """Return the singular values known of a tensor, with the exact energy of the rest."""
        record = self.record(name)
        if not record.known:
            return Spectrum([], record.energy, record.size)
        if name not in self._spectra:
            self._load_spectra()
        if name not in self._spectra:
            raise StoreError(f"{self.path / SPECTRA}: {name}", "is missing", "Factor again with --overwrite")
        return Spectrum(self._spectra[name], record.tail, record.size)

    def factors(self, name: str, rank: int | None = None) -> LowRank:
        """Return the leading ``rank`` components of a tensor's update (all that are held by default)."""
        record = self.record(name)
        rank = record.rank if rank is None else rank
        if rank > record.rank:
            raise StoreError(
                f"{self.path}: {name}",
                f"holds {record.rank} components, {rank} were asked for",
                "Factor again to a higher rank",
            )
        arrays = Checkpoint.open(self.path / factor_file(name))
        U, Vh, values = (np.asarray(arrays.map(key)) for key in ("U", "Vh", "values"))
        expected = ((record.shape[0], record.rank), (record.rank, record.shape[1]), (record.known,))
        if (U.shape, Vh.shape, values.shape) != expected:
            raise StoreError(
                f"{arrays.path}: {name}",
                f"expected factors of shapes {expected[0]} and {expected[1]}, found {U.shape} and {Vh.shape}",
                "Factor again with --overwrite",
            )
        tail = record.tail + float((values[record.rank :] ** 2).sum())
        whole = LowRank(U, values[: record.rank], Vh, tail, record.rank_bounds, record.method)
        return whole.truncate(rank=rank) if rank and rank < record.rank else whole

    def record(self, name: str) -> TensorRecord:
        """Return what is known of a tensor."""
        try:
            return self.records[name]
        except KeyError:
            raise StoreError(
                f"{self.path}: {name}",
                "no such tensor",
                "Names look like " + ", ".join(list(self.records)[:2]),
            ) from None

    def __iter__(self) -> Iterator[TensorRecord]:
        return iter(self.records.values())

    def __len__(self) -> int:
        return len(self.records)

    def _load_spectra(self) -> None:
        if (self.path / SPECTRA).is_file():
            spectra = Checkpoint.open(self.path / SPECTRA)
            self._spectra = {name: np.array(spectra.map(name)) for name in spectra.names()}


def _check_sources(sources: Any, where: str) -> dict[str, Any]:
    """Return what a store says of its sources, if it is something that `describe` could have written."""
    if isinstance(sources, dict) and all(
        isinstance(side, dict)
        and isinstance(side.get("path"), str)
        and isinstance(side.get("parameters"), int)
        and isinstance(side.get("files"), list)
        for side in (sources.get("tuned"), sources.get("base") or sources.get("tuned"))
    ):
        return {"base": None, **sources}
    raise StoreError(where, "does not say what it was filled from", "Factor again with --overwrite")


def factor_file(name: str) -> str:
    """Return the path inside a store of a tensor's factors, safe whatever the tensor is called."""
    plain = name if re.fullmatch(r"[A-Za-z0-9_.\-]{1,180}", name) and name[0] != "." else ""
    return f"{FACTORS}/{plain or hashlib.sha256(name.encode()).hexdigest()}.safetensors"


def write_factors(
    folder: Path, name: str, found: LowRank | None, values: Floats, durable: bool = True
) -> None:
    """Write a tensor's known values and, if there are any, its factors."""
    arrays: dict[str, NDArray[Any]] = {"values": values}
    if found is not None:
        arrays |= {"U": np.asarray(found.U), "Vh": np.asarray(found.Vh)}
    write_safetensors(folder / factor_file(name), arrays, durable=durable)


class Journal:
    """The records of an unfinished pass, one JSON line each, appended as tensors are done."""

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self.path, self.durable = folder / JOURNAL, durable

    def read(self) -> tuple[dict[str, Any], dict[str, TensorRecord], set[str]]:
        """Return the sources, the records, and the names that were being replaced and are not yet.

        What a crash cut short is left out.
        """
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
            old = isinstance(entry, dict) and entry.pop("stale", False)
            record = TensorRecord.from_json(entry, str(self.path))
            records[record.name] = record
            (stale.add if old else stale.discard)(record.name)
        return _check_sources(sources, str(self.path)), records, stale

    def start(self, header: dict[str, Any], records: list[TensorRecord], stale: set[str]) -> None:
        """Begin anew, atomically, with a header and what is known; ``stale`` names will be replaced."""
        lines = [header]
        lines += [r.to_json() | ({"stale": True} if r.name in stale else {}) for r in records]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            if self.durable:
                os.fsync(file.fileno())
        temporary.replace(self.path)

    def append(self, record: TensorRecord) -> None:
        """Add one finished tensor, on the disk before this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_json()) + "\n")
            file.flush()
            if self.durable:
                os.fsync(file.fileno())

    def fold(self, sources: dict[str, Any], records: dict[str, TensorRecord]) -> None:
        """Write manifest and spectra, then remove the journal."""
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
