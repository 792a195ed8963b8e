"""Plan a merge: match adapters with the tensors of a base, and check everything before writing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eckart.adapter.adapter import Adapter, Module, Rows
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.adapter.targets import Targets, holds
from eckart.adapter.updates import WeightedSum, common_dense, common_rows
from eckart.arrays import Array
from eckart.checkpoint import Checkpoint, TensorInfo
from eckart.checkpoint.kinds import Kind, is_input_embedding, tied_head
from eckart.checkpoint.pair import VOCABULARY
from eckart.errors import AdapterError
from eckart.text import count


@dataclass(frozen=True)
class Piece:
    """The part of a tensor that one module updates.

    Parameters
    ----------
    module : str
    expert : int or None
        The expert, in a tensor that holds all experts of a layer; None for a whole tensor.
    """

    module: str
    expert: int | None


@dataclass(frozen=True)
class MergePlan:
    """What a merge does to the tensors of a base.

    Parameters
    ----------
    model : Checkpoint
        The base.
    updates : WeightedSum
        The updates of all modules that have a place in the base.
    by_tensor : mapping of str to list of Piece
        The modules that update each tensor.
    biases : mapping of str to str
        The module that updates each bias.
    dense : mapping of str to ndarray
        Tensors that are replaced or added whole.
    new : mapping of str to ndarray
        Those of `dense` that the base does not have.
    rows : mapping of str to Rows
        Tables in which rows are replaced.
    notes : tuple of str
        What the user should know, in sentences.
    """

    model: Checkpoint
    updates: WeightedSum
    by_tensor: Mapping[str, list[Piece]]
    biases: Mapping[str, str]
    dense: Mapping[str, Array]
    new: Mapping[str, Array]
    rows: Mapping[str, Rows]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Size of the merged model's tensors in bytes."""
        old = sum(self.outline(info).nbytes for info in self.model.tensors.values())
        return old + sum(array.nbytes for array in self.new.values())

    def outline(self, info: TensorInfo) -> Array:
        """Return an array of the shape and dtype that a tensor of the base will have."""
        array = self.model.map(info.name)
        whole = self.dense.get(info.name)
        return array if whole is None else np.broadcast_to(np.zeros((), array.dtype), whole.shape)


def plan_merge(model: Checkpoint, adapters: Sequence[Adapter], weights: Sequence[float]) -> MergePlan:
    """Match the modules and tensors of adapters with those of a base.

    Parameters
    ----------
    model : Checkpoint
        The base.
    adapters : sequence of Adapter
    weights : sequence of float
        One for each adapter.

    Returns
    -------
    MergePlan

    Raises
    ------
    AdapterError
        If the base lacks a module or tensor or has it in another shape, or two adapters contradict
        each other.
    """
    matches = [_match(adapter, model) for adapter in adapters]
    matched = [
        replace(t.adapter, modules={n: m for n, m in t.adapter.modules.items() if n in t.places})
        for t in matches
    ]
    updates = WeightedSum(matched, weights)
    by_tensor = _updated_tensors(matches)
    biases = _updated_biases(matches, model)
    weighted = [match for match, weight in zip(matches, weights, strict=True) if weight]
    dense = _whole_tensors(weighted, model, by_tensor)
    rows = {
        _name_in_base(name, weighted, model): rows
        for name, rows in common_rows([match.adapter for match in weighted]).items()
    }
    for name, replaced in rows.items():
        _check_rows(name, replaced, model)
    notes = [note for adapter in adapters for note in adapter.notes]
    notes += [
        f"not merged: {count(match.skipped, 'module')} of other models of the pipeline"
        for match in matches
        if match.skipped
    ]
    notes += _tied_notes(by_tensor, matches, model)
    notes += _vocabulary_notes(dense, model)
    return MergePlan(
        model=model,
        updates=updates,
        by_tensor=by_tensor,
        biases=biases,
        dense=dense,
        new={name: array for name, array in dense.items() if name not in model},
        rows=rows,
        notes=tuple(notes),
    )


def _match(adapter: Adapter, model: Checkpoint) -> Targets:
    """Match the modules of one adapter with the tensors of the base."""
    targets = Targets.find(adapter, model)
    targets.refuse_missing()
    tables = [m for m in targets.adapter if m.kind == Kind.EMBEDDING]
    for name in targets.tied:
        head = targets.adapter.modules[name]
        if not any(_is_same_update(head, table) for table in tables):
            raise AdapterError(
                f"{adapter.path}: {name}",
                f"the adapter updates the output layer, which {model.path} ties to the input embedding",
                "Save the base with an output layer of its own, and tie_word_embeddings false",
            )
    if not (targets.places or adapter.dense or adapter.rows):
        raise AdapterError(str(adapter.path), f"no module of this adapter is in {model.path}")
    return targets


def _updated_tensors(matches: Sequence[Targets]) -> dict[str, list[Piece]]:
    """Return the modules that update each tensor of the base."""
    by_tensor: dict[str, list[Piece]] = {}
    for match in matches:
        for name, place in match.places.items():
            pieces = by_tensor.setdefault(place.tensor, [])
            if all(piece.module != name for piece in pieces):
                pieces.append(Piece(name, place.expert))
    return by_tensor


