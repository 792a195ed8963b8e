"""Merge: adapters added into a base model's weights one tensor at a time, with the rounding error stated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats import load_adapter
from eckart.adapter.rounding import relative, rounded
from eckart.adapter.statement import STATEMENT, versions
from eckart.adapter.updates import check_weights, refuse_single
from eckart.arguments import argument
from eckart.arrays import Array, DType, Floats
from eckart.checkpoint import (
    Checkpoint,
    OutputFolder,
    TensorInfo,
    all_finite,
    is_float,
    refuse_overlap,
    stream_safetensors,
    to_float,
    write_json,
)
from eckart.checkpoint.foreign import is_pickle_name
from eckart.checkpoint.locate import INDEX_SUFFIX, check_link
from eckart.checkpoint.model import open_model
from eckart.checkpoint.numbers import energy_of
from eckart.checkpoint.quantised import refuse_quantised
from eckart.errors import CheckpointError, OutputError, UsageError
from eckart.operations.merge_plan import MergePlan, Piece, plan_merge
from eckart.operations.merge_statement import MERGE_STATEMENT, MergeStatement, TensorChange
from eckart.parallel import OnProgress, Progress, map_unordered
from eckart.paths import user_path
from eckart.text import count

BLOCK_ENTRIES = 1 << 20  # numbers of a weight that are summed at a time


@dataclass(frozen=True, repr=False)
class Merged:
    """The result of `merge`.

    Parameters
    ----------
    path : Path or None
        Where the model was written; None for a dry run.
    changed : tuple of str
        Names of the base's tensors that are updated.
    added : tuple of str
        Names of tensors that the base does not have.
    size : int
        Size of the model's tensors in bytes.
    statement : MergeStatement or None
        What the model's ``eckart.json`` holds; None for a dry run.
    notes : tuple of str
        Remarks on the inputs and the result, in sentences.
    """

    path: Path | None
    changed: tuple[str, ...]
    added: tuple[str, ...]
    size: int
    statement: MergeStatement | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        changed = count(self.changed, "tensor")
        if self.statement is None:
            return f"Merged(dry run: {changed} would change)"
        return f"Merged({self.path}: {changed} changed, rounding error {self.statement.rounding:.3g})"


def merge(
    base: str | Path,
    adapters: Sequence[Adapter | str | Path],
    out: str | Path | None,
    weights: Sequence[float] | None = None,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> Merged:
    """Add adapters into a base model: W + sum_i w_i scale_i B_i A_i.

    Parameters
    ----------
    base : str or Path
        A checkpoint. The new model has the same shards, names and dtypes, and copies of its other files.
    adapters : sequence of Adapter, str or Path
        Adapters of that base, or their paths.
    out : str or Path
        Folder of the new model. Nothing is written if anything fails. May be None for a dry run.
    weights : sequence of float, optional
        One for each adapter, 1 by default. Negative weights subtract.
    dry_run : bool
        Match names and shapes and count bytes, but write nothing.
    overwrite : bool
        Whether to replace a model that a merge wrote earlier.
    workers : int, optional
        Tensors in work at once; one per core by default. The result does not depend on it.
    progress : callable, optional
        Called with a `Progress` after each tensor.

    Returns
    -------
    Merged

    Raises
    ------
    InputError
        If an argument is wrong, the base lacks a module or has it in another shape, a sum overflows the
        dtype, or the model cannot be written.

    Notes
    -----
    The product is formed in float32 (float64 for a float64 base), a block of rows at a time, added to the
    weight in that precision, and rounded once. The result equals PEFT's ``merge_and_unload`` up to PEFT's own
    intermediate rounding. A module saved whole (``modules_to_save``) replaces that of the base. Merging costs
    2 m n r flops a module, and about five tensors of memory for each worker.
    """
    refuse_single(adapters)
    shares = [1.0] * len(adapters) if weights is None else list(weights)
    check_weights(adapters, shares)
    if out is None and not dry_run:
        raise UsageError(
            "eckart.merge",
            "expected the folder of the new model",
            f"Pass {argument('out')} or {argument('dry_run', True)}",
        )
    model = open_model(base)
    sources = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    refuse_quantised(model.tensors)
    plan = plan_merge(model, sources, shares)
    changed, added = tuple(plan.by_tensor), tuple(plan.new)
    if dry_run or out is None:
        return Merged(None, changed, added, plan.size, None, plan.notes)
    refuse_overlap(out, [model.folder, *(source.path for source in sources)])
    with OutputFolder(out, overwrite=overwrite, marker=STATEMENT, kind=MERGE_STATEMENT) as staging:
        job = _Job(plan)
        total = len(model.tensors) + len(plan.new)
        done = 0
        for file in model.files:
            for name in job.write_shard(file, staging, workers):
                done += 1
                if progress is not None:
                    progress(Progress(done, total, name))
        model.check_unchanged()  # the merged model must not mix two states of a file
        _write_index(plan, staging)
        _copy_other_files(model, staging)
        statement = job.statement(str(base))
        write_json(staging / STATEMENT, statement.to_json())
    return Merged(user_path(out), changed, added, plan.size, statement, plan.notes)


@dataclass
class _Energies:
    """Squared norms of one tensor's update and of its rounding error, summed over its parts."""

    update: float = 0.0
    rounding: float = 0.0


