"""The arguments of an extraction, all checked before the pass over the checkpoints starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eckart.adapter.experts import ExpertsLayout
from eckart.arguments import argument
from eckart.arrays import DType
from eckart.checkpoint import DTYPES
from eckart.checkpoint.dtypes import ADAPTER_DTYPES, parse_dtype
from eckart.checkpoint.kinds import Kind
from eckart.errors import UsageError
from eckart.rank import RankPlan, RankRule
from eckart.rank.choose import nothing_selected
from eckart.serving.consumer import Consumer
from eckart.serving.consumers import ConsumerNames, consumers_named
from eckart.serving.treatment import titles_of
from eckart.store.decide import adapter_dtype
from eckart.store.options import PassOptions
from eckart.store.sources import ALL_KINDS, LORA_KINDS, PairSources


@dataclass(frozen=True)
class Job:
    """What to extract, from what, and how to write it.

    Parameters
    ----------
    base, tuned : str
        The two checkpoints.
    out : Path
        Folder of the adapter.
    rule : RankRule, optional
        How to choose ranks; None if `plan` gives them.
    plan : RankPlan, optional
    store : Path, optional
        A store to use or to make and keep; None for a temporary one.
    dtype : numpy dtype, optional
        Dtype of the factors; None for the tuned checkpoint's.
    embeddings, modules_to_save : bool
    consumers : tuple of Consumer
    experts : ExpertsLayout, optional
        None for the layout that PEFT needs.
    base_name : str
        Name of the base in the adapter's configuration.
    overwrite : bool
    pass_options : PassOptions
    notify : callable, optional
        Called with a sentence when tensors have to be factored again.
    """

    base: str
    tuned: str
    out: Path
    rule: RankRule | None
    plan: RankPlan | None
    store: Path | None
    dtype: DType | None
    embeddings: bool
    modules_to_save: bool
    consumers: tuple[Consumer, ...]
    experts: ExpertsLayout | None
    base_name: str
    overwrite: bool
    pass_options: PassOptions
    notify: Callable[[str], None] | None = None

    def factor_dtype(self, sources: PairSources) -> DType:
        """Return the dtype of the factors: the requested one, or that of the tuned checkpoint."""
        return self.dtype if self.dtype is not None else adapter_dtype(sources)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of layers that get factors."""
        return ALL_KINDS if self.embeddings else LORA_KINDS


def check_dtype(dtype: str | None) -> DType | None:
    """Return the NumPy dtype of a name in any common spelling; None for None."""
    return None if dtype is None else DTYPES[parse_dtype(dtype, ADAPTER_DTYPES)]


def check_consumers(names: ConsumerNames, modules_to_save: bool) -> tuple[Consumer, ...]:
    """Return the consumers; raise if one is unknown, or cannot read what is to be saved whole."""
    consumers = tuple(consumers_named(names))
    refusing = [c for c in consumers if not c.whole.is_read]
    if modules_to_save and refusing:
        raise UsageError(
            argument("modules_to_save", True),
            f"{titles_of(refusing)} cannot read whole tensors",
            f"Remove {argument('modules_to_save')}, or remove {', '.join(c.name for c in refusing)} from "
            f"{argument('consumers')}",
        )
    return consumers


def check_plan(plan: RankPlan, sources: PairSources, consumers: Sequence[Consumer]) -> None:
    """Raise if a plan names a tensor that cannot get factors, or a rank that a consumer does not load."""
    matrices = {source.name: source for source in sources.matrices(ALL_KINDS)}
    for name, planned in plan.ranks.items():
        if name not in matrices:
            raise UsageError(
                f"plan: {name}",
                "these checkpoints have no matrix of this name",
                "Make the plan from a store of the same two checkpoints",
            )
        rank = min(planned, *matrices[name].shape)
        for consumer in consumers:
            if consumer.max_rank is not None and rank > consumer.max_rank:
                raise UsageError(
                    f"plan: {name}",
                    f"{consumer.title} loads ranks up to {consumer.max_rank}, and the plan gives {rank}",
                    f"Make the plan with {argument('max_rank', consumer.max_rank)}",
                )


def check_selection(rule: RankRule, job: Job, sources: PairSources) -> None:
    """Raise if a rule's patterns leave no tensor."""
    names = [source.name for source in sources.matrices(job.kinds)]
    if not names:
        raise UsageError(str(job.tuned), "no tensor of these checkpoints can be factored")
    if not any(rule.selects(name) for name in names):
        raise nothing_selected(rule, names)


def open_sources_of(job: Job) -> PairSources:
    """Open the two checkpoints (headers only), and check the plan or the rule against them."""
    sources = PairSources.open(job.base, job.tuned)
    if job.plan is not None:
        check_plan(job.plan, sources, job.consumers)
    if job.rule is not None:
        check_selection(job.rule, job, sources)
    return sources


__all__ = ["Job", "check_consumers", "check_dtype", "open_sources_of"]
