"""The pass: every tensor of a pair read once, factored, and kept; killed at any moment, it goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from eckart.checkpoint.write import cannot_write
from eckart.errors import OutputError, StoreError
from eckart.linalg import Goal
from eckart.parallel import OnProgress
from eckart.rank import RankRule
from eckart.store.demands import first_demands, whole_demands
from eckart.store.options import DEFAULT, PassOptions
from eckart.store.pool import run_tasks
from eckart.store.record import Demand, TensorRecord
from eckart.store.sources import ALL_KINDS, Sources, open_sources, what_changed
from eckart.store.store import FACTORS, FORMAT, JOURNAL, MANIFEST, SPECTRA, FactorStore, Journal
from eckart.store.task import Task

MAX_RANK = 256  # components held where no rule says how many


def factor(
    base: str | Path | None,
    tuned: str | Path,
    store: str | Path,
    *,
    rule: RankRule | None = None,
    max_rank: int = MAX_RANK,
    overwrite: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    progress: OnProgress | None = None,
) -> FactorStore:
    """Factor every update of a pair of checkpoints into a store.

    Parameters
    ----------
    base, tuned : path
        Checkpoints: a ``.safetensors`` file or a Hugging Face folder. ``base=None`` factors the
        weights of ``tuned`` themselves.
    store : path
        A folder to make. If it holds an unfinished pass over the same files, that pass goes on; if
        it holds a finished one, only what is missing is added.
    rule : RankRule, optional
        Factor just enough for this rule. Without one: every singular value, and factors up to
        ``max_rank``.
    max_rank : int
        Components to hold where there is no rule.
    overwrite : bool
        Drop whatever the store holds, a pass over the same files too, and start anew.
    workers : int, optional
        Tensors in flight at once; by default one per core where memory allows.
    executor : concurrent.futures.Executor, optional
        Where to run instead, e.g. a process pool, or ``dask.distributed.Client.get_executor()``.
    device : {"cpu", "cuda"}
    progress : callable, optional
        Called with a `Progress` after each tensor.

    Returns
    -------
    FactorStore

    Raises
    ------
    CheckpointError, PairError
        The files cannot be read, or do not belong together.
    StoreError
        The store belongs to other files, or these have changed since.

    Notes
    -----
    Peak memory is that of the largest tensor: its update in float32 and the two mapped originals,
    once per worker, and on the exact route about 3n^2 float64 more. Interrupted by anything, the pass
    goes on with the tensors that are missing and ends with the same bytes.
    """
    options = PassOptions(workers, executor, device, progress=progress)
    sources = open_sources(base, tuned)
    demands = first_demands(sources, rule, ALL_KINDS) if rule else whole_demands(sources, max_rank)
    return fill(sources, store, demands, options, overwrite=overwrite)


def fill(
    sources: Sources,
    store: str | Path,
    demands: Mapping[str, Demand],
    options: PassOptions = DEFAULT,
    *,
    overwrite: bool = False,
) -> FactorStore:
    """Bring a store to what ``demands`` ask; tensors that it knows well enough are not read again."""
    folder = Path(store)
    described = sources.describe()
    known, stale = _known_records(folder, described, overwrite)
    order = {s.name: s for s in sources.tensors}
    pending = []
    for s in sources.tensors:
        demand = demands.get(s.name, Demand())
        if s.name not in known or s.name in stale or not known[s.name].meets(demand):
            pending.append((s, _widened(demand, known.get(s.name))))
    journal = Journal(folder, options.durable)
    if not pending and (folder / MANIFEST).is_file() and not journal.path.is_file():
        return FactorStore.open(folder)
    waiting = {s.name for s, _ in pending}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal.start({"format": FORMAT, "sources": described}, list(known.values()), waiting)
        (folder / FACTORS).mkdir(exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for left in [*folder.glob(".*.tmp-*"), *(folder / FACTORS).glob(".*.tmp-*")]:
            left.unlink(missing_ok=True)  # of a pass that was killed
        done = {name: record for name, record in known.items() if name not in waiting}
        tasks = [
            Task(
                s.name,
                s.kind,
                s.base,
                s.tuned,
                s.rows,
                demand,
                folder,
                device=options.device,
                durable=options.durable,
            )
            for s, demand in pending
        ]
        for record in run_tasks(tasks, options):
            journal.append(record)
            done[record.name] = record
        journal.fold(described, {name: done[name] for name in order})
    except OSError as error:
        raise cannot_write(folder, error) from error
    return FactorStore.open(folder)


def _widened(demand: Demand, record: TensorRecord | None) -> Demand:
    """Ask also for what is known already, so that factoring again never forgets."""
    if record is None:
        return demand
    return replace(
        demand,
        goal=demand.goal or (Goal("rank", record.rank) if record.rank else None),
        whole=demand.whole or (record.size > 0 and record.known == record.size),
        noise=demand.noise or record.noise_floor is not None,
        hold=record.rank,
    )


def _known_records(
    folder: Path, described: dict[str, Any], overwrite: bool
) -> tuple[dict[str, TensorRecord], set[str]]:
    """Return the records a folder holds of the same sources, and which of them were being replaced."""
    if not folder.exists():
        return {}, set()
    if not folder.is_dir():
        raise OutputError(str(folder), "is a file", "Name a folder for the store")
    if not _is_ours(folder):
        raise OutputError(str(folder), "is not empty and is not a factor store", "Name another folder")
    if overwrite:
        for name in (MANIFEST, JOURNAL, SPECTRA):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / FACTORS, ignore_errors=True)
        return {}, set()
    journal = Journal(folder)
    if journal.path.is_file():
        sources, records, stale = journal.read()
    elif (folder / MANIFEST).is_file():
        store = FactorStore.open(folder)
        sources, records, stale = store.sources, store.records, set()
    else:
        return {}, set()
    if sources != described:
        raise StoreError(
            str(folder),
            what_changed(sources, described),
            f"Name another folder, or fill this one anew: eckart factor BASE TUNED -o {folder} --overwrite",
        )
    return records, stale


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a store, the beginning of one, or empty."""
    names = {entry.name for entry in folder.iterdir()}
    return bool(names & {MANIFEST, JOURNAL}) or all(
        name in (FACTORS, f"{Path(JOURNAL).stem}.tmp") or re.fullmatch(r"\..*\.tmp-\d+", name)
        for name in names
    )


def reopen(store: FactorStore) -> Sources:
    """Open the checkpoints that a store was filled from, and check that they are the same still."""
    stored = store.sources
    base = stored["base"]["path"] if stored["base"] else None
    sources = open_sources(base, stored["tuned"]["path"])
    found = sources.describe()
    if found != stored:
        raise StoreError(str(store.path), what_changed(stored, found), "Factor again with --overwrite")
    return sources
