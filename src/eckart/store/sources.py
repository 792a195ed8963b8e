"""Two checkpoints made ready for a pass: which tensors, and how to know the files again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eckart.checkpoint import Checkpoint, Pair, TensorInfo, is_float
from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.kinds import TRANSPOSED_EXPERTS, kind_of
from eckart.errors import PairError

LORA_KINDS = ("linear", "conv1d", "expert", "expert_transposed")
ALL_KINDS = (*LORA_KINDS, "embedding")


@dataclass(frozen=True)
class Source:
    """A tensor to visit: its name in the store, and where it lies in the checkpoints."""

    name: str
    kind: str
    base: TensorInfo | None
    tuned: TensorInfo
    rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape compared."""
        shape = (self.base or self.tuned).shape
        return shape if self.rows is None else (self.rows, *shape[1:])


@dataclass(frozen=True)
class Sources:
    """Two checkpoints made ready for a pass (or one, with no base)."""

    base: Checkpoint | None
    tuned: Checkpoint
    tensors: tuple[Source, ...]
    notes: tuple[str, ...]
    only_base: tuple[str, ...] = ()
    only_tuned: tuple[str, ...] = ()

    @classmethod
    def open(cls, base: str | Path | None, tuned: str | Path) -> Sources:
        """Open and match two checkpoints, or take all floating tensors of one."""
        ours = Checkpoint.open(tuned)
        if base is None:
            tensors = tuple(
                part
                for name, info in ours.tensors.items()
                if info.dtype in DTYPES and is_float(DTYPES[info.dtype])
                for part in _by_expert(Source(name, kind_of(name, info.shape, ours.config), None, info), ours)
            )
            if not tensors:
                raise PairError(str(tuned), "holds no floating tensor")
            return cls(None, ours, tensors, tuple(ours.notes))
        theirs = Checkpoint.open(base)
        pair = Pair.match(theirs, ours)
        config = theirs.config or ours.config
        tensors = tuple(
            part
            for e in pair.entries
            for part in _by_expert(
                Source(e.name, kind_of(e.name, e.base.shape, config), e.base, e.tuned, e.rows), theirs
            )
        )
        notes = (*theirs.notes, *ours.notes, *pair.notes)
        return cls(theirs, ours, tensors, notes, pair.only_base, pair.only_tuned)

    def matrices(self, kinds: Sequence[str]) -> list[Source]:
        """Return the two-axis tensors of these kinds."""
        return [s for s in self.tensors if s.kind in kinds and len(s.shape) == 2]

    @property
    def base_parameters(self) -> int:
        """Parameters of the base, or of the one checkpoint."""
        return sum(info.size for info in (self.base or self.tuned).tensors.values())

    def describe(self) -> dict[str, Any]:
        """Return what a store keeps of its sources, to know them again."""

        def side(checkpoint: Checkpoint) -> dict[str, Any]:
            return {
                "path": str(checkpoint.path.resolve()),
                "parameters": sum(info.size for info in checkpoint.tensors.values()),
                **checkpoint.fingerprint(),
            }

        return {"base": side(self.base) if self.base else None, "tuned": side(self.tuned)}


def _by_expert(source: Source, checkpoint: Checkpoint) -> list[Source]:
    """Return one source for every expert of a fused parameter; any other source as it is.

    An expert is a stretch of the file, so that it can be read as a matrix of its own.
    """
    if source.kind != "experts":
        return [source]
    kind = "expert_transposed" if checkpoint.config.get("model_type") in TRANSPOSED_EXPERTS else "expert"
    parts = []
    for number in range(source.tuned.shape[0]):
        name = f"{source.name}[{number}]"
        base = None if source.base is None else _slice(source.base, number)
        parts.append(Source(name, kind, base, _slice(source.tuned, number)))
    return parts


def _slice(info: TensorInfo, number: int) -> TensorInfo:
    """Return the place of one entry along the first axis of a tensor."""
    size = info.nbytes // info.shape[0]
    start = info.start + number * size
    return replace(info, name=f"{info.name}[{number}]", shape=info.shape[1:], start=start, stop=start + size)


def what_changed(stored: Any, found: dict[str, Any]) -> str:
    """Say which file of which side is not what it was."""
    for side in ("base", "tuned"):
        old, new = stored.get(side), found[side]
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
