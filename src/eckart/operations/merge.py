"""Merge: adapters added into a base model's weights, streamed, and the rounding that this costs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats import load_adapter
from eckart.adapter.rounding import relative, rounded
from eckart.adapter.statement import FORMAT, STATEMENT, versions
from eckart.adapter.updates import check_weights
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
from eckart.checkpoint.quantised import refuse_quantised
from eckart.errors import CheckpointError, OutputError
from eckart.operations.merge_plan import MergePlan, Piece, plan_merge
from eckart.parallel import OnProgress, Progress, map_unordered

Array = NDArray[Any]

BLOCK = 1 << 20  # numbers of a weight in work at a time


@dataclass
class Merged:
    """What `merge` did, or would do.

    Parameters
    ----------
    path : Path
    changed : tuple of str
        Tensors of the base that are updated.
    added : tuple of str
        Tensors that the base does not have.
    size : int
        Bytes of the model.
    statement : dict
        What ``eckart.json`` in the model holds; empty for a dry run.
    notes : tuple of str
    """

    path: Path
    changed: tuple[str, ...]
    added: tuple[str, ...]
    size: int
    statement: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def merge(
    base: str | Path,
    adapters: Sequence[Adapter | str | Path],
    out: str | Path,
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
    base : path
        A checkpoint; its shards, names and dtypes are kept, and its other files copied.
    adapters : sequence of Adapter or path
    out : path
        Folder of the model, made whole or not at all.
    weights : sequence of float, optional
        1 for each by default.
    dry_run : bool
        Match names and shapes, count bytes, write nothing.

    Raises
    ------
    InputError
        If a module has no place in the base, a shape differs, or a sum overflows the dtype.

    Notes
    -----
    The product is formed in float32 (float64 for a float64 base) a block of rows at a time, added to
    the weight in that precision, and rounded once. Equals PEFT's ``merge_and_unload`` to the rounding
    that PEFT does on the way. A whole tensor of ``modules_to_save`` replaces the base's.
    """
    loaded = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    shares = [1.0] * len(loaded) if weights is None else list(weights)
    check_weights(loaded, shares)
    model = Checkpoint.open(base)
    refuse_quantised(model.tensors)
    plan = plan_merge(model, loaded, shares)
    target = Path(out)
    result = Merged(target, tuple(plan.by_tensor), tuple(plan.new), plan.size, {}, tuple(plan.notes))
    if dry_run:
        return result
    refuse_overlap(out, [model.folder, *(a.path for a in loaded)])
    with OutputFolder(target, overwrite=overwrite, marker=STATEMENT) as staging:
        job = _Job(plan)
        done, total = 0, len(model.tensors) + len(plan.new)
        for file in model.files:
            for name in job.write_shard(file, staging, workers):
                done += 1
                if progress is not None:
                    progress(Progress(done, total, name))
        job.write_index(staging)
        _copy_others(model, staging)
        result.statement = job.statement(str(base))
        write_json(staging / STATEMENT, result.statement)
    return result


