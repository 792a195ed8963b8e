"""The pass: every tensor of a pair is read once, factored and stored; an interrupted pass can be resumed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from eckart.checkpoint.output import cannot_write
from eckart.checkpoint.strictjson import JsonObject
from eckart.checks import check_whole_number
from eckart.errors import OutputError, StoreError
from eckart.linalg import Goal
from eckart.parallel import OnProgress
from eckart.rank import RankRule
from eckart.store.demands import first_demands, whole_demands
from eckart.store.files import FACTOR_AGAIN, FACTORS, JOURNAL, MANIFEST, SPECTRA
from eckart.store.journal import Journal, StoredState
from eckart.store.options import DEFAULT, PassOptions
from eckart.store.pool import run_tasks
from eckart.store.record import Demand, TensorRecord
from eckart.store.sources import ALL_KINDS, Source, Sources, open_sources, what_changed
from eckart.store.store import FactorStore
from eckart.store.task import Task

MAX_RANK = 256  # components to keep of each tensor if no rule is given


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
        Checkpoints, each a ``.safetensors`` file or a Hugging Face folder. ``base=None`` factors the weights
        of ``tuned`` themselves.
    store : path
        Folder of the store. An unfinished pass over the same files is resumed. A finished store is extended
        by what is missing.
    rule : RankRule, optional
        Factor just enough for this rule, e.g. ``Energy(0.9)``. Without a rule, every singular value is
        computed, and ``max_rank`` components are kept.
    max_rank : int
        Number of components to keep of each tensor if there is no rule; at least 0.
    overwrite : bool
        Whether to discard what the store holds, even from the same files, and start over.
    workers : int, optional
        Number of tensors to factor at once. By default one per core, but large tensors run one at a time.
    executor : concurrent.futures.Executor, optional
        Where to run the tasks instead of in threads of this process, for example a process pool or
        ``dask.distributed.Client.get_executor()``.
    device : {"cpu", "cuda"}
        Where to factor; ``"cuda"`` needs ``eckart[torch]``.
    progress : callable, optional
        Called with a `Progress` after each tensor.

    Returns
    -------
    FactorStore
        The finished store.

    Raises
    ------
    UsageError
        If ``max_rank``, ``workers`` or ``device`` is invalid.
    CheckpointError, PairError
        If the files cannot be read, or do not belong together.
    StoreError
        If the store belongs to other files, or the files have changed since it was filled.
    OutputError
        If the folder is not a store and not empty, or cannot be written.

    Notes
    -----
    Each worker needs memory for one tensor: its update in float32 and both mapped originals, and about 3n^2
    more float64 numbers if every singular value is computed. A pass that is interrupted and resumed gives
    the same bytes as one that is not.

    Examples
    --------
    ``eckart.factor("base", "tuned", "store", max_rank=64)``
    """
    max_rank = check_whole_number(max_rank, f"max_rank={max_rank!r}")
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
    """Extend a store until it meets every demand.

    Parameters
    ----------
    sources : PairSources or SingleSources
        The checkpoints.
    store : path
        Folder of the store.
    demands : mapping of str to Demand
        What to learn about each tensor. For a tensor without an entry, only its energy is computed. A tensor
        of which the store already holds enough is not read again.
    options : PassOptions
        How the pass runs.
    overwrite : bool
        Whether to discard what the store holds.

    Returns
    -------
    FactorStore
        The finished store.

    Raises
    ------
    StoreError
        If the store belongs to other files, or the files have changed since it was filled.
    OutputError
        If the folder is not a store and not empty, or cannot be written.
    """
    folder = Path(store)
    described = sources.describe()
    known = _known(folder, described, overwrite)
    pending = []
    for source in sources.tensors:
        demand, record = demands.get(source.name, Demand()), known.records.get(source.name)
        if record is None or source.name in known.stale or not record.meets(demand):
            pending.append((source, _widened(demand, record)))
    journal = Journal(folder, options.durable)
    if not pending and (folder / MANIFEST).is_file() and not journal.path.is_file():
        return FactorStore.open(folder)
    waiting = {source.name for source, _ in pending}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal.start(described, list(known.records.values()), waiting)
        (folder / FACTORS).mkdir(exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for remnant in [*folder.glob(".*.tmp-*"), *(folder / FACTORS).glob(".*.tmp-*")]:
            remnant.unlink(missing_ok=True)  # left by a pass that was killed
        done = {name: record for name, record in known.records.items() if name not in waiting}
        tasks = [_task(source, demand, folder, options) for source, demand in pending]
        for record in run_tasks(tasks, options):
            journal.append(record)
            done[record.name] = record
        journal.fold(described, {source.name: done[source.name] for source in sources.tensors})
    except OSError as error:
        raise cannot_write(folder, error) from error
    return FactorStore.open(folder)


def _task(source: Source, demand: Demand, folder: Path, options: PassOptions) -> Task:
    return Task(
        name=source.name,
        kind=source.kind,
        base=source.base,
        tuned=source.tuned,
        rows=source.rows,
        demand=demand,
        folder=folder,
        device=options.device,
        durable=options.durable,
    )


def _widened(demand: Demand, record: TensorRecord | None) -> Demand:
    """Add what is already known to a demand, so that factoring again loses nothing."""
    if record is None:
        return demand
    return replace(
        demand,
        goal=demand.goal or (Goal("rank", record.rank) if record.rank else None),
        whole=demand.whole or (record.size > 0 and record.known == record.size),
        noise=demand.noise or record.noise_floor is not None,
        hold=record.rank,
    )


def _known(folder: Path, described: JsonObject, overwrite: bool) -> StoredState:
    """Return what a folder already holds of these sources, and which tensors were being replaced."""
    nothing = StoredState(described, {}, set())
    if not folder.exists():
        return nothing
    if not folder.is_dir():
        raise OutputError(str(folder), "expected a folder, found a file", "Use another path")
    if not _is_store_or_empty(folder):
        raise OutputError(
            str(folder), "the folder is not empty and is not a factor store", "Use another folder"
        )
    if overwrite:
        for name in (MANIFEST, JOURNAL, SPECTRA):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / FACTORS, ignore_errors=True)
        return nothing
    journal = Journal(folder)
    if journal.path.is_file():
        stored = journal.read()
    elif (folder / MANIFEST).is_file():
        store = FactorStore.open(folder)
        stored = StoredState(store.sources, store.records, set())
    else:
        return nothing
    if stored.sources != described:
        raise StoreError(
            str(folder),
            what_changed(stored.sources, described),
            f"Use another folder, or start over: eckart factor BASE TUNED -o {folder} --overwrite",
        )
    return stored


def _is_store_or_empty(folder: Path) -> bool:
    """Return whether a folder is a store, an unfinished store, or empty."""
    names = {entry.name for entry in folder.iterdir()}
    if names & {MANIFEST, JOURNAL}:
        return True
    temporary = f"{Path(JOURNAL).stem}.tmp"
    return all(name in (FACTORS, temporary) or re.fullmatch(r"\..*\.tmp-[0-9a-f]+", name) for name in names)


def reopen(store: FactorStore) -> Sources:
    """Open the checkpoints that a store was made from, and check that they are unchanged.

    Parameters
    ----------
    store : FactorStore
        The store, which records the paths.

    Returns
    -------
    PairSources or SingleSources
        The checkpoints.

    Raises
    ------
    StoreError
        If a file has changed since the store was filled.
    CheckpointError
        If a file is missing or cannot be read.
    """
    stored = store.sources
    base = stored["base"]["path"] if stored["base"] else None
    sources = open_sources(base, stored["tuned"]["path"])
    described = sources.describe()
    if described != stored:
        raise StoreError(str(store.path), what_changed(stored, described), FACTOR_AGAIN)
    return sources
