"""The pass: every tensor of a pair is read once, factored and stored; an interrupted pass can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path

from eckart.checkpoint.output import cannot_write
from eckart.checks import check_whole_number
from eckart.errors import StoreError
from eckart.parallel import OnProgress
from eckart.paths import user_path
from eckart.rank import RankRule
from eckart.store.demands import first_demands, whole_demands
from eckart.store.files import FACTOR_AGAIN, FACTORS, JOURNAL
from eckart.store.folder import check_target, has_remnants, remove_temporary_files, remove_unused
from eckart.store.journal import Journal, JournalState, PassHeader, checksum_of_demands, read_journal
from eckart.store.lock import locked, locked_if_free
from eckart.store.manifest import write_manifest
from eckart.store.options import DEFAULT, PassOptions, log_notice
from eckart.store.pool import run_tasks
from eckart.store.record import Demand
from eckart.store.resume import known_state, pending_tensors
from eckart.store.sources import ALL_KINDS, Source, Sources, check_unchanged, open_sources, what_changed
from eckart.store.spectra import has_intact_spectra, write_spectra
from eckart.store.store import FactorStore
from eckart.store.task import Task
from eckart.text import count, preview

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
    notify: Callable[[str], None] = log_notice,
) -> FactorStore:
    """Factor every update of a pair of checkpoints into a store.

    Parameters
    ----------
    base, tuned : path
        Checkpoints, each a ``.safetensors`` file or a Hugging Face folder. ``base=None`` factors the weights
        of ``tuned`` themselves.
    store : path
        Folder of the store. An unfinished pass over the same files is resumed. A finished store is extended
        by what is missing or damaged.
    rule : RankRule, optional
        Factor just enough for this rule, e.g. ``Energy(0.9)``. Without a rule, every singular value is
        computed, and ``max_rank`` components are kept.
    max_rank : int
        Number of components to keep of each tensor if there is no rule; at least 0.
    overwrite : bool
        Whether to start over, even from the same files. The old store stays valid until the new one is
        complete; repeating the same call resumes an interrupted pass.
    workers : int, optional
        Number of tensors to factor at once. By default one per core, but large tensors run one at a time.
    executor : concurrent.futures.Executor, optional
        Where to run the tasks instead of in threads of this process, for example a process pool or
        ``dask.distributed.Client.get_executor()``.
    device : {"cpu", "cuda"}
        Where to factor; ``"cuda"`` needs ``eckart[torch]``.
    progress : callable, optional
        Called with a `Progress` after each tensor.
    notify : callable
        Called with a sentence if another pass is filling the store, so that this one must wait, and if stored
        factors are damaged. By default, the sentence is logged as a warning of the logger ``eckart``.

    Returns
    -------
    FactorStore
        The finished store.

    Raises
    ------
    UsageError
        If ``max_rank``, ``workers`` or ``device`` is invalid.
    CheckpointError, PairError
        If the files cannot be read, do not belong together, or change during the pass.
    StoreError
        If the store belongs to other files, or the files have changed since it was filled.
    OutputError
        If the folder is not a store and not empty, or cannot be written.

    Notes
    -----
    Each worker needs memory for one tensor: its update in float32 and both mapped originals, and about 3n^2
    more float64 numbers if every singular value is computed. A pass that is interrupted and resumed gives
    the same bytes as one that is not. One pass at a time fills a store, also among threads. Another one
    waits, and then uses what the first one has stored. Ctrl-C ends the wait.

    Examples
    --------
    ``eckart.factor("base", "tuned", "store", max_rank=64)``
    """
    max_rank = check_whole_number(max_rank, f"max_rank={max_rank!r}")
    options = PassOptions(workers, executor, device, progress=progress, notify=notify)
    sources = open_sources(base, tuned)
    demands = first_demands(sources, rule, ALL_KINDS) if rule else whole_demands(sources, max_rank)
    every = [source.name for source in sources.tensors]
    return fill(sources, store, demands, options, overwrite=overwrite, verify=every)


def fill(
    sources: Sources,
    store: str | Path,
    demands: Mapping[str, Demand],
    options: PassOptions = DEFAULT,
    *,
    overwrite: bool = False,
    verify: Iterable[str] = (),
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
        Whether to start over. What the store holds stays valid until the new pass is complete.
    verify : iterable of str
        Tensors whose stored factors are compared with their checksums. Singular values always are.

    Returns
    -------
    FactorStore
        The finished store.

    Raises
    ------
    StoreError
        If the store belongs to other files, or the files have changed since it was filled.
    CheckpointError
        If a checkpoint changes during the pass.
    OutputError
        If the folder is not a store and not empty, or cannot be written.

    Notes
    -----
    One pass at a time fills a store. Another one waits, and then uses what the first one has stored. Readers
    need no lock: the manifest is replaced in one step at the end, and the files that the old one refers to
    are never changed, and are removed only afterwards.
    """
    folder = user_path(store)
    header = PassHeader(sources.describe(), overwrite, checksum_of_demands(demands))
    names = set(verify)
    try:
        check_target(folder)
        if not overwrite:
            finished = _finished(folder, header, sources, demands, names)
            if finished is not None:
                return finished
        known_state(folder, header)  # refuses a store of other files at once, instead of after waiting
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, options.notify) if options.durable else nullcontext():
            check_target(folder)  # again, because the wait may have taken hours
            state = known_state(folder, header)
            known = FactorStore(folder, state.header.sources, state.records)
            damaged = known.damaged(names)
            if damaged:
                options.notify(f"{folder}: {_damage(damaged)}")
            pending = pending_tensors(sources, demands, known, set(damaged))
            _run(sources, folder, state, pending, options)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return FactorStore.open(folder)


