"""Pair: which tensor of the base belongs to which of the fine-tune, and what was tolerated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.checkpoint.dtypes import DTYPES, is_float
from eckart.checkpoint.order import natural_sort
from eckart.checkpoint.prefix import find_prefix
from eckart.checkpoint.quantised import refuse_quantised
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import PairError
from eckart.text import clip

VOCABULARY = ("embed", "wte", "lm_head")
"""What the name of a matrix with a row per token contains."""


@dataclass(frozen=True, slots=True)
class PairEntry:
    """One tensor in both checkpoints.

    Parameters
    ----------
    name : str
        Its name in the checkpoint that has the prefix, where only one has it.
    base, tuned : TensorInfo
        The two.
    rows : int, optional
        How many rows, from the first, the two have in common, where a vocabulary has grown; None
        where the shapes are equal.
    """

    name: str
    base: TensorInfo
    tuned: TensorInfo
    rows: int | None = None


@dataclass(frozen=True)
class Pair:
    """Two checkpoints that belong together. Made by `Pair.match`.

    Parameters
    ----------
    entries : tuple of PairEntry
        The floating tensors in both, in natural order.
    only_base, only_tuned : tuple of str
        The names in one alone, as spelt there.
    grown : tuple of PairEntry
        Those of `entries` whose `rows` is not None.
    prefix : str
        What one checkpoint has before the names of the other, e.g. ``"model."``; else ``""``.
    notes : tuple of str
        Every difference that was tolerated, in sentences.
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
            May be the same one: whether that makes sense is for the caller to say.

        Returns
        -------
        Pair

        Raises
        ------
        PairError
            If no tensor is in both, a shape differs (but for the rows of a vocabulary), or one of
            them is quantised.

        Notes
        -----
        A name is matched as it is where it can be, and else with the one prefix that makes the most
        further pairs of equal shape; heads such as ``lm_head`` often stay without it.
        """
        refuse_quantised(base.tensors)
        refuse_quantised(tuned.tensors)
        common = {name: name for name in base.tensors if name in tuned.tensors}
        rest_base = {name: t for name, t in base.tensors.items() if name not in common}
        rest_tuned = {name: t for name, t in tuned.tensors.items() if name not in common}
        prefix, in_base = find_prefix(rest_base, rest_tuned)
        for name in rest_base if prefix else ():
            other = name.removeprefix(prefix) if in_base else prefix + name
            if other in rest_tuned:
                common[name] = other
        if not common:
            raise _nothing_common(base, tuned)
        entries, skipped = [], []
        for ours, theirs in common.items():
            entry = _entry(base.tensors[ours], tuned.tensors[theirs])
            if _is_numeric(entry.base) and _is_numeric(entry.tuned):
                entries.append(entry)
            else:
                skipped.append(f"{clip(entry.name)} ({entry.base.dtype})")
        if not entries:
            raise _nothing_common(base, tuned)
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
        f"expected one shape in both, found {base.shape} in {base.file} and {tuned.shape} in {tuned.file}",
        "Give the base that the fine-tune started from",
    )


def _is_vocabulary(name: str) -> bool:
    # By name, because nothing else tells: "shared" only as a whole word, so that the
    # "shared_expert" of a mixture is not one, and "output.weight" only near the root, so that the
    # "attention.output" of BERT is not one.
    words = name.split(".")
    return (
        any(mark in name for mark in VOCABULARY)
        or "shared" in words
        or (words[-2:] == ["output", "weight"] and len(words) <= 3)
    )


def _is_numeric(info: TensorInfo) -> bool:
    return info.dtype in DTYPES and is_float(DTYPES[info.dtype])


def _nothing_common(base: Checkpoint, tuned: Checkpoint) -> PairError:
    if any(".lora_A." in name for name in tuned.names()):
        return PairError(
            str(tuned.path),
            "is a LoRA adapter, not a checkpoint",
            "Give the whole fine-tuned checkpoint; to check an adapter: eckart verify BASE TUNED ADAPTER",
        )
    return PairError(
        f"{base.path}, {tuned.path}",
        f"expected floating tensors with the same names, found {_examples(base.names(), 2)} in "
        f"the base and {_examples(tuned.names(), 2)} in the fine-tune",
        "Give the base that the fine-tune started from, saved by the same library",
    )


def _examples(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(clip(name) for name in names[:count]) or "no tensor"


def _count(found: Sequence[object]) -> str:
    return "1 tensor" if len(found) == 1 else f"{len(found)} tensors"


def _prefix_note(prefix: str, side: str) -> Iterable[str]:
    if prefix:
        yield f"Names in {side} begin with {clip(prefix)} where the other has nothing."


def _missing_note(names: Sequence[str], side: str) -> Iterable[str]:
    if names:
        yield f"Only in {side}, and left out: {_count(names)}, among them {_examples(names)}."


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
            f"Of two dtypes: {_count(mixed)}, for example {clip(first.name)}: "
            f"{first.base.dtype} in base, {first.tuned.dtype} in tuned."
        )


def _skipped_note(skipped: Sequence[str]) -> Iterable[str]:
    if skipped:
        yield f"Not floating, and left out: {_count(skipped)}: {_examples(skipped)}."
