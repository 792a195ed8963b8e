"""The pass: every tensor of a pair read once, factored, and kept; killed at any moment, it goes on."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from eckart.checkpoint import Checkpoint, Pair, TensorInfo, is_float
from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.kinds import kind_of
from eckart.checkpoint.write import cannot_write
from eckart.errors import OutputError, PairError, StoreError, UsageError
from eckart.linalg import Goal
from eckart.linalg.decompose import krylov_limit
from eckart.rank import RankRule
from eckart.store.record import Demand, TensorRecord
from eckart.store.store import FACTORS, FORMAT, JOURNAL, MANIFEST, SPECTRA, FactorStore, Journal
from eckart.store.task import Task, run_task

LORA_KINDS = ("linear", "conv1d")
ALL_KINDS = (*LORA_KINDS, "embedding")
MAX_RANK = 256  # components held where no rule says how many
LIGHT = 1 << 22  # up to this many numbers, a worker's memory is no concern


@dataclass(frozen=True)
class Progress:
    """Where a pass stands: tensors and bytes done, of how many, and the tensor just finished."""

    done: int
    total: int
    bytes_done: int
    bytes_total: int
    name: str


@dataclass(frozen=True)
class Source:
    """A tensor to visit: its name in the store, and where it lies in the checkpoints."""

    name: str
    kind: str
    base: TensorInfo | None
    tuned: TensorInfo
    rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape compared."""
        shape = (self.base or self.tuned).shape
        return shape if self.rows is None else (self.rows, *shape[1:])


@dataclass(frozen=True)
class Sources:
    """Two checkpoints made ready for a pass (or one, with no base)."""

    base: Checkpoint | None
    tuned: Checkpoint
    tensors: tuple[Source, ...]
    notes: tuple[str, ...]
    only_base: tuple[str, ...] = ()
    only_tuned: tuple[str, ...] = ()

    @classmethod
    def open(cls, base: str | Path | None, tuned: str | Path) -> Sources:
        """Open and match two checkpoints, or take all floating tensors of one."""
        ours = Checkpoint.open(tuned)
        if base is None:
            tensors = tuple(
                Source(name, kind_of(name, info.shape, ours.config), None, info)
                for name, info in ours.tensors.items()
                if info.dtype in DTYPES and is_float(DTYPES[info.dtype])
            )
            if not tensors:
                raise PairError(str(tuned), "holds no floating tensor")
            return cls(None, ours, tensors, tuple(ours.notes))
        theirs = Checkpoint.open(base)
        pair = Pair.match(theirs, ours)
        config = theirs.config or ours.config
        tensors = tuple(
            Source(e.name, kind_of(e.name, e.base.shape, config), e.base, e.tuned, e.rows)
            for e in pair.entries
        )
        notes = (*theirs.notes, *ours.notes, *pair.notes)
        return cls(theirs, ours, tensors, notes, pair.only_base, pair.only_tuned)

    def matrices(self, kinds: Sequence[str]) -> list[Source]:
        """Return the two-axis tensors of these kinds."""
        return [s for s in self.tensors if s.kind in kinds and len(s.shape) == 2]

    @property
    def base_parameters(self) -> int:
        """Parameters of the base, or of the one checkpoint."""
        return sum(info.size for info in (self.base or self.tuned).tensors.values())

    def describe(self) -> dict[str, Any]:
        """Return what a store keeps of its sources, to know them again."""

        def side(checkpoint: Checkpoint) -> dict[str, Any]:
            return {
                "path": str(checkpoint.path.resolve()),
                "parameters": sum(info.size for info in checkpoint.tensors.values()),
                **checkpoint.fingerprint(),
            }

        return {"base": side(self.base) if self.base else None, "tuned": side(self.tuned)}


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
    progress: Callable[[Progress], None] | None = None,
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
    once per worker, and on the exact route about 2n^2 float64 more. Interrupted by anything, the pass
    goes on with the tensors that are missing and ends with the same bytes.
    """
    sources = Sources.open(base, tuned)
    demands = first_demands(sources, rule, ALL_KINDS) if rule else whole_demands(sources, max_rank)
    return fill(
        sources,
        store,
        demands,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        device=device,
        progress=progress,
    )


def whole_demands(sources: Sources, max_rank: int) -> dict[str, Demand]:
    """Ask for every singular value of every matrix, its noise floor, and ``max_rank`` components."""
    return {
        s.name: Demand(
            Goal("rank", min(max_rank, *s.shape)) if max_rank and min(s.shape) else None,
            whole=True,
            noise=True,
        )
        for s in sources.matrices(ALL_KINDS)
    }


def first_demands(
    sources: Sources, rule: RankRule, kinds: Sequence[str], bytes_each: int = 2
) -> dict[str, Demand]:
    """Ask for what a rule needs of each tensor, before anything is known of it."""
    chosen = [s for s in sources.matrices(kinds) if rule.selects(s.name)]
    guess = 8
    if rule.budget is not None and chosen:
        # Half as much again as the rank that would spend the budget evenly.
        parameters = rule.budget.parameters(sources.base_parameters, bytes_each)
        guess = max(guess, 3 * parameters // (2 * sum(sum(s.shape) for s in chosen)))
    if rule.needs_noise:
        return {s.name: Demand(Goal("above", 0.0), noise=True) for s in chosen}
    return {s.name: Demand(rule.goal(min(s.shape), guess=guess)) for s in chosen if min(s.shape)}


def fill(
    sources: Sources,
    store: str | Path,
    demands: Mapping[str, Demand],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    durable: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> FactorStore:
    """Make a store know what ``demands`` ask; tensors that it knows well enough are not touched.

    ``durable=False`` is for a store that will not outlive the process: it does not wait for the disk.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device={device!r}", "expected 'cpu' or 'cuda'")
    folder = Path(store)
    described = sources.describe()
    known, stale = _known_records(folder, described, overwrite)
    order = {s.name: s for s in sources.tensors}
    pending = []
    for s in sources.tensors:
        demand = demands.get(s.name, Demand())
        if s.name not in known or s.name in stale or not known[s.name].meets(demand):
            pending.append((s, _widened(demand, known.get(s.name))))
    journal = Journal(folder, durable)
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
        for record in _run(pending, folder, workers, executor, device, durable, progress):
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