def _updated_biases(matches: Sequence[Targets], model: Checkpoint) -> dict[str, str]:
    """Return the module that updates each bias of the base."""
    biases: dict[str, str] = {}
    for match in matches:
        for name, place in match.places.items():
            if match.adapter.modules[name].bias is None:
                continue
            bias = place.tensor.removesuffix(".weight") + ".bias"
            if bias not in model:
                raise AdapterError(
                    f"{match.adapter.path}: {name}",
                    "the adapter updates the bias of this module, but the base has none",
                    "Pass the base that the adapter was made for",
                )
            biases[bias] = name
    return biases


def _whole_tensors(matches: Sequence[Targets], model: Checkpoint, updated: Iterable[str]) -> dict[str, Array]:
    """Return the tensors of the base that are replaced, and those that are added."""
    adapters = [match.adapter for match in matches]
    dense = {_name_in_base(name, matches, model): array for name, array in common_dense(adapters).items()}
    copies = {
        _name_in_base(name, matches, model)
        for adapter in adapters
        for name in adapter.dense
        if is_copy_of_base(name, adapter)
    }
    dense = {n: array for n, array in dense.items() if n not in copies or not holds(model, n, array)}
    both = sorted((dense.keys() - copies) & set(updated))
    if both:
        raise AdapterError(
            both[0],
            "one adapter saves this tensor whole and another updates it",
            "Merge the adapters one at a time",
        )
    dense = _without_tied_copy(dense, model)
    for name, array in dense.items():
        _check_whole(name, array, model)
    return dense


def _name_in_base(name: str, matches: Sequence[Targets], model: Checkpoint) -> str:
    """Return the name that the base has for a tensor of an adapter; the same name if it has none."""
    for match in matches:
        renamed = match.tensor(name, model)
        if renamed in model:
            return renamed
    return name


def _without_tied_copy(dense: dict[str, Array], model: Checkpoint) -> dict[str, Array]:
    """Leave out an output layer that repeats its embedding table, since a tied base stores only one."""
    head = tied_head(model.names(), model.config)
    name = f"{head}.weight"
    if not head or name not in dense:
        return dense
    table = next((n for n in dense if is_input_embedding(n)), None)
    if table is None or not np.array_equal(dense[table], dense[name]):
        raise AdapterError(
            name,
            f"the adapter saves this tensor whole, but {model.path} ties it to the input embedding",
            "Save the base with an output layer of its own, and tie_word_embeddings false",
        )
    return {n: array for n, array in dense.items() if n != name}


def _check_whole(name: str, array: Array, model: Checkpoint) -> None:
    """Raise if a whole tensor does not fit the base. Only the size of the vocabulary may differ."""
    if name not in model or model.info(name).shape == array.shape:
        return
    old = model.info(name).shape
    if array.shape[1:] != old[1:] or not any(part in name for part in VOCABULARY):
        raise AdapterError(
            name,
            f"the adapter saves this tensor with shape {array.shape}, but the base has shape {old}",
            "Pass the base that the adapter was made for",
        )


def _check_rows(name: str, rows: Rows, model: Checkpoint) -> None:
    """Raise if new rows do not fit the base."""
    columns, last = rows.values.shape[1], max(rows.indices)
    shape = model.info(name).shape if name in model else None
    if shape is not None and len(shape) == 2 and shape[1] == columns and last < shape[0]:
        return
    in_base = "the base does not have this tensor" if shape is None else f"the base has shape {shape}"
    raise AdapterError(
        name,
        f"the adapter replaces rows of {columns} numbers up to row {last}, but {in_base}",
        "Pass the base that the adapter was made for",
    )


def _tied_notes(by_tensor: Iterable[str], matches: Sequence[Targets], model: Checkpoint) -> list[str]:
    """Return notes on updates of tied tables, which also change the output layer once merged."""
    if tied_head(model.names(), model.config) is None or any(match.tied for match in matches):
        return []
    return [
        f"{name} is also the output layer, so the merge changes both; PEFT with an unmerged adapter changes "
        "only the table"
        for name in by_tensor
        if is_input_embedding(name)
    ]


def _vocabulary_notes(dense: Mapping[str, Array], model: Checkpoint) -> list[str]:
    """Return notes on tables that have another number of rows than those of the base."""
    return [
        f"{name} has {len(array)} rows, the base {model.info(name).shape[0]}: set vocab_size in config.json"
        for name, array in dense.items()
        if name in model and model.info(name).shape != array.shape
    ]


def _is_same_update(head: Module, table: Module) -> bool:
    """Whether an output layer and an embedding table have the same factors."""
    as_head = replace(table, kind=Kind.LINEAR) if table.shape == head.shape else table.transposed(Kind.LINEAR)
    return all(
        np.array_equal(first.astype(np.float64), second.astype(np.float64))
        for first, second in ((head.left, as_head.left), (head.right, as_head.right))
    )
