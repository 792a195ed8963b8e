"""One tensor of a pass: read, subtract, factor, write. Runs in any thread, process or cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eckart.checkpoint import TensorInfo
from eckart.checkpoint.mapping import prefetch_tensor
from eckart.linalg import Goal, LowRank, all_values, factor_matrix
from eckart.linalg.decompose import on_gpu, with_all_values
from eckart.linalg.routes.krylov import seed_for
from eckart.store.delta import Delta, read_delta
from eckart.store.record import Demand, TensorRecord
from eckart.store.store import write_factors

THRESHOLDS = ("ratio", "above")


@dataclass(frozen=True)
class Task:
    """All that `run_task` needs, as plain data that survives a pickle."""

    name: str
    kind: str
    base: TensorInfo | None
    tuned: TensorInfo
    rows: int | None
    demand: Demand
    folder: Path
    seed: int = 0
    device: str = "cpu"
    durable: bool = True
    upcoming: tuple[TensorInfo, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that must be read."""
        return self.tuned.nbytes + (self.base.nbytes if self.base else 0)


def run_task(task: Task) -> TensorRecord:
    """Do one tensor: its factors are on the disk, whole, when this returns."""
    for info in task.upcoming:
        prefetch_tensor(info)
    delta = read_delta(task.base, task.tuned, task.rows, task.demand.noise)
    shape = (task.base or task.tuned).shape
    if task.rows is not None:
        shape = (task.rows, *shape[1:])
    record = TensorRecord(
        name=task.name,
        kind=task.kind,
        shape=shape,
        base_dtype=task.base.dtype if task.base else "",
        tuned_dtype=task.tuned.dtype,
        new_rows=task.tuned.shape[0] - task.base.shape[0] if task.base and task.rows is not None else 0,
        energy=delta.energy,
        base_energy=delta.base_energy,
        unchanged=delta.unchanged / max(delta.matrix.size, 1),
        noise_floor=delta.noise_floor,
        size=min(delta.matrix.shape) if len(shape) == 2 else 0,
    )
    demand = task.demand
    if len(shape) != 2 or (demand.goal is None and not demand.whole):
        return record
    return _with_factors(task, record, delta)


def _with_factors(task: Task, record: TensorRecord, delta: Delta) -> TensorRecord:
    """Factor the update as its demand says, write the factors, and complete the record."""
    demand = task.demand
    goal = _own_goal(demand, record.size, delta)
    asked = None if demand.goal is None else {"kind": demand.goal.kind, "value": demand.goal.value}
    if delta.energy == 0:
        write_factors(task.folder, task.name, None, np.zeros(record.size), task.durable)
        return replace(record, known=record.size, goal=asked)
    matrix = on_gpu(delta.matrix) if task.device == "cuda" else delta.matrix
    found = None if goal is None else _factors(task, matrix, goal, delta.energy)
    if found is not None and found.rank < demand.hold:
        found = _factors(task, matrix, Goal("rank", demand.hold), delta.energy)
    spectrum = all_values(matrix, delta.energy) if found is None else found.spectrum
    assert spectrum is not None
    if spectrum.complete and len(spectrum):
        values, tail = spectrum.values, 0.0
    else:  # of a Krylov space only what was kept is near the truth
        assert found is not None
        # A threshold also needs the first value under it, or it could not be told that all are in.
        under = spectrum.values[found.rank : found.rank + (goal is not None and goal.kind in THRESHOLDS)]
        values = np.concatenate([found.s, under])
        tail = max(found.tail - float((under**2).sum()), 0.0)
    if found is not None and task.device == "cuda":
        found = LowRank(found.U.cpu().numpy(), found.s, found.Vh.cpu().numpy(), found.tail)
    if found is not None and not found.rank:
        found = None
    write_factors(task.folder, task.name, found, values, task.durable)
    return replace(
        record,
        known=len(values),
        tail=tail,
        rank=found.rank if found else 0,
        method=found.method if found else "",
        rank_bounds=found.rank_bounds if found else None,
        goal=asked,
    )


def _factors(task: Task, matrix: Any, goal: Goal, energy: float) -> LowRank:
    """Factor to a goal, by a route that finds every singular value if all are wanted."""
    if task.demand.whole:
        return with_all_values(matrix, goal, energy)
    return factor_matrix(matrix, goal, total=energy, seed=seed_for(task.seed, task.name))


def _own_goal(demand: Demand, size: int, delta: Delta) -> Goal | None:
    """Fit a demand's goal to this tensor: its own size, its own noise floor."""
    goal = demand.goal
    if goal is None:
        return None
    if goal.kind == "rank":
        return Goal("rank", min(int(goal.value), size))
    if goal.kind == "above":
        return Goal("above", delta.noise_floor or 0.0)
    return goal
