"""One tensor of a pass: read, subtract, factor, write. A task runs in any thread, process or cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eckart.arrays import Floats
from eckart.checkpoint import TensorInfo
from eckart.checkpoint.kinds import Kind
from eckart.checkpoint.mapping import prefetch_tensor
from eckart.linalg import Goal, LowRank, Spectrum, all_values, factor_matrix
from eckart.linalg.backend import DeviceArray
from eckart.linalg.decompose import SMALL, on_gpu, with_all_values
from eckart.linalg.seeds import seed_for
from eckart.store.delta import Delta, read_delta
from eckart.store.factors import write_factors
from eckart.store.record import NOISE_FLOOR, Demand, TensorRecord

THRESHOLDS = ("ratio", "above")  # goals that count the singular values above a threshold


@dataclass(frozen=True)
class Task:
    """Everything that `run_task` needs, as plain data that can be sent to another process.

    Parameters
    ----------
    name, kind, base, tuned, rows
        As in `Source`.
    demand : Demand
        What to learn about the tensor.
    folder : Path
        Folder of the store.
    seed : int
        Seed of the randomised route, which is combined with the tensor's name.
    device : {"cpu", "cuda"}
        Where to factor.
    durable : bool
        Whether to wait until the factors have reached the disk.
    upcoming : tuple of TensorInfo
        File regions to read ahead for the next task.
    """

    name: str
    kind: Kind
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
        """Number of bytes to read from both files."""
        return self.tuned.nbytes + (self.base.nbytes if self.base else 0)


def run_task(task: Task) -> TensorRecord:
    """Read, subtract and factor one tensor, and write its factors completely before returning its record."""
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
    record = replace(record, goal=demand.goal)
    if delta.energy == 0:
        return _written(task, replace(record, known=record.size), None, np.zeros(record.size))
    matrix = on_gpu(delta.matrix) if task.device == "cuda" else delta.matrix
    goal = _goal_for(demand, record.size, delta)
    if goal is None:
        return _with_values(task, record, matrix)
    return _with_factors(task, record, matrix, goal)


def _with_values(task: Task, record: TensorRecord, matrix: DeviceArray) -> TensorRecord:
    """Compute and write every singular value, and no factors."""
    if min(matrix.shape) <= SMALL:
        # The route that also gives vectors, so that the values stay the same when factors are added later.
        spectrum = with_all_values(matrix, Goal("rank", 1), record.energy).spectrum
        assert spectrum is not None  # every route returns the values that it computed
    else:
        spectrum = all_values(matrix, record.energy)
    values = spectrum.values
    return _written(task, replace(record, known=len(values)), None, values)


def _with_factors(task: Task, record: TensorRecord, matrix: DeviceArray, goal: Goal) -> TensorRecord:
    """Factor an update to its goal, write the factors, and complete the record."""
    factors = _factors(task, matrix, goal, record.energy)
    values, tail = _known_values(factors, goal)
    if Spectrum(values, tail, record.size).rank_for(goal) is None:
        # The goal is reached, but only within the rounding of the tail, so the values alone do not show it.
        factors = with_all_values(matrix, goal, record.energy)
    needed = task.demand.rank_for(factors.rank, record.size)
    if factors.rank < needed:
        factors = _factors(task, matrix, Goal("rank", needed), record.energy)
    values, tail = _known_values(factors, goal)
    if task.device == "cuda":
        factors = replace(factors, U=factors.U.cpu().numpy(), Vh=factors.Vh.cpu().numpy())
    record = replace(record, known=len(values), tail=tail)
    if not factors.rank:
        return _written(task, record, None, values)
    record = replace(record, rank=factors.rank, method=factors.method, rank_bounds=factors.rank_bounds)
    return _written(task, record, factors, values)


def _written(task: Task, record: TensorRecord, factors: LowRank | None, values: Floats) -> TensorRecord:
    """Write the tensor's file, and return the record with its checksums."""
    sums = write_factors(task.folder, task.name, factors, values, task.durable)
    return replace(record, values_checksum=sums[0], factors_checksum=sums[1])


def _known_values(factors: LowRank, goal: Goal) -> tuple[Floats, float]:
    """Return the singular values that are accurate, and the energy beyond them."""
    spectrum = factors.spectrum
    assert spectrum is not None  # every route returns the values that it found
    if spectrum.complete and len(spectrum):
        return spectrum.values, 0.0
    # Of the values in a Krylov space, only the kept ones are accurate. For a threshold, the first value below
    # it is needed too, because it shows that all values above the threshold are known.
    one_below = 1 if goal.kind in THRESHOLDS else 0
    below = spectrum.values[factors.rank : factors.rank + one_below]
    tail = max(factors.tail - float((below**2).sum()), 0.0)
    return np.concatenate([factors.s, below]), tail


def _factors(task: Task, matrix: DeviceArray, goal: Goal, energy: float) -> LowRank:
    """Factor to a goal, by a route that computes every singular value if all are needed."""
    if task.demand.whole:
        return with_all_values(matrix, goal, energy)
    return factor_matrix(matrix, goal, total=energy, seed=seed_for(task.seed, task.name))


def _goal_for(demand: Demand, size: int, delta: Delta) -> Goal | None:
    """Return the goal of a demand for this tensor: limited to its size, or at its noise floor."""
    goal = demand.goal
    if goal is None:
        return None
    if goal.kind == "rank":
        return Goal("rank", min(int(goal.value), size))
    if goal == NOISE_FLOOR:
        return Goal("above", delta.noise_floor or 0.0)
    return goal
