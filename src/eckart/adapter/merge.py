"""Merge: adapters added into a base model's weights, streamed, and the rounding that this costs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.formats.write import Tell, in_order_of_arrival
from eckart.adapter.resize import refuse_same_place
from eckart.adapter.statement import FORMAT, STATEMENT, relative, versions
from eckart.adapter.targets import Targets
from eckart.adapter.updates import WeightedSum, check_weights, common_dense
from eckart.checkpoint import (
    Checkpoint,
    OutputFolder,
    TensorInfo,
    all_finite,
    is_float,
    stream_safetensors,
    to_float,
    write_json,
)
from eckart.checkpoint.foreign import is_pickle_name
from eckart.checkpoint.kinds import is_input_embedding, tied_head
from eckart.checkpoint.locate import INDEX_SUFFIX, check_link
from eckart.checkpoint.pair import VOCABULARY
from eckart.checkpoint.quantised import refuse_quantised
from eckart.errors import AdapterError, CheckpointError, OutputError

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
    progress: Tell | None = None,
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
    job = _Job.plan(model, loaded, shares)
    target = Path(out)
    result = Merged(target, tuple(job.by_tensor), tuple(job.new), job.size, {}, tuple(job.notes))
    if dry_run:
        return result
    refuse_same_place(out, loaded)
    if model.folder.resolve().is_relative_to(target.resolve()):
        raise OutputError(str(out), f"is or holds the base, {base}", "Name another folder for the model")
    with OutputFolder(target, overwrite=overwrite, marker=STATEMENT) as staging:
        done = 0
        total = len(model.tensors) + len(job.new)
        for file in model.files:
            for name in job.write_shard(file, staging, workers):
                done += 1
                if progress is not None:
                    progress(done, total, name)
        job.write_index(staging)
        _copy_others(model, staging)
        result.statement = job.statement(str(base))
        write_json(staging / STATEMENT, result.statement)
    return result


@dataclass(frozen=True)
class _Piece:
    """One module's part of a tensor."""

    module: str
    expert: int | None