def _run(
    sources: Sources,
    folder: Path,
    state: JournalState,
    pending: Sequence[tuple[Source, Demand]],
    options: PassOptions,
) -> None:
    """Factor what is pending, and write the new manifest. The caller holds the lock."""
    waiting = {source.name for source, _ in pending}
    done = {name: record for name, record in state.records.items() if name not in waiting}
    remove_temporary_files(folder)
    (folder / FACTORS).mkdir(exist_ok=True)
    tasks = [_task(source, demand, folder, options) for source, demand in pending]
    by_name = {source.name: source for source in sources.tensors}
    with Journal(folder, state.header, done.values(), options.durable) as journal:
        for record in run_tasks(tasks, options, len(sources.tensors) - len(tasks)):
            check_unchanged(sources, by_name[record.name])
            journal.append(record)
            done[record.name] = record
    check_unchanged(sources)
    records = {source.name: done[source.name] for source in sources.tensors}
    write_spectra(folder, records.values(), options.durable)
    write_manifest(folder, state.header.sources, records)
    remove_unused(folder, records.values())
    (folder / JOURNAL).unlink(missing_ok=True)


def _finished(
    folder: Path,
    header: PassHeader,
    sources: Sources,
    demands: Mapping[str, Demand],
    verify: set[str],
) -> FactorStore | None:
    """Return the store if its manifest already meets every demand, without waiting for a running pass."""
    try:
        store = FactorStore.open(folder)
    except StoreError:
        return None  # the pass itself reports what is wrong with the store
    if store.sources != header.sources or store.damaged(verify):
        return None
    if pending_tensors(sources, demands, store, set()):
        return None
    if verify and not has_intact_spectra(folder, store):
        return None
    if has_remnants(folder):
        _remove_remnants(folder, store)
    return store


def _damage(names: Sequence[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"{count(names, 'tensor')} {verb} damaged on the disk and will be factored again: {preview(names)}"


def _remove_remnants(folder: Path, store: FactorStore) -> None:
    """Remove what a pass left that was killed after it had written the manifest; keep unfinished work."""
    with locked_if_free(folder) as is_held:
        if not is_held:
            return
        journal = read_journal(folder)
        if journal is not None and all(store.records.get(n) == r for n, r in journal.records.items()):
            remove_unused(folder, store)
            (folder / JOURNAL).unlink(missing_ok=True)
        remove_temporary_files(folder)


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
