"""Match the tensors of a base checkpoint with those of a fine-tuned one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.checkpoint.dtypes import DTYPES, dtype_name, is_float
from eckart.checkpoint.order import natural_sort
from eckart.checkpoint.prefix import find_prefix
from eckart.checkpoint.quantised import refuse_quantised
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import PairError
from eckart.text import clip, count

VOCABULARY = ("embed", "wte", "lm_head")
"""Substrings that mark the name of a vocabulary matrix, which has one row per token."""

EXAMPLES = 5  # number of names that a note lists


@dataclass(frozen=True, slots=True)
class PairEntry:
    """One tensor that both checkpoints hold.

    Parameters
    ----------
    name : str
        Name of the tensor. If only one checkpoint uses a prefix, this is the name with the prefix.
    base, tuned : TensorInfo
        The tensor in each checkpoint.
    rows : int, optional
        Number of leading rows that both have, if the vocabulary was resized. None if the shapes are equal.
    """

    name: str
    base: TensorInfo
    tuned: TensorInfo
    rows: int | None = None


@dataclass(frozen=True)
class Pair:
    """Two checkpoints whose tensors are matched. Use `Pair.match` to create one.

    Parameters
    ----------
    entries : tuple of PairEntry
        The floating-point tensors with entries that both checkpoints hold, in natural order.
    only_base, only_tuned : tuple of str
        Names of the tensors that only one checkpoint holds, as they appear there.
    grown : tuple of PairEntry
        The `entries` whose `rows` is not None.
    prefix : str
        The prefix that one checkpoint puts before the names of the other, e.g. ``"model."``, or ``""``.
    notes : tuple of str
        The differences that were tolerated, one sentence each.
    """

    entries: tuple[PairEntry, ...]
    only_base: tuple[str, ...]
    only_tuned: tuple[str, ...]
    grown: tuple[PairEntry, ...]
    prefix: str
    notes: tuple[str, ...]

    @classmethod
    def match(cls, base: Checkpoint, tuned: Checkpoint) -> Pair:
        """Match the tensors of two checkpoints by name.

        Parameters
        ----------
        base, tuned : Checkpoint
            The two checkpoints, which may be the same.

        Returns
        -------
        Pair

        Raises
        ------
        PairError
            If the checkpoints have no tensor in common, if a shape differs (other than the number of rows of
            a vocabulary), or if a checkpoint is quantised.

        Notes
        -----
        Equal names are matched first. The remaining names are matched with the one prefix that gives the most
        pairs of equal shape; output layers such as ``lm_head`` often have no prefix.
        """
        refuse_quantised(base.tensors)
        refuse_quantised(tuned.tensors)
        common = {name: name for name in base.tensors if name in tuned.tensors}
        rest_base = {name: info for name, info in base.tensors.items() if name not in common}
        rest_tuned = {name: info for name, info in tuned.tensors.items() if name not in common}
        prefix, in_base = find_prefix(rest_base, rest_tuned)
        for name in rest_base if prefix else ():
            other = name.removeprefix(prefix) if in_base else prefix + name
            if other in rest_tuned:
                common[name] = other
        if not common:
            raise _no_common_tensor(base, tuned)
        entries, skipped, empty = [], [], []
        for base_name, tuned_name in common.items():
            entry = _entry(base.tensors[base_name], tuned.tensors[tuned_name])
            if 0 in entry.base.shape + entry.tuned.shape:
                empty.append(entry.name)
            elif _is_floating(entry.base) and _is_floating(entry.tuned):
                entries.append(entry)
            else:
                skipped.append(f"{clip(entry.name)} ({dtype_name(entry.base.dtype)})")
        if not entries:
            raise _no_common_tensor(base, tuned)
        by_name = {entry.name: entry for entry in entries}
        ordered = tuple(by_name[name] for name in natural_sort(by_name))
        grown = tuple(entry for entry in ordered if entry.rows is not None)
        only_base = tuple(name for name in base.names() if name not in common)
        matched = set(common.values())
        only_tuned = tuple(name for name in tuned.names() if name not in matched)
        notes = [
            *_prefix_note(prefix, "base" if in_base else "tuned"),
            *_missing_note(only_base, "base"),
            *_missing_note(only_tuned, "tuned"),
            *(_grown_note(entry) for entry in grown),
            *_dtype_note(ordered),
            *_skipped_note(skipped),
            *empty_note(empty),
        ]
        return cls(ordered, only_base, only_tuned, grown, prefix, tuple(notes))


def _entry(base: TensorInfo, tuned: TensorInfo) -> PairEntry:
    name = max(base.name, tuned.name, key=len)
    if base.shape == tuned.shape:
        return PairEntry(name, base, tuned)
    matrices = len(base.shape) == len(tuned.shape) == 2 and base.shape[1] == tuned.shape[1]
    if matrices and _is_vocabulary(min(base.name, tuned.name, key=len)):
        return PairEntry(name, base, tuned, min(base.shape[0], tuned.shape[0]))
    raise PairError(
        clip(name),
        f"expected equal shapes, found {base.shape} in {base.file} and {tuned.shape} in {tuned.file}",
        "Use the base that the fine-tune started from",
    )


def _is_vocabulary(name: str) -> bool:
    # The name is the only evidence. "shared" must be a whole part of it, to exclude the "shared_expert" of
    # mixtures, and "output.weight" must be near the root, to exclude BERT's "attention.output".
    parts = name.split(".")
    return (
        any(mark in name for mark in VOCABULARY)
        or "shared" in parts
        or (parts[-2:] == ["output", "weight"] and len(parts) <= 3)
    )


def _is_floating(info: TensorInfo) -> bool:
    return info.dtype in DTYPES and is_float(DTYPES[info.dtype])


def _no_common_tensor(base: Checkpoint, tuned: Checkpoint) -> PairError:
    if any(".lora_A." in name for name in tuned.names()):
        return PairError(
            str(tuned.path),
            "expected a checkpoint, found a LoRA adapter",
            "Use the whole fine-tuned checkpoint. To check an adapter, run: eckart verify BASE TUNED ADAPTER",
        )
    return PairError(
        f"{base.path}, {tuned.path}",
        f"expected floating-point tensors with the same names, found {_examples(base.names(), 2)} in the "
        f"base and {_examples(tuned.names(), 2)} in the fine-tune",
        "Use the base that the fine-tune started from, saved by the same library",
    )


def _examples(names: Sequence[str], most: int = EXAMPLES) -> str:
    return ", ".join(clip(name) for name in names[:most]) or "no tensor"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - EXAMPLES
    return _examples(names) + (f" and {more} more" if more > 0 else "")


def _prefix_note(prefix: str, side: str) -> Iterable[str]:
    if prefix:
        yield f"Tensor names begin with {clip(prefix)} only in the {side} checkpoint."


def _missing_note(names: Sequence[str], side: str) -> Iterable[str]:
    if names:
        yield f"Skipped {count(names, 'tensor')} found only in the {side} checkpoint: {_listed(names)}."


def _grown_note(entry: PairEntry) -> str:
    return (
        f"The vocabulary {clip(entry.name)} went from {entry.base.shape[0]} to "
        f"{entry.tuned.shape[0]} rows; the first {entry.rows} are compared."
    )


def _dtype_note(entries: Sequence[PairEntry]) -> Iterable[str]:
    mixed = [entry for entry in entries if entry.base.dtype != entry.tuned.dtype]
    if mixed:
        first = mixed[0]
        yield (
            f"The dtypes of {count(mixed, 'tensor')} differ between the checkpoints, "
            f"for example {clip(first.name)}: "
            f"{dtype_name(first.base.dtype)} in base, {dtype_name(first.tuned.dtype)} in tuned."
        )


def _skipped_note(skipped: Sequence[str]) -> Iterable[str]:
    if skipped:
        yield f"Skipped {count(skipped, 'tensor')} not in a floating-point dtype: {_listed(skipped)}."


def empty_note(names: Sequence[str]) -> Iterable[str]:
    """Yield a note about tensors without entries, which have no spectrum; nothing if there are none."""
    if names:
        yield f"Skipped {count(names, 'tensor')} without entries: {_listed(names)}."