@dataclass
class _Job:
    """A merge that was planned: what happens to every tensor."""

    model: Checkpoint
    updates: WeightedSum
    by_tensor: dict[str, list[_Piece]]
    biases: dict[str, str]
    dense: dict[str, Array]
    new: dict[str, Array]
    notes: list[str]
    said: dict[str, dict[str, float]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def plan(cls, model: Checkpoint, adapters: list[Adapter], weights: list[float]) -> _Job:
        found = [Targets.find(a, model) for a in adapters]
        for targets, adapter in zip(found, adapters, strict=True):
            for name, why in targets.missing.items():
                whose = (
                    f", a part of a pipeline ({', '.join(adapter.components)})" if adapter.components else ""
                )
                raise AdapterError(
                    f"{adapter.path}: {name}", why, f"Name the base that the adapter was made for{whose}"
                )
            _check_tied(targets, model)
            if not targets.places and not adapter.dense:
                raise AdapterError(str(adapter.path), f"has no module that {model.path} has")
        kept = [
            replace(t.adapter, modules={n: m for n, m in t.adapter.modules.items() if n in t.places})
            for t in found
        ]
        by_tensor: dict[str, list[_Piece]] = {}
        biases: dict[str, str] = {}
        for targets in found:
            for name, place in targets.places.items():
                pieces = by_tensor.setdefault(place.tensor, [])
                if all(piece.module != name for piece in pieces):
                    pieces.append(_Piece(name, place.expert))
                if targets.adapter.modules[name].bias is not None:
                    biases[_bias_name(model, name, place.tensor, adapters)] = name
        dense = {_whole_name(n, model, found): array for n, array in common_dense(adapters).items()}
        notes = [note for a in adapters for note in a.notes]
        for targets in found:
            if targets.skipped:
                notes.append(f"{len(targets.skipped)} modules of other models of the pipeline are not merged")
        unknown = [key for a in adapters for key in a.unknown]
        if unknown:
            notes.append(f"{len(unknown)} tensors not understood and not merged: {', '.join(unknown[:3])}")
        both = sorted(set(dense) & set(by_tensor))
        if both:
            raise AdapterError(
                both[0], "is saved whole by one adapter and updated by another", "Merge in turn"
            )
        dense = _without_tied_copy(dense, model)
        for name, array in dense.items():
            _check_whole(name, array, model, notes)
        new = {name: array for name, array in dense.items() if name not in model}
        return cls(model, WeightedSum(kept, weights), by_tensor, biases, dense, new, notes)

    @property
    def size(self) -> int:
        """Bytes of all tensors as they will be."""
        old = sum(info.nbytes for name, info in self.model.tensors.items() if name not in self.dense)
        return old + sum(array.nbytes for array in self.dense.values())

    def write_shard(self, file: Path, folder: Path, workers: int | None):  # type: ignore[no-untyped-def]
        """Write one file of the model under its own name, and yield the tensors as they are done."""
        infos = {n: info for n, info in self.model.tensors.items() if info.file == file}
        last = file == self.model.files[-1]
        arrays = {n: self._outline(info) for n, info in infos.items()} | (self.new if last else {})
        path = folder / file.relative_to(self.model.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with stream_safetensors(path, arrays, self.model.headers[file].metadata) as put:

            def work(name: str) -> str:
                put(name, self._made(infos[name]) if name in infos else self.new[name])
                self.updates.release()
                return name

            yield from in_order_of_arrival(work, arrays, workers)

    def _outline(self, info: TensorInfo) -> Array:
        array = self.model.map(info.name)
        whole = self.dense.get(info.name)
        return array if whole is None else np.broadcast_to(np.zeros((), array.dtype), whole.shape)

    def _made(self, info: TensorInfo) -> Array:
        """Return a tensor as it will be written."""
        stored = self.model.map(info.name)
        if info.name in self.dense:
            return self._rounded_whole(info.name, self.dense[info.name], stored.dtype)
        if info.name in self.by_tensor:
            return self._updated(info, stored, self.by_tensor[info.name])
        if info.name in self.biases:
            change = self.updates.bias(self.biases[info.name])
            assert change is not None
            return self._added(info, stored.reshape(1, -1), change[:, None].T, None).reshape(stored.shape)
        return stored

    def _rounded_whole(self, name: str, whole: Array, dtype: np.dtype[Any]) -> Array:
        array = np.ascontiguousarray(whole.astype(dtype))
        if not all_finite(array):
            raise OutputError(name, f"the whole tensor of the adapter overflows {dtype}")
        return array

    def _updated(self, info: TensorInfo, stored: Array, pieces: list[_Piece]) -> Array:
        if pieces[0].expert is None:
            left, right = self._factors(pieces[0].module)
            return self._added(info, stored.reshape(len(stored), -1), left, right).reshape(stored.shape)
        result = np.array(stored)
        for piece in pieces:
            left, right = self._factors(piece.module)
            result[piece.expert] = self._added(info, stored[piece.expert], left, right)
        return result

    def _factors(self, module: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        product = self.updates.product(module)
        return product.left.whole() * product.weights, product.right.whole().T

    def _added(
        self, info: TensorInfo, weight: Array, left: NDArray[np.float64], right: NDArray[np.float64] | None
    ) -> Array:
        """Return weight + left @ right (or + left) in the weight's dtype, and note what rounding took."""
        if not is_float(weight.dtype):
            raise CheckpointError(
                f"{info.file}: {info.name}", f"expected floating weights, found {weight.dtype}"
            )
        work = np.float64 if weight.dtype == np.float64 else np.float32
        left = left.astype(work)
        right = None if right is None else right.astype(work)
        result = np.empty(weight.shape, weight.dtype)
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
                f"{info.name}", f"its sum with the update is not finite in {weight.dtype}",
                "Check the base for NaN, or lower --weights",
            )  # fmt: skip
        with self.lock:
            old = self.said.setdefault(info.name, {"update": 0.0, "rounding": 0.0})
            old["update"] += moved
            old["rounding"] += lost
        return result

    def write_index(self, folder: Path) -> None:
        """Write the index of a sharded model."""
        indexes = [p for p in self.model.folder.iterdir() if p.name.endswith(INDEX_SUFFIX)]
        if len(self.model.files) < 2 and not indexes:
            return
        place = {name: info.file for name, info in self.model.tensors.items()}
        place |= {name: self.model.files[-1] for name in self.new}
        name = indexes[0].name if indexes else f"model{INDEX_SUFFIX}"
        weight_map = {n: f.relative_to(self.model.folder).as_posix() for n, f in sorted(place.items())}
        write_json(folder / name, {"metadata": {"total_size": self.size}, "weight_map": weight_map})

    def statement(self, base: str) -> dict[str, Any]:
        """Say what was added and what rounding took of it."""
        said = dict(sorted(self.said.items()))  # by name: threads finish in any order, and sums follow it
        moved = sum(s["update"] for s in said.values())
        lost = sum(s["rounding"] for s in said.values())
        return {
            "format": FORMAT,
            "base": base,
            "of": self.updates.sources,
            "rounding": relative(lost, moved),
            "tensors": {
                name: {
                    "update": float(np.sqrt(s["update"])),
                    "rounding": relative(s["rounding"], s["update"]),
                }
                for name, s in said.items()
            },
            "whole": sorted(self.dense),
            "versions": versions(),
        }


def _check_tied(targets: Targets, model: Checkpoint) -> None:
    """Refuse an update of a tied head, unless the embedding gets the same one."""
    tables = [m for m in targets.adapter if m.kind == "embedding"]
    for name in targets.tied:
        head = targets.adapter.modules[name]
        if not any(_same_update(head, table) for table in tables):
            raise AdapterError(
                f"{targets.adapter.path}: {name}",
                f"updates the head of {model.path}, which shares the input embedding's weight",
                "Save the base with an output layer of its own, and tie_word_embeddings false",
            )


def _without_tied_copy(dense: dict[str, Array], model: Checkpoint) -> dict[str, Array]:
    """Leave out a tied head that goes along with its table: the base keeps one copy of the two."""
    head = tied_head(model.names(), model.config)
    name = f"{head}.weight"
    if not head or name not in dense:
        return dense
    table = next((n for n in dense if is_input_embedding(n)), None)
    if table is None or not np.array_equal(dense[table], dense[name]):
        raise AdapterError(
            name, f"is saved whole, and in {model.path} it shares the input embedding's weight",
            "Save the base with an output layer of its own, and tie_word_embeddings false",
        )  # fmt: skip
    return {n: array for n, array in dense.items() if n != name}


def _check_whole(name: str, array: Array, model: Checkpoint, notes: list[str]) -> None:
    """Refuse a whole tensor of another shape than the base's, but for a vocabulary of another size."""
    if name not in model or model.info(name).shape == array.shape:
        return
    old = model.info(name).shape
    if array.shape[1:] != old[1:] or not any(part in name for part in VOCABULARY):
        raise AdapterError(
            name, f"is saved whole with shape {array.shape}, the base holds {old}", "Name the adapter's base"
        )
    notes.append(f"{name} has {array.shape[0]} rows, the base {old[0]}: set vocab_size in config.json")


def _same_update(head: Module, embedding: Module) -> bool:
    same_kind = (
        replace(embedding, kind="linear") if embedding.shape == head.shape else embedding.transposed("linear")
    )
    return all(
        np.array_equal(a.astype(np.float64), b.astype(np.float64))
        for a, b in ((head.left, same_kind.left), (head.right, same_kind.right))
    )


def _bias_name(model: Checkpoint, module: str, tensor: str, adapters: list[Adapter]) -> str:
    name = tensor.removesuffix(".weight") + ".bias"
    if name not in model:
        raise AdapterError(
            f"{adapters[0].path}: {module}", "updates a bias, and the base has none there", "Name its base"
        )
    return name


def _whole_name(name: str, model: Checkpoint, found: list[Targets]) -> str:
    """Return how the base spells the name of a tensor that is saved whole."""
    for targets in found:
        prefix = targets.prefix
        spelt = name.removeprefix(prefix[1:]) if prefix.startswith("-") else prefix + name
        if name not in model and spelt in model:
            return spelt
    return name


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
