"""Checkpoints made ready for a pass: which tensors to visit, and how to recognise the files later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from eckart.checkpoint import Checkpoint, Pair, TensorInfo, is_float
from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.kinds import TRANSPOSED_EXPERTS, kind_of
from eckart.checkpoint.pair import PairEntry
from eckart.checkpoint.strictjson import JsonObject
from eckart.errors import PairError

LORA_KINDS = ("linear", "conv1d", "expert", "expert_transposed")
ALL_KINDS = (*LORA_KINDS, "embedding")


@dataclass(frozen=True)
class Source:
    """A tensor to visit, and where it lies in the files.

    Parameters
    ----------
    name : str
        Its name in the store.
    kind : str
        As `eckart.checkpoint.kinds.kind_of`.
    tuned : TensorInfo
        Its place in the tuned checkpoint, or in the only one.
    base : TensorInfo, optional
        Its place in the base; None for a single checkpoint.
    rows : int, optional
        How many rows to compare, from the first, where a vocabulary has grown; None for all.
    """

    name: str
    kind: str
    tuned: TensorInfo
    base: TensorInfo | None = None
    rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that is compared."""
        shape = (self.base or self.tuned).shape
        return shape if self.rows is None else (self.rows, *shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.tuned.nbytes + (self.base.nbytes if self.base else 0)


@dataclass(frozen=True)
class PairedSource(Source):
    """A tensor that both checkpoints have."""

    base: TensorInfo = field(kw_only=True)


@dataclass(frozen=True)
class SingleSources:
    """One checkpoint made ready for a pass over its own weights.

    Parameters
    ----------
    tuned : Checkpoint
        The only checkpoint.
    tensors : tuple of Source
    notes : tuple of str
        Remarks from reading the files.
    """

    tuned: Checkpoint
    tensors: tuple[Source, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> SingleSources:
        """Open a checkpoint and take all its floating tensors."""
        checkpoint = Checkpoint.open(path)
        tensors = [
            part
            for name, info in checkpoint.tensors.items()
            if info.dtype in DTYPES and is_float(DTYPES[info.dtype])
            for part in _by_expert(
                Source(name, kind_of(name, info.shape, checkpoint.config), info), checkpoint
            )
        ]
        if not tensors:
            raise PairError(str(path), "holds no floating tensor")
        return cls(checkpoint, tuple(tensors), tuple(checkpoint.notes))

    @property
    def base_parameters(self) -> int:
        """Parameters of the checkpoint."""
        return _parameters(self.tuned)

    def matrices(self, kinds: Sequence[str]) -> list[Source]:
        """Return the two-axis tensors of these kinds."""
        return _matrices(self.tensors, kinds)

    def describe(self) -> JsonObject:
        """Return what a store keeps of its sources, to recognise them."""
        return {"base": None, "tuned": _described(self.tuned)}


@dataclass(frozen=True)
class PairSources:
    """Two checkpoints matched tensor by tensor and made ready for a pass.

    Parameters
    ----------
    base, tuned : Checkpoint
    tensors : tuple of PairedSource
        The tensors that both have.
    notes : tuple of str
        Remarks from reading and matching, including every mismatch that was tolerated.
    only_base, only_tuned : tuple of str
        Names that only one of them has.
    """

    base: Checkpoint
    tuned: Checkpoint
    tensors: tuple[PairedSource, ...]
    notes: tuple[str, ...] = ()
    only_base: tuple[str, ...] = ()
    only_tuned: tuple[str, ...] = ()

    @classmethod
    def open(cls, base: str | Path, tuned: str | Path) -> PairSources:
        """Open two checkpoints and match their tensors."""
        ours = Checkpoint.open(tuned)
        theirs = Checkpoint.open(base)
        pair = Pair.match(theirs, ours)
        config = theirs.config or ours.config
        tensors = [
            part
            for e in pair.entries
            for part in _by_expert(
                PairedSource(
                    e.name, kind_of(e.name, e.base.shape, config), e.tuned, rows=e.rows, base=e.base
                ),
                theirs,
            )
        ]
        notes = (*theirs.notes, *ours.notes, *pair.notes)
        return cls(theirs, ours, tuple(tensors), notes, pair.only_base, pair.only_tuned)

    @property
    def config(self) -> Mapping[str, Any]:
        """The base's ``config.json``, or the tuned model's where the base has none."""
        return self.base.config or self.tuned.config

    @property
    def base_parameters(self) -> int:
        """Parameters of the base."""
        return _parameters(self.base)

    def matrices(self, kinds: Sequence[str]) -> list[PairedSource]:
        """Return the two-axis tensors of these kinds."""
        return _matrices(self.tensors, kinds)

    def describe(self) -> JsonObject:
        """Return what a store keeps of its sources, to recognise them."""
        return {"base": _described(self.base), "tuned": _described(self.tuned)}


Sources = PairSources | SingleSources
AnySource = TypeVar("AnySource", bound=Source)


def open_sources(base: str | Path | None, tuned: str | Path) -> Sources:
    """Open a pair of checkpoints, or one alone where ``base`` is None."""
    return SingleSources.open(tuned) if base is None else PairSources.open(base, tuned)


def _paired(entry: PairEntry, config: Mapping[str, Any]) -> PairedSource:
    kind = kind_of(entry.name, entry.base.shape, config)
    return PairedSource(entry.name, kind, entry.tuned, rows=entry.rows, base=entry.base)


def _parameters(checkpoint: Checkpoint) -> int:
    return sum(info.size for info in checkpoint.tensors.values())


def _matrices(tensors: Sequence[AnySource], kinds: Sequence[str]) -> list[AnySource]:
    return [s for s in tensors if s.kind in kinds and len(s.shape) == 2]


def _described(checkpoint: Checkpoint) -> JsonObject:
    return {
        "path": str(checkpoint.path.resolve()),
        "parameters": _parameters(checkpoint),
        **checkpoint.fingerprint(),
    }


def _by_expert(source: AnySource, checkpoint: Checkpoint) -> list[AnySource]:
    """Return one source for every expert of a fused parameter; any other source as it is.

    An expert is a stretch of the file, so it can be read as a matrix of its own.
    """
    if source.kind != "experts":
        return [source]
    kind = "expert_transposed" if checkpoint.config.get("model_type") in TRANSPOSED_EXPERTS else "expert"
    return [
        replace(
            source,
            name=f"{source.name}[{number}]",
            kind=kind,
            tuned=_slice(source.tuned, number),
            base=None if source.base is None else _slice(source.base, number),
        )
        for number in range(source.tuned.shape[0])
    ]


def _slice(info: TensorInfo, number: int) -> TensorInfo:
    """Return the place of one entry along the first axis of a tensor."""
    size = info.nbytes // info.shape[0]
    start = info.start + number * size
    return replace(info, name=f"{info.name}[{number}]", shape=info.shape[1:], start=start, stop=start + size)


def what_changed(stored: JsonObject, current: JsonObject) -> str:
    """Say which file of which side has changed."""
    for side in ("base", "tuned"):
        old, new = stored.get(side), current[side]
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
