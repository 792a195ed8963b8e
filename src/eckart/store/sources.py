"""The tensors that a pass reads, and a description of their files by which to recognise them later."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from eckart.checkpoint import Checkpoint, Pair, TensorInfo, is_float
from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.kinds import TRANSPOSED_EXPERTS, Kind, kind_of
from eckart.checkpoint.model import open_model
from eckart.checkpoint.pair import PairEntry, empty_note
from eckart.errors import PairError
from eckart.strictjson import JsonObject

LORA_KINDS = (Kind.LINEAR, Kind.CONV1D, Kind.EXPERT, Kind.EXPERT_TRANSPOSED)
ALL_KINDS = (*LORA_KINDS, Kind.EMBEDDING)
MAX_EXPERTS = 16_384  # a longer first axis is not one of experts; models have up to 512


@dataclass(frozen=True)
class Source:
    """A tensor to read, and its location in the files.

    Parameters
    ----------
    name : str
        Name in the store.
    kind : Kind
        Kind of layer. A fused tensor of experts is listed as one source for each expert.
    tuned : TensorInfo
        Location in the tuned checkpoint, or in the only one.
    base : TensorInfo, optional
        Location in the base; None for a single checkpoint.
    rows : int, optional
        Number of leading rows to compare, if the vocabulary was resized; None for all.
    """

    name: str
    kind: Kind
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
        """Number of bytes to read from both files."""
        return self.tuned.nbytes + (self.base.nbytes if self.base else 0)


@dataclass(frozen=True)
class PairedSource(Source):
    """A tensor that both checkpoints hold."""

    base: TensorInfo = field(kw_only=True)


@dataclass(frozen=True)
class SingleSources:
    """One checkpoint, for a pass over its own weights. Use `SingleSources.open` to create one.

    Parameters
    ----------
    tuned : Checkpoint
        The only checkpoint.
    tensors : tuple of Source
        Its floating-point tensors.
    notes : tuple of str
        Irregularities that were tolerated, one sentence each.
    """

    tuned: Checkpoint
    tensors: tuple[Source, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> SingleSources:
        """Open a checkpoint and list its floating-point tensors."""
        checkpoint = open_model(path)
        floating = {
            name: info
            for name, info in checkpoint.tensors.items()
            if info.dtype in DTYPES and is_float(DTYPES[info.dtype])
        }
        tensors = [
            part
            for name, info in floating.items()
            if info.size
            for part in _by_expert(
                Source(name, kind_of(name, info.shape, checkpoint.config), info), checkpoint
            )
        ]
        if not tensors:
            raise PairError(
                str(path), "the checkpoint holds no floating-point tensor", "Use a checkpoint with weights"
            )
        empty = [name for name, info in floating.items() if not info.size]
        return cls(checkpoint, tuple(tensors), (*checkpoint.notes, *empty_note(empty)))

    @property
    def base_parameters(self) -> int:
        """Number of parameters of the checkpoint."""
        return _parameters(self.tuned)

    def matrices(self, kinds: Sequence[Kind]) -> list[Source]:
        """Return the tensors with two axes whose kind is in ``kinds``."""
        return _matrices(self.tensors, kinds)

    def describe(self) -> JsonObject:
        """Return what a store records of its sources, to recognise them later."""
        return {"base": None, "tuned": _described(self.tuned)}


@dataclass(frozen=True)
class PairSources:
    """Two checkpoints whose tensors are matched, for a pass. Use `PairSources.open` to create one.

    Parameters
    ----------
    base, tuned : Checkpoint
        The two checkpoints.
    tensors : tuple of PairedSource
        The tensors that both hold.
    notes : tuple of str
        Irregularities and mismatches that were tolerated, one sentence each.
    only_base, only_tuned : tuple of str
        Names of the tensors that only one checkpoint holds.
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
        tuned_checkpoint = open_model(tuned)
        base_checkpoint = open_model(base)
        pair = Pair.match(base_checkpoint, tuned_checkpoint)
        config = base_checkpoint.config or tuned_checkpoint.config
        tensors = [
            part for entry in pair.entries for part in _by_expert(_paired(entry, config), base_checkpoint)
        ]
        notes = (*base_checkpoint.notes, *tuned_checkpoint.notes, *pair.notes)
        return cls(base_checkpoint, tuned_checkpoint, tuple(tensors), notes, pair.only_base, pair.only_tuned)

    @property
    def config(self) -> Mapping[str, Any]:
        """The ``config.json`` of the base, or of the tuned model if the base has none."""
        return self.base.config or self.tuned.config

    @property
    def base_parameters(self) -> int:
        """Number of parameters of the base."""
        return _parameters(self.base)

    def matrices(self, kinds: Sequence[Kind]) -> list[PairedSource]:
        """Return the tensors with two axes whose kind is in ``kinds``."""
        return _matrices(self.tensors, kinds)

    def describe(self) -> JsonObject:
        """Return what a store records of its sources, to recognise them later."""
        return {"base": _described(self.base), "tuned": _described(self.tuned)}


