"""Arrange: put the modules into the layout that their readers need, and state what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eckart.adapter.adapter import Adapter, Module, by_parameter
from eckart.adapter.experts import (
    ExpertsLayout,
    arrange_experts,
    even_ranks,
    even_scales,
    is_fused_on_loading,
    with_routers,
    zero_module,
)
from eckart.adapter.rounding import relative
from eckart.adapter.statement import LayoutStatement, Statement, TensorStatement, versions
from eckart.adapter.targets import experts_as_in
from eckart.extraction.cut import Parts
from eckart.extraction.job import Job
from eckart.extraction.leftovers import Leftover, carry_whole, leftovers
from eckart.rank import Budget, RankPlan
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
    adapter = Adapter(parts.modules)
    tied_whole: dict[str, str] = {}
    if job.modules_to_save:
        changed = leftovers(store, sources, plan, adapter, parts.left_out)
        adapter, tied_whole = carry_whole(adapter, changed, sources, parts.dtype)
    adapter, layout = _for_readers(job, sources, adapter, parts)
    adapter = replace(adapter, modules=even_ranks(_with_all_experts(adapter.modules, sources)))
    if layout is not None:
        padding = _zeros(adapter.modules) - _zeros(parts.modules)
        layout = replace(layout, bytes_of_zeros=max(padding, 0) * parts.dtype.itemsize)
    # Errors are stated in the layout of the base, and about modules that are not mere padding.
    as_in_base = experts_as_in(adapter.modules, sources.base)
    stated = replace(adapter, modules={n: m for n, m in as_in_base.items() if n in parts.modules})
    rest = leftovers(store, sources, plan, stated, parts.left_out)
    tied_whole = {head: table for head, table in tied_whole.items() if f"{head}.weight" in adapter.dense}
    statement = replace(
        _state(job, plan, parts, stated, rest),
        parameters=adapter.parameters,
        tied_whole=tied_whole,
        layout=layout,
    )
    return Arranged(replace(adapter, statement=statement), statement, tuple(rest))


def _with_all_experts(modules: Mapping[str, Module], sources: PairSources) -> dict[str, Module]:
    """Add zeros for the experts that a stack lacks, for example those of rank 0: PEFT needs all of them."""
    stacks = by_parameter(modules)
    result = dict(modules)
    for source in sources.tensors:
        parameter = source.name.rpartition("[")[0]
        if source.name.endswith("]") and parameter in stacks and source.name not in modules:
            rows, columns = source.shape
            dtype = stacks[parameter][0].dtype
            result[source.name] = zero_module(source.name, (rows, columns), dtype, source.kind)
    return result


def _zeros(modules: Mapping[str, Module]) -> int:
    """Return how many entries of all factors are zero."""
    factors = [factor for module in modules.values() for factor in (module.left, module.right)]
    return sum(factor.size - int(np.count_nonzero(factor)) for factor in factors)


def notes_on_budget(job: Job, plan: RankPlan, adapter: Adapter) -> tuple[str, ...]:
    """Return a note if the adapter is larger than the plan that a budget allowed.

    Parameters
    ----------
    job : Job
    plan : RankPlan
    adapter : Adapter
        The adapter as written.
    """
    added = adapter.parameters - plan.parameters
    if not isinstance(job.rule, Budget) or added <= 0:
        return ()
    return (
        f"The plan is within the budget, with {plan.parameters:,} parameters. "
        f"The adapter has {added:,} more: zeros that its format or a program needs, and factors that are "
        "stored twice, for a tied layer or for the two halves of an expert.",
    )


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


def _state(job: Job, plan: RankPlan, parts: Parts, stated: Adapter, rest: Sequence[Leftover]) -> Statement:
    """State the errors of an adapter whose experts are in the layout of the base."""
    items = [part for part in parts.items if part.module.name in stated.modules]
    lost_energy = sum(part.lost_energy for part in items)
    energy = sum(part.energy for part in items)
    lost_in_all = lost_energy + sum(item.lost_energy for item in rest)
    everything = energy + sum(item.energy for item in rest)
    return Statement(
        error=relative(lost_energy, energy),
        parameters=stated.parameters,
        modules={
            part.module.name: replace(part.statement, rank=stated.modules[part.module.name].rank)
            for part in items
        },
        dtype=parts.dtype.name,
        rule=plan.rule,
        plan=plan.to_json(),
        base=job.base_name,
        error_of_whole_change=relative(lost_in_all, everything),
        not_carried=_stated([item for item in rest if not item.is_carried], everything),
        carried_whole=_stated([item for item in rest if item.is_carried], everything),
        versions=versions(),
    )


def _stated(items: Sequence[Leftover], everything: float) -> tuple[TensorStatement, ...]:
    return tuple(item.stated(everything) for item in items)