def _run(
    pending: list[tuple[Source, Demand]],
    folder: Path,
    workers: int | None,
    executor: Executor | None,
    device: str,
    durable: bool,
    progress: Callable[[Progress], None] | None,
) -> Iterable[TensorRecord]:
    """Yield records as tensors finish, the largest started first so that the workers end together."""
    largest_first = sorted(pending, key=lambda p: -p[0].tuned.nbytes)
    tasks = [
        Task(s.name, s.kind, s.base, s.tuned, s.rows, demand, folder, device=device, durable=durable)
        for s, demand in largest_first
    ]
    meter = Meter(tasks, progress)
    # The bytes of a product depend on its BLAS threads, so those must not depend on how many tensors
    # happen to be left: light tensors get one each and stand side by side, since thin products do not
    # fill two cores; large ones on the exact route come first, one at a time, with all cores.
    if executor is not None:
        with threadpool_limits(1, user_api="blas"):
            yield from _collect(executor, run_task_alone, tasks, meter)
        return
    cores = os.cpu_count() or 1
    for group, count, threads in (
        ([t for t in tasks if _is_heavy(t)], workers or 1, cores),
        ([t for t in tasks if not _is_heavy(t)], workers or cores, 1),
    ):
        if group:
            ahead = [replace(t, upcoming=_ahead(group, i + count)) for i, t in enumerate(group)]
            with threadpool_limits(threads, user_api="blas"), ThreadPoolExecutor(count) as pool:
                yield from _collect(pool, run_task, ahead, meter)


def run_task_alone(task: Task) -> TensorRecord:
    """Run a task with one BLAS thread, whatever process it lands in."""
    with threadpool_limits(1, user_api="blas"):
        return run_task(task)


class Meter:
    """Counts tensors and bytes over all groups of a pass, and tells."""

    def __init__(self, tasks: list[Task], tell: Callable[[Progress], None] | None) -> None:
        self.total, self.total_bytes = len(tasks), sum(t.nbytes for t in tasks)
        self.done = self.bytes_done = 0
        self.tell = tell

    def add(self, task: Task) -> None:
        """Count one finished tensor."""
        self.done += 1
        self.bytes_done += task.nbytes
        if self.tell is not None:
            self.tell(Progress(self.done, self.total, self.bytes_done, self.total_bytes, task.name))


def _collect(
    pool: Executor, work: Callable[[Task], TensorRecord], tasks: list[Task], meter: Meter
) -> Iterable[TensorRecord]:
    futures: dict[Future[TensorRecord], Task] = {pool.submit(work, t): t for t in tasks}
    try:
        for future in as_completed(futures):
            yield future.result()
            meter.add(futures[future])
    finally:
        for future in futures:
            future.cancel()


def _ahead(tasks: list[Task], index: int) -> tuple[TensorInfo, ...]:
    """Return the files' regions of the task that will start when this one ends."""
    if index >= len(tasks):
        return ()
    task = tasks[index]
    return tuple(info for info in (task.base, task.tuned) if info is not None)


def _is_heavy(task: Task) -> bool:
    """Whether a tensor is large and may take the exact route, which needs several times its size."""
    goal, shape = task.demand.goal, (task.base or task.tuned).shape
    if task.tuned.size <= LIGHT or len(shape) != 2 or (goal is None and not task.demand.whole):
        return False
    if task.demand.whole or goal is None or goal.kind != "rank":
        return True
    return max(goal.value, task.demand.hold) > krylov_limit(*shape)


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
            _what_changed(sources, described),
            f"Name another folder, or fill this one anew: eckart factor BASE TUNED {folder} --overwrite",
        )
    return records, stale


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a store, the beginning of one, or empty."""
    names = {entry.name for entry in folder.iterdir()}
    return bool(names & {MANIFEST, JOURNAL}) or all(
        name in (FACTORS, f"{Path(JOURNAL).stem}.tmp") or re.fullmatch(r"\..*\.tmp-\d+", name)
        for name in names
    )


def _what_changed(stored: Any, found: dict[str, Any]) -> str:
    """Say which file of which side is not what it was."""
    for side in ("base", "tuned"):
        old, new = stored.get(side), found[side]
        if old == new:
            continue
        if not old or not new or old.get("path") != new["path"]:
            was = old["path"] if old else "no checkpoint"
            return f"was filled from another {side}: {was}"
        before = {f["name"]: f for f in old["files"]}
        for file in new["files"]:
            past = before.get(file["name"])
            if past != file:
                parts = [k for k in ("size", "mtime_ns", "header") if past and past[k] != file[k]]
                what = " and ".join(parts).replace("mtime_ns", "time of change") or "presence"
                return f"the {side} has changed since the store was filled: {file['name']} ({what})"
        return f"the {side} has changed since the store was filled"
    return "its journal is damaged"


def reopen(store: FactorStore) -> Sources:
    """Open the checkpoints that a store was filled from, and check that they are the same still."""
    stored = store.sources
    base = stored["base"]["path"] if stored["base"] else None
    sources = Sources.open(base, stored["tuned"]["path"])
    found = sources.describe()
    if found != stored:
        raise StoreError(str(store.path), _what_changed(stored, found), "Factor again with --overwrite")
    return sources
