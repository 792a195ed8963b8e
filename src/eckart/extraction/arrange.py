"""Arrange: put the modules into the layout that their readers need, and state what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eckart.adapter.adapter import Adapter
from eckart.adapter.experts import (
    ExpertsLayout,
    arrange_experts,
    even_ranks,
    even_scales,
    is_fused_on_loading,
    with_routers,
)
from eckart.adapter.rounding import relative
from eckart.adapter.statement import LayoutStatement, Statement, TensorStatement, versions
from eckart.adapter.targets import experts_as_in
from eckart.extraction.cut import Parts
from eckart.extraction.job import Job
from eckart.extraction.leftovers import Carried, Leftover, carry_whole, leftovers
from eckart.rank import RankPlan
from eckart.serving.experts_read import experts_layout_for
from eckart.serving.layout import Layout
from eckart.store import FactorStore
from eckart.store.sources import PairSources


@dataclass(frozen=True)
class Arranged:
    """The adapter to write, its statement, and the changed tensors that have no factors."""

    adapter: Adapter
    statement: Statement
    leftovers: tuple[Leftover, ...]


def arrange(job: Job, sources: PairSources, store: FactorStore, plan: RankPlan, parts: Parts) -> Arranged:
    """Arrange the modules for their readers, save leftovers whole if requested, and state the errors."""
    rest = leftovers(store, sources, plan, parts.modules, parts.unread)
    carried = Carried(Adapter(parts.modules), rest)
    if job.modules_to_save:
        carried = carry_whole(carried, sources, parts.dtype)
    adapter, layout = _for_readers(job, sources, carried.adapter, parts)
    adapter = replace(adapter, modules=even_ranks(adapter.modules))
    statement = _state(job, sources, store, plan, parts, carried, adapter, layout)
    return Arranged(replace(adapter, statement=statement), statement, tuple(carried.leftovers))


def _for_readers(
    job: Job, sources: PairSources, adapter: Adapter, parts: Parts
) -> tuple[Adapter, LayoutStatement | None]:
    """Return the adapter in the layout that its consumers need, or that PEFT needs if there are none."""
    config = sources.config
    stated: LayoutStatement | None = None
    if job.consumers:
        experts = experts_layout_for(job.consumers, config, job.experts)
        needed = adapter.parameters
        names = [c.name for c in job.consumers]
        layout, adapter = Layout.prepare(adapter, names, sources.base, job.experts)
        applied = layout.realised(adapter.modules)
        stated = layout.statement(applied, parts.dtype, needed)
        adapter = replace(adapter, modules=applied.modules)
    else:
        fused = ExpertsLayout.FUSED if is_fused_on_loading(config) else None
        experts = job.experts or fused
        modules = even_scales(arrange_experts(adapter.modules, experts, config))
        adapter = replace(adapter, modules=modules)
    if experts is not ExpertsLayout.SPLIT:  # where experts are split, a router is a linear layer
        adapter = replace(adapter, modules=with_routers(adapter.modules, config))
    return adapter, stated


def _state(
    job: Job,
    sources: PairSources,
    store: FactorStore,
    plan: RankPlan,
    parts: Parts,
    carried: Carried,
    adapter: Adapter,
    layout: LayoutStatement | None,
) -> Statement:
    rest = carried.leftovers
    lost_energy = sum(part.lost_energy for part in parts.items)
    lost_in_all = lost_energy + sum(item.energy for item in rest if not item.carried)
    everything = sum(record.energy for record in store) + sum(item.energy for item in rest if item.extra)
    as_in_base = experts_as_in(adapter.modules, sources.base)  # the layout in which errors are stated
    modules = {}
    for part in parts.items:
        name = part.module.name
        rank = as_in_base[name].rank if name in as_in_base else part.statement.rank
        modules[name] = replace(part.statement, rank=rank)
    return Statement(
        error=relative(lost_energy, sum(part.energy for part in parts.items)),
        parameters=adapter.parameters,
        modules=modules,
        dtype=parts.dtype.name,
        rule=plan.rule,
        plan=plan.to_json(),
        base=job.base_name,
        error_of_whole_change=relative(lost_in_all, everything),
        not_carried=_stated([item for item in rest if not item.carried], everything),
        carried_whole=_stated([item for item in rest if item.carried], everything),
        tied_whole=carried.tied,
        layout=layout,
        versions=versions(),
    )


def _stated(items: Sequence[Leftover], everything: float) -> tuple[TensorStatement, ...]:
    return tuple(item.stated(everything) for item in items)