class _Job:
    """A merge at work."""

    def __init__(self, plan: MergePlan) -> None:
        self.plan = plan
        self.said: dict[str, dict[str, float]] = {}
        self.lock = Lock()

    def write_shard(self, file: Path, folder: Path, workers: int | None):  # type: ignore[no-untyped-def]
        """Write one file of the model under its own name, and yield the tensors as they are done."""
        infos = {n: info for n, info in self.plan.model.tensors.items() if info.file == file}
        last = file == self.plan.model.files[-1]
        arrays = {n: self.plan.outline(info) for n, info in infos.items()} | (self.plan.new if last else {})
        path = folder / file.relative_to(self.plan.model.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with stream_safetensors(path, arrays, self.plan.model.headers[file].metadata) as put:

            def work(name: str) -> str:
                put(name, self._made(infos[name]) if name in infos else self.plan.new[name])
                self.plan.updates.release()
                return name

            yield from map_unordered(work, arrays, workers)

    def _made(self, info: TensorInfo) -> Array:
        """Return a tensor as it will be written."""
        array = self.plan.dense.get(info.name, self.plan.model.map(info.name))
        if info.name in self.plan.by_tensor:
            array = self._updated(info, array, self.plan.by_tensor[info.name])
        if info.name in self.plan.biases:
            change = self.plan.updates.bias(self.plan.biases[info.name])
            assert change is not None
            array = self._added(info, array.reshape(1, -1), change[None], None).reshape(array.shape)
        dtype = self.plan.model.map(info.name).dtype
        array = array if array.dtype == dtype else self._rounded_whole(info.name, array, dtype)
        if info.name in self.plan.rows:
            rows = self.plan.rows[info.name]
            array = np.array(array)
            array[list(rows.indices)] = self._rounded_whole(info.name, rows.values, dtype)
        return array

    def _rounded_whole(self, name: str, whole: Array, dtype: np.dtype[Any]) -> Array:
        array = rounded(whole, dtype)
        if not all_finite(array):
            raise OutputError(name, f"the whole tensor of the adapter overflows {dtype}")
        return array

    def _updated(self, info: TensorInfo, stored: Array, pieces: list[Piece]) -> Array:
        if pieces[0].expert is None:
            left, right = self._factors(pieces[0].module)
            return self._added(info, stored.reshape(len(stored), -1), left, right).reshape(stored.shape)
        result = np.empty(stored.shape, self.plan.model.map(info.name).dtype)
        result[...] = stored
        for piece in pieces:
            left, right = self._factors(piece.module)
            result[piece.expert] = self._added(info, stored[piece.expert], left, right)
        return result

    def _factors(self, module: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        product = self.plan.updates.product(module)
        return product.left.whole() * product.weights, product.right.whole().T

    def _added(
        self, info: TensorInfo, weight: Array, left: NDArray[np.float64], right: NDArray[np.float64] | None
    ) -> Array:
        """Return weight + left @ right (or + left) in the base's dtype, and note what rounding took."""
        if not is_float(weight.dtype):
            raise CheckpointError(
                f"{info.file}: {info.name}", f"expected floating weights, found {weight.dtype}"
            )
        work = np.float64 if weight.dtype == np.float64 else np.float32
        left = left.astype(work)
        right = None if right is None else right.astype(work)
        result = np.empty(weight.shape, self.plan.model.map(info.name).dtype)
        step = max(1, BLOCK // max(weight.shape[1], 1))
        moved = lost = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(weight), step):
                part = slice(start, start + step)
                update = left[part] if right is None else left[part] @ right
                exact = to_float(weight[part]) + update
                result[part] = exact
                moved += float((update.astype(np.float64) ** 2).sum())
                gap = result[part].astype(np.float64) - weight[part].astype(np.float64) - update
                lost += float((gap**2).sum())
        if not all_finite(result):
            raise OutputError(
                f"{info.name}", f"its sum with the update is not finite in {result.dtype}",
                "Check the base for NaN, or lower --weights",
            )  # fmt: skip
        with self.lock:
            old = self.said.setdefault(info.name, {"update": 0.0, "rounding": 0.0})
            old["update"] += moved
            old["rounding"] += lost
        return result

    def write_index(self, folder: Path) -> None:
        """Write the index of a sharded model."""
        model = self.plan.model
        indexes = sorted(p.name for p in model.folder.iterdir() if p.name.endswith(INDEX_SUFFIX))
        if len(model.files) < 2 and not indexes:
            return
        place = {name: info.file for name, info in model.tensors.items()}
        place |= {name: model.files[-1] for name in self.plan.new}
        name = indexes[0] if indexes else f"model{INDEX_SUFFIX}"
        weight_map = {n: f.relative_to(model.folder).as_posix() for n, f in sorted(place.items())}
        write_json(folder / name, {"metadata": {"total_size": self.plan.size}, "weight_map": weight_map})

    def statement(self, base: str) -> dict[str, Any]:
        """Say what was added and what rounding took of it."""
        said = dict(sorted(self.said.items()))  # by name: threads finish in any order, and sums follow it
        moved = sum(s["update"] for s in said.values())
        lost = sum(s["rounding"] for s in said.values())
        return {
            "format": FORMAT,
            "base": base,
            "of": [asdict(source) for source in self.plan.updates.sources],
            "rounding": relative(lost, moved),
            "tensors": {
                name: {
                    "update": float(np.sqrt(s["update"])),
                    "rounding": relative(s["rounding"], s["update"]),
                }
                for name, s in said.items()
            },
            "whole": sorted(self.plan.dense),
            "rows": {name: list(rows.indices) for name, rows in sorted(self.plan.rows.items())},
            "versions": versions(),
        }


def _copy_others(model: Checkpoint, staging: Path) -> None:
    """Copy the small files of the base: configuration, tokenizer, licence."""
    whole = model.path.is_dir()  # a file named alone has only its configuration beside it
    for file in sorted(model.folder.iterdir()) if whole else [model.folder / "config.json"]:
        if not file.is_file() or file.suffix == ".safetensors" or is_pickle_name(file):
            continue
        if file.name.endswith(INDEX_SUFFIX) or file.name == STATEMENT or file.suffix == ".gguf":
            continue
        check_link(model.folder, file)
        shutil.copyfile(file, staging / file.name)
