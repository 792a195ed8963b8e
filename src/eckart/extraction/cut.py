"""Cut: the factors of every planned tensor at its rank, rounded to the adapter's dtype, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eckart.adapter.adapter import Module
from eckart.adapter.rounding import relative, rounded_factors, stored_error
from eckart.adapter.statement import ModuleStatement
from eckart.arrays import DType
from eckart.checkpoint.kinds import is_input_embedding, module_name, tied_head
from eckart.errors import AdapterError
from eckart.extraction.job import Job
from eckart.rank import RankPlan
from eckart.serving.consumer import Consumer
from eckart.serving.treatment import treatment_of
from eckart.store import FactorStore, TensorRecord
from eckart.store.sources import PairSources


@dataclass(frozen=True)
class Part:
    """One module of the adapter, and what its rounded factors leave out.

    Parameters
    ----------
    module : Module
    statement : ModuleStatement
    energy : float
        ||dW||_F^2; 0 for a module whose factors are another's.
    left_out : float
        ||dW - B A||_F^2 on the rounded factors; 0 for a module whose factors are another's.
    """

    module: Module
    statement: ModuleStatement
    energy: float
    left_out: float


@dataclass(frozen=True)
class Parts:
    """All modules of the adapter, before they are arranged.

    Parameters
    ----------
    items : tuple of Part
    dtype : numpy dtype
        Dtype of the factors.
    unread : dict of str to str
        Planned tensors that a consumer cannot read, and the reason.
    """

    items: tuple[Part, ...]
    dtype: DType
    unread: dict[str, str]

    @property
    def modules(self) -> dict[str, Module]:
        """The modules by name."""
        return {part.module.name: part.module for part in self.items}


def cut(job: Job, sources: PairSources, store: FactorStore, plan: RankPlan) -> Parts:
    """Cut every planned tensor to its rank, round its factors, and measure what they leave out."""
    dtype = job.factor_dtype(sources)
    parts: list[Part] = []
    unread: dict[str, str] = {}
    for name, rank in plan.ranks.items():
        record = store.record(name)
        # With --modules-to-save a table that grew is saved whole: factors of its old rows fit no model.
        if not rank or (job.modules_to_save and record.new_rows > 0):
            continue
        part = _part(store, record, rank, dtype)
        refusing = [c.title for c in job.consumers if not _reads(c, part.module)]
        if refusing:
            unread[name] = f"not read by {', '.join(refusing)}"
            continue
        parts.append(part)
        if is_input_embedding(name):
            parts += _tied_head(part, sources)
    if not parts:
        raise AdapterError(
            "plan", "every tensor has rank 0, so the adapter would be empty", "Choose a rule that keeps more"
        )
    return Parts(tuple(parts), dtype, unread)


def _part(store: FactorStore, record: TensorRecord, rank: int, dtype: DType) -> Part:
    update = store.factors(record.name, rank)
    exact = update.factors()
    left, right = rounded_factors(exact, dtype, record.name)
    module = Module(module_name(record.name), record.kind, left, right)
    left_out = stored_error(exact, update.tail, module)
    statement = ModuleStatement(
        rank=module.rank,
        error=relative(left_out, record.energy),
        update=float(np.sqrt(record.energy)),
        rank_bounds=record.rank_bounds if record.rank == rank else None,
    )
    base_rows = record.shape[0] - min(record.new_rows, 0)
    return Part(_with_rows(module, base_rows), statement, record.energy, left_out)


def _reads(consumer: Consumer, module: Module) -> bool:
    return treatment_of(module, consumer, experts_arranged=True).is_read


def _with_rows(module: Module, rows: int) -> Module:
    """Add rows of zeros up to the base's number, where the fine-tune's vocabulary is smaller."""
    missing = rows - module.left.shape[0]
    if missing <= 0:
        return module
    return replace(module, left=np.pad(module.left, ((0, missing), (0, 0))))


def _tied_head(part: Part, sources: PairSources) -> Sequence[Part]:
    """Return the output layer that shares this embedding table, with the same factors."""
    head = tied_head(sources.tuned.names(), sources.tuned.config)
    if not head:
        return []
    module = Module(head, "linear", part.module.left, part.module.right)
    return [Part(module, replace(part.statement, tied=part.module.name), 0.0, 0.0)]
