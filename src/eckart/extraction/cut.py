"""Cut: truncate the factors of every planned tensor to its rank, round them, and measure the error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from eckart.adapter.adapter import Module
from eckart.adapter.rounding import relative, rounded_factors, stored_error
from eckart.adapter.statement import ModuleStatement
from eckart.arguments import argument
from eckart.arrays import DType
from eckart.checkpoint.kinds import Kind, module_name
from eckart.errors import AdapterError
from eckart.extraction.change import find_tie
from eckart.extraction.job import Job
from eckart.rank import RankPlan
from eckart.serving.consumer import Consumer
from eckart.serving.treatment import titles_of, treatment_of
from eckart.store import FactorStore, TensorRecord
from eckart.store.sources import PairSources
from eckart.text import preview


@dataclass(frozen=True)
class Part:
    """One module of the adapter, and the error of its rounded factors.

    Parameters
    ----------
    module : Module
    statement : ModuleStatement
    energy : float
        ||dW||_F^2; 0 for a module that repeats the factors of another one.
    lost_energy : float
        ||dW - B A||_F^2 for the rounded factors; 0 for a module that repeats the factors of another one.
    """

    module: Module
    statement: ModuleStatement
    energy: float
    lost_energy: float


@dataclass(frozen=True)
class Parts:
    """All modules of the adapter, before they are arranged.

    Parameters
    ----------
    items : tuple of Part
    dtype : numpy dtype
        Dtype of the factors.
    left_out : dict of str to str
        Planned tensors that get no factors after all, each with the reason.
    """

    items: tuple[Part, ...]
    dtype: DType
    left_out: dict[str, str]

    @property
    def modules(self) -> dict[str, Module]:
        """The modules by name."""
        return {part.module.name: part.module for part in self.items}


def cut(job: Job, sources: PairSources, store: FactorStore, plan: RankPlan) -> Parts:
    """Cut every planned tensor to its rank, round its factors, and measure their error."""
    dtype = job.factor_dtype(sources)
    parts: list[Part] = []
    unread: dict[str, str] = {}
    whole: dict[str, str] = {}
    tie = find_tie(sources)
    for name, rank in plan.ranks.items():
        record = store.record(name)
        if not rank:
            continue
        if job.modules_to_save and record.new_rows > 0:
            # Factors of the old rows alone fit no model.
            whole[name] = "--modules-to-save saves a table with new rows whole"
            continue
        part = _part(store, record, rank, dtype)
        refusing = [c.title for c in job.consumers if not _reads(c, part.module)]
        if refusing:
            unread[name] = f"not read by {', '.join(refusing)}"
            continue
        parts.append(part)
        if tie is not None and tie.head and tie.table == name:
            parts.append(_tied_head(part, tie.head))
    if not parts:
        _refuse_empty(job, unread)
    return Parts(tuple(parts), dtype, {**unread, **whole})


def _refuse_empty(job: Job, unread: Mapping[str, str]) -> NoReturn:
    if unread:
        raise AdapterError(
            argument("consumers"),
            f"no tensor would remain, because {titles_of(job.consumers)} would not load {preview(unread)}",
            "Choose other programs",
        )
    raise AdapterError(
        "plan", "no tensor gets factors, so the adapter would be empty", "Choose a rule that keeps more"
    )


def _part(store: FactorStore, record: TensorRecord, rank: int, dtype: DType) -> Part:
    update = store.factors(record.name, rank)
    exact = update.factors()
    left, right = rounded_factors(exact, dtype, record.name)
    module = Module(module_name(record.name), record.kind, left, right)
    lost_energy = stored_error(exact, update.tail, module)
    statement = ModuleStatement(
        rank=module.rank,
        error=relative(lost_energy, record.energy),
        update=float(np.sqrt(record.energy)),
        rank_bounds=record.rank_bounds if record.rank == rank else None,
    )
    base_rows = record.shape[0] - min(record.new_rows, 0)
    return Part(_with_rows(module, base_rows), statement, record.energy, lost_energy)


def _reads(consumer: Consumer, module: Module) -> bool:
    return treatment_of(module, consumer, experts_arranged=True).is_read


def _with_rows(module: Module, rows: int) -> Module:
    """Add rows of zeros up to the base's number of rows if the fine-tune has a smaller vocabulary."""
    missing = rows - module.left.shape[0]
    if missing <= 0:
        return module
    return replace(module, left=np.pad(module.left, ((0, missing), (0, 0))))


def _tied_head(part: Part, head: str) -> Part:
    """Return the output layer that shares this embedding table, with the same factors."""
    module = Module(head, Kind.LINEAR, part.module.left, part.module.right)
    return Part(module, replace(part.statement, tied=part.module.name), 0.0, 0.0)
