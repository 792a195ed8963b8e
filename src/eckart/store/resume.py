"""What a store already holds for a pass, and what the pass must still learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from eckart.errors import StoreError
from eckart.linalg import Goal
from eckart.store.files import MANIFEST
from eckart.store.journal import JournalState, PassHeader, read_journal
from eckart.store.manifest import read_manifest
from eckart.store.record import Demand, TensorRecord
from eckart.store.sources import Source, Sources, what_changed
from eckart.store.store import FactorStore
from eckart.strictjson import JsonObject


def known_state(folder: Path, header: PassHeader) -> JournalState:
    """Return what a folder already holds for a pass; raise StoreError if it is of other checkpoints.

    An interrupted pass over the same checkpoints is resumed. A pass that starts over resumes only one that
    did so with the same demands.
    """
    nothing = JournalState(header, {})
    if header.starts_over:
        journal = _readable_journal(folder)
        return journal if journal is not None and journal.header == header else nothing
    journal = read_journal(folder)
    is_ours = journal is not None and journal.header.sources == header.sources
    if is_ours and journal is not None and journal.header.starts_over:
        return replace(journal, header=replace(header, starts_over=True))
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        _refuse_others(folder, manifest.sources, header)
        finished = journal.records if is_ours and journal is not None else {}
        return JournalState(header, manifest.records | finished)
    if journal is not None:
        _refuse_others(folder, journal.header.sources, header)
        return JournalState(header, journal.records)
    return nothing


def _refuse_others(folder: Path, stored: JsonObject, header: PassHeader) -> None:
    if stored != header.sources:
        raise StoreError(
            str(folder),
            what_changed(stored, header.sources),
            f"Use another folder, or start over: eckart factor BASE TUNED -o {folder} --overwrite",
        )


def _readable_journal(folder: Path) -> JournalState | None:
    try:
        return read_journal(folder)
    except StoreError:
        return None


def pending_tensors(
    sources: Sources, demands: Mapping[str, Demand], store: FactorStore, damaged: set[str]
) -> list[tuple[Source, Demand]]:
    """Return the tensors of which a store does not hold enough, each with what must be learned about it."""
    pending: list[tuple[Source, Demand]] = []
    for source in sources.tensors:
        demand, record = demands.get(source.name, Demand()), store.records.get(source.name)
        if record is None:
            pending.append((source, demand))
        elif source.name in damaged:
            met = record.meets(demand)
            pending.append((source, record.first_demand if met else _widened(demand, record)))
        elif not record.meets(demand) and not record.meets(demand, store.spectrum(source.name)):
            pending.append((source, _widened(demand, record)))
    return pending


def _widened(demand: Demand, record: TensorRecord) -> Demand:
    """Add what is already known to a demand, so that factoring again loses nothing."""
    return replace(
        demand,
        goal=demand.goal or (Goal("rank", record.rank) if record.rank else None),
        whole=demand.whole or (record.size > 0 and record.known == record.size),
        noise=demand.noise or record.noise_floor is not None,
        hold=max(demand.hold, record.rank),
    )
