"""What a merge does to every tensor of a base: matched, checked and counted before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Adapter, Module, Rows
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.adapter.targets import Targets, holds
from eckart.adapter.updates import WeightedSum, common_dense, common_rows
from eckart.checkpoint import Checkpoint, TensorInfo
from eckart.checkpoint.kinds import is_input_embedding, tied_head
from eckart.checkpoint.pair import VOCABULARY
from eckart.errors import AdapterError
from eckart.text import count

Array = NDArray[Any]


@dataclass(frozen=True)
class Piece:
    """One module's part of a tensor."""

    module: str
    expert: int | None


@dataclass
class MergePlan:
    """What is added to the tensors of a base, and what replaces them.

    Parameters
    ----------
    model : Checkpoint
    updates : WeightedSum
        Of the modules that have a place in it.
    by_tensor : dict of str to list of Piece
        Modules by the tensor that they update.
    biases : dict of str to str
        Modules by the bias that they update.
    dense : dict of str to ndarray
        Tensors that are replaced whole.
    rows : dict of str to Rows
        Tables in which rows are replaced.
    new : dict of str to ndarray
        Those of ``dense`` that the base does not have.
    notes : list of str
    """

    model: Checkpoint
    updates: WeightedSum
    by_tensor: dict[str, list[Piece]] = field(default_factory=dict)
    biases: dict[str, str] = field(default_factory=dict)
    dense: dict[str, Array] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    new: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all tensors as they will be."""
        old = sum(self.outline(info).nbytes for info in self.model.tensors.values())
        return old + sum(array.nbytes for array in self.new.values())

    def outline(self, info: TensorInfo) -> Array:
        """Return an array of the shape and dtype that a tensor of the base will have."""
        array = self.model.map(info.name)
        whole = self.dense.get(info.name)
        return array if whole is None else np.broadcast_to(np.zeros((), array.dtype), whole.shape)


def plan_merge(model: Checkpoint, adapters: Sequence[Adapter], weights: Sequence[float]) -> MergePlan:
    """Match the modules and tensors of adapters with those of a base.

    Raises
    ------
    AdapterError
        If one has no place in the base or another shape than there, or two contradict each other.
    """
    found = [_targets(adapter, model) for adapter in adapters]
    kept = [
        replace(t.adapter, modules={n: m for n, m in t.adapter.modules.items() if n in t.places})
        for t in found
    ]
    plan = MergePlan(model, WeightedSum(kept, weights), notes=[note for a in adapters for note in a.notes])
    for targets in found:
        _place(targets, plan)
        if targets.skipped:
            plan.notes.append(
                f"not merged: {count(targets.skipped, 'module')} of other models of the pipeline"
            )
    plan.notes += _tied_notes(plan, found)
    _replace_whole(plan, [t for t, weight in zip(found, weights, strict=True) if weight])
    return plan


def _targets(adapter: Adapter, model: Checkpoint) -> Targets:
    targets = Targets.find(adapter, model)
    targets.refuse_missing()
    tables = [m for m in targets.adapter if m.kind == "embedding"]
    for name in targets.tied:
        head = targets.adapter.modules[name]
        if not any(_same_update(head, table) for table in tables):
            raise AdapterError(
                f"{adapter.path}: {name}",
                f"updates the head of {model.path}, which shares the input embedding's weight",
                "Save the base with an output layer of its own, and tie_word_embeddings false",
            )
    if not (targets.places or adapter.dense or adapter.rows):
        raise AdapterError(str(adapter.path), f"has no module that {model.path} has")
    return targets


def _place(targets: Targets, plan: MergePlan) -> None:
    for name, place in targets.places.items():
        pieces = plan.by_tensor.setdefault(place.tensor, [])
        if all(piece.module != name for piece in pieces):
            pieces.append(Piece(name, place.expert))
        if targets.adapter.modules[name].bias is not None:
            bias = place.tensor.removesuffix(".weight") + ".bias"
            if bias not in plan.model:
                where = f"{targets.adapter.path}: {name}"
                raise AdapterError(where, "updates a bias, and the base has none there", "Name its base")
            plan.biases[bias] = name


def _replace_whole(plan: MergePlan, found: Sequence[Targets]) -> None:
    """Plan what replaces tensors of the base, or rows of them, or comes beside them."""
    model, adapters = plan.model, [t.adapter for t in found]

    def spelt(name: str) -> str:
        return next((s for t in found if (s := t.tensor(name, model)) in model), name)

    dense = {spelt(name): array for name, array in common_dense(adapters).items()}
    copies = {spelt(name) for a in adapters for name in a.dense if is_copy_of_base(name, a)}
    dense = {n: array for n, array in dense.items() if n not in copies or not holds(model, n, array)}
    both = sorted((dense.keys() - copies) & plan.by_tensor.keys())
    if both:
        raise AdapterError(both[0], "is saved whole by one adapter and updated by another", "Merge in turn")
    plan.dense = _without_tied_copy(dense, model)
    for name, array in plan.dense.items():
        _check_whole(name, array, plan)
    plan.new = {name: array for name, array in plan.dense.items() if name not in model}
    plan.rows = {spelt(name): rows for name, rows in common_rows(adapters).items()}
    for name, rows in plan.rows.items():
        _check_rows(name, rows, model)


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


def _check_whole(name: str, array: Array, plan: MergePlan) -> None:
    """Refuse a whole tensor of another shape than the base's, but for a vocabulary of another size."""
    if name not in plan.model or plan.model.info(name).shape == array.shape:
        return
    old = plan.model.info(name).shape
    if array.shape[1:] != old[1:] or not any(part in name for part in VOCABULARY):
        raise AdapterError(
            name, f"is saved whole with shape {array.shape}, the base holds {old}", "Name the adapter's base"
        )
    plan.notes.append(f"{name} has {array.shape[0]} rows, the base {old[0]}: set vocab_size in config.json")


def _check_rows(name: str, rows: Rows, model: Checkpoint) -> None:
    """Refuse new rows of a table that the base does not have, or not with these rows."""
    shape = model.info(name).shape if name in model else None
    if shape is None or len(shape) != 2 or shape[1] != rows.values.shape[1] or max(rows.indices) >= shape[0]:
        found = f"the base holds {shape}" if shape else "the base does not have it"
        raise AdapterError(
            name, f"gets new rows of {rows.values.shape[1]} numbers up to row {max(rows.indices)}; {found}",
            "Name the adapter's base",
        )  # fmt: skip


def _tied_notes(plan: MergePlan, found: Sequence[Targets]) -> list[str]:
    """Say where an update reaches further merged than not."""
    if tied_head(plan.model.names(), plan.model.config) is None or any(t.tied for t in found):
        return []
    return [
        f"{name} is the output layer too, which changes with it; until a merge PEFT changes the table alone"
        for name in plan.by_tensor
        if is_input_embedding(name)
    ]


def _same_update(head: Module, embedding: Module) -> bool:
    same_kind = (
        replace(embedding, kind="linear") if embedding.shape == head.shape else embedding.transposed("linear")
    )
    return all(
        np.array_equal(a.astype(np.float64), b.astype(np.float64))
        for a, b in ((head.left, same_kind.left), (head.right, same_kind.right))
    )