Sources = PairSources | SingleSources
AnySource = TypeVar("AnySource", bound=Source)


def open_sources(base: str | Path | None, tuned: str | Path) -> Sources:
    """Open a pair of checkpoints, or a single one if ``base`` is None."""
    return SingleSources.open(tuned) if base is None else PairSources.open(base, tuned)


def _paired(entry: PairEntry, config: Mapping[str, Any]) -> PairedSource:
    kind = kind_of(entry.name, entry.base.shape, config)
    return PairedSource(entry.name, kind, entry.tuned, rows=entry.rows, base=entry.base)


def _parameters(checkpoint: Checkpoint) -> int:
    return sum(info.size for info in checkpoint.tensors.values())


def _matrices(tensors: Sequence[AnySource], kinds: Sequence[Kind]) -> list[AnySource]:
    return [s for s in tensors if s.kind in kinds and len(s.shape) == 2]


def _described(checkpoint: Checkpoint) -> JsonObject:
    return {
        "path": os.path.realpath(checkpoint.path),
        "parameters": _parameters(checkpoint),
        **checkpoint.fingerprint(),
    }


def _by_expert(source: AnySource, checkpoint: Checkpoint) -> list[AnySource]:
    """Return one source for each expert of a fused tensor; any other source is returned unchanged.

    The bytes of an expert are contiguous in the file, so it can be read as a separate matrix.
    """
    if source.kind != Kind.EXPERTS or source.shape[0] > MAX_EXPERTS:
        return [source]
    is_transposed = str(checkpoint.config.get("model_type")) in TRANSPOSED_EXPERTS
    kind = Kind.EXPERT_TRANSPOSED if is_transposed else Kind.EXPERT
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
    """Return the location of one entry along the first axis of a tensor."""
    size = info.nbytes // info.shape[0]
    start = info.start + number * size
    return replace(info, name=f"{info.name}[{number}]", shape=info.shape[1:], start=start, stop=start + size)


def check_unchanged(sources: Sources, source: Source | None = None) -> None:
    """Raise if a file has changed since the checkpoints were opened.

    Parameters
    ----------
    sources : PairSources or SingleSources
        The checkpoints.
    source : Source, optional
        A tensor that was just read; its files are checked. By default, all files are.

    Raises
    ------
    CheckpointError
        If the size, the modification time or the inode of a file differs. The message names the file.
    """
    sources.tuned.check_unchanged(None if source is None else [source.tuned.file])
    if isinstance(sources, PairSources):
        sources.base.check_unchanged(None if source is None or source.base is None else [source.base.file])


def what_changed(stored: JsonObject, current: JsonObject) -> str:
    """Return a message that tells which file of which checkpoint has changed."""
    for side in ("base", "tuned"):
        old, new = stored.get(side), current[side]
        if old == new:
            continue
        if not old or not new or old.get("path") != new["path"]:
            recorded = old["path"] if old else "no checkpoint"
            return f"the store was filled from another {side}: {recorded}"
        before = {f["name"]: f for f in old["files"]}
        for file in new["files"]:
            past = before.get(file["name"])
            if past != file:
                keys = [k for k in ("size", "mtime_ns", "header") if past and past[k] != file[k]]
                difference = " and ".join(keys).replace("mtime_ns", "modification time") or "new file"
                return f"the {side} has changed since the store was filled: {file['name']} ({difference})"
        return f"the {side} has changed since the store was filled"
    return "the record of the checkpoints is damaged"