class _Job:
    """Writes the tensors of a merged model, and measures the rounding of each."""

    def __init__(self, plan: MergePlan) -> None:
        self.plan = plan
        self._energies: dict[str, _Energies] = {}
        self._lock = Lock()

    def write_shard(self, file: Path, folder: Path, workers: int | None) -> Iterator[str]:
        """Write one file of the model, under its own name, and yield the names of its tensors when done."""
        plan = self.plan
        infos = {name: info for name, info in plan.model.tensors.items() if info.file == file}
        new = plan.new if file == plan.model.files[-1] else {}
        outlines = {name: plan.outline(info) for name, info in infos.items()} | dict(new)
        path = folder / file.relative_to(plan.model.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with stream_safetensors(path, outlines, plan.model.headers[file].metadata) as put:

            def work(name: str) -> str:
                put(name, self._merged(infos[name]) if name in infos else new[name])
                plan.updates.release()
                return name

            yield from map_unordered(work, outlines, workers)

    def _merged(self, info: TensorInfo) -> Array:
        """Return a tensor of the new model."""
        plan, name = self.plan, info.name
        stored = plan.model.map(name)
        array = plan.dense.get(name, stored)
        if name in plan.by_tensor:
            array = self._updated(info, array, plan.by_tensor[name])
        if name in plan.biases:
            change = plan.updates.bias(plan.biases[name])
            assert change is not None  # `plan.biases` lists modules that have one
            array = self._sum(info, array.reshape(1, -1), change[None], None).reshape(array.shape)
        if array.dtype != stored.dtype:
            array = _rounded_whole(name, array, stored.dtype)
        if name in plan.rows:
            rows = plan.rows[name]
            array = np.array(array)
            array[list(rows.indices)] = _rounded_whole(name, rows.values, stored.dtype)
        return array

    def _updated(self, info: TensorInfo, stored: Array, pieces: list[Piece]) -> Array:
        """Return a tensor with the updates of its modules added."""
        if pieces[0].expert is None:
            left, right = self._factors(pieces[0].module)
            return self._sum(info, stored.reshape(len(stored), -1), left, right).reshape(stored.shape)
        result = np.empty(stored.shape, self.plan.model.map(info.name).dtype)
        result[...] = stored
        for piece in pieces:
            left, right = self._factors(piece.module)
            result[piece.expert] = self._sum(info, stored[piece.expert], left, right)
        return result

    def _factors(self, module: str) -> tuple[Floats, Floats]:
        product = self.plan.updates.product(module)
        return product.left.whole() * product.weights, product.right.whole().T

    def _sum(self, info: TensorInfo, weight: Array, left: Floats, right: Floats | None) -> Array:
        """Return weight + left @ right, or weight + left, in the base's dtype; record the rounding error.

        Parameters
        ----------
        info : TensorInfo
            The tensor that the weight is, or is a part of.
        weight : ndarray (m, n)
        left : ndarray (m, r), or (m, n) without `right`
        right : ndarray (r, n), optional
        """
        if not is_float(weight.dtype):
            raise CheckpointError(
                f"{info.file}: {info.name}", f"expected floating-point weights, found {weight.dtype}"
            )
        work = np.float64 if weight.dtype == np.float64 else np.float32
        left = left.astype(work)
        right = None if right is None else right.astype(work)
        result = np.empty(weight.shape, self.plan.model.map(info.name).dtype)
        rows_each = max(1, BLOCK_ENTRIES // max(weight.shape[1], 1))
        update_energy = rounding_energy = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(weight), rows_each):
                rows = slice(start, start + rows_each)
                update = left[rows] if right is None else left[rows] @ right
                result[rows] = to_float(weight[rows]) + update
                update_energy += energy_of(update)
                change = result[rows].astype(np.float64) - weight[rows].astype(np.float64)
                rounding_energy += energy_of(change - update)
        if not all_finite(result):
            raise OutputError(
                info.name,
                f"the sum of this weight and its update is not finite in {result.dtype}",
                f"Check the base for NaN, or use smaller {argument('weights')}",
            )
        with self._lock:
            energies = self._energies.setdefault(info.name, _Energies())
            energies.update += update_energy
            energies.rounding += rounding_energy
        return result

    def statement(self, base: str) -> MergeStatement:
        """Return what was added and the rounding error. Call this after every tensor is written."""
        # Summing in the order of the names makes the result independent of the order of the threads.
        energies = dict(sorted(self._energies.items()))
        update = sum(each.update for each in energies.values())
        rounding = sum(each.rounding for each in energies.values())
        return MergeStatement(
            base=base,
            sources=self.plan.updates.sources,
            rounding=relative(rounding, update),
            tensors={
                name: TensorChange(float(np.sqrt(each.update)), relative(each.rounding, each.update))
                for name, each in energies.items()
            },
            whole=tuple(sorted(self.plan.dense)),
            rows={name: tuple(rows.indices) for name, rows in sorted(self.plan.rows.items())},
            versions=versions(),
        )


def _rounded_whole(name: str, whole: Array, dtype: DType) -> Array:
    """Return a tensor that the adapter saved whole, in the base's dtype."""
    array = rounded(whole, dtype)
    if not all_finite(array):
        raise OutputError(name, f"the adapter saves this tensor whole, and it overflows {dtype}")
    return array


def _write_index(plan: MergePlan, folder: Path) -> None:
    """Write the index of a sharded model."""
    model = plan.model
    indexes = sorted(p.name for p in model.folder.iterdir() if p.name.endswith(INDEX_SUFFIX))
    if len(model.files) < 2 and not indexes:
        return
    files = {name: info.file for name, info in model.tensors.items()}
    files |= {name: model.files[-1] for name in plan.new}
    name = indexes[0] if indexes else f"model{INDEX_SUFFIX}"
    weight_map = {n: file.relative_to(model.folder).as_posix() for n, file in sorted(files.items())}
    write_json(folder / name, {"metadata": {"total_size": plan.size}, "weight_map": weight_map})


def _copy_other_files(model: Checkpoint, folder: Path) -> None:
    """Copy the small files of the base, such as the configuration, the tokenizer and the licence."""
    # Only the configuration next to a single file belongs to that model.
    is_folder = model.path.is_dir()
    for file in sorted(model.folder.iterdir()) if is_folder else [model.folder / "config.json"]:
        if not file.is_file() or file.suffix == ".safetensors" or is_pickle_name(file):
            continue
        if file.name.endswith(INDEX_SUFFIX) or file.name == STATEMENT or file.suffix == ".gguf":
            continue
        check_link(model.folder, file)
        shutil.copyfile(file, folder / file.name)
