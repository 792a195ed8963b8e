"""The main job: two checkpoints in, an adapter with a stated error out.

The steps, in order: validate, factor, plan, cut, arrange, write. Each is one function, whose result is passed
to the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.peft.config import PeftOptions, task_type
from eckart.adapter.formats.peft.peft import PeftWriter
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.adapter.formats.streaming import write_into
from eckart.adapter.statement import Statement
from eckart.checkpoint import OutputFolder, refuse_overlap
from eckart.checkpoint.kinds import Kind, kind_of, module_of
from eckart.errors import PairError, UsageError
from eckart.extraction.arrange import Arranged, arrange, notes_on_budget
from eckart.extraction.cut import cut
from eckart.extraction.job import Job, check_consumers, check_dtype, open_sources_of
from eckart.extraction.leftovers import Leftover, tie_notes
from eckart.linalg import Goal
from eckart.parallel import OnProgress
from eckart.paths import user_path
from eckart.rank import RankPlan, RankRule, RuleOptions, rule_from
from eckart.rank.dense import notes_on_dense
from eckart.serving.consumers import ConsumerNames
from eckart.serving.experts_read import check_experts
from eckart.serving.layout import Layout
from eckart.store import FactorStore, decide
from eckart.store.demands import first_demands
from eckart.store.files import MANIFEST
from eckart.store.fill import fill
from eckart.store.options import PassOptions, log_notice
from eckart.store.record import Demand
from eckart.store.sources import PairSources, check_unchanged
from eckart.store.summary import remarks_on
from eckart.text import count

WRAPPABLE = (Kind.LINEAR, Kind.CONV1D, Kind.EMBEDDING, Kind.CONV)  # kinds of layers that PEFT can wrap


@dataclass(frozen=True, repr=False)
class Extraction:
    """The result of `extract`.

    Parameters
    ----------
    path : Path
        The adapter's folder.
    plan : RankPlan
        The rank of every planned tensor, with the reason.
    adapter : Adapter
        The adapter as written.
    statement : Statement
        What ``eckart.json`` states.
    leftovers : tuple of Leftover
        Changed tensors that have no factors, the largest first.
    notes : tuple of str
        Remarks about the checkpoints, e.g. that the base looks wrong, in sentences.
    """

    path: Path
    plan: RankPlan
    adapter: Adapter
    statement: Statement
    leftovers: tuple[Leftover, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            f"Extraction({str(self.path)!r}, {count(self.adapter.modules, 'module')}, "
            f"{count(self.adapter.parameters, 'parameter')}, error {self.statement.error:.4g})"
        )


def extract(
    base: str | Path,
    tuned: str | Path,
    out: str | Path,
    *,
    rule: RankRule | None = None,
    plan: RankPlan | None = None,
    store: str | Path | None = None,
    dtype: str | None = None,
    embeddings: bool = False,
    modules_to_save: bool = False,
    consumers: ConsumerNames = (),
    experts: str | None = None,
    base_name: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    device: str = "cpu",
    progress: OnProgress | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Unpack[RuleOptions],
) -> Extraction:
    """Extract a LoRA adapter from a fine-tune, and state its error.

    Parameters
    ----------
    base, tuned : path
        Checkpoints: a ``.safetensors`` file or a Hugging Face folder each.
    out : path
        Folder of the adapter. It appears complete or not at all.
    rule : RankRule, optional
        How to choose ranks, e.g. ``Energy(0.9)``. The keyword form does the same: ``energy=0.9``.
    plan : RankPlan, optional
        Ranks from a plan, in place of a rule.
    store : path, optional
        A FactorStore to use, or to make and keep. A temporary one by default.
    dtype : str, optional
        Dtype of the factors: ``bfloat16``, ``float16``, ``float32`` or ``float64``, in any common spelling.
        By default the tuned checkpoint's (bfloat16 for float8).
    embeddings : bool
        Also factor embedding tables. Few servers load such factors.
    modules_to_save : bool
        Save changed tensors that cannot be factored (norms, biases, new rows) whole. vLLM and llama.cpp
        refuse such adapters.
    consumers : sequence of str
        Programs that must load the adapter correctly, e.g. ``["vllm", "llama.cpp"]``. PEFT alone by default.
    experts : {"fused", "split"}, optional
        Layout of a mixture of experts: one stack of factors for all experts, or factors for each expert.
        By default the one that PEFT needs for this model.
    base_name : str, optional
        What the adapter calls its base; ``base`` by default.
    overwrite : bool
        Replace an existing adapter.
    workers : int, optional
        Tensors in flight at once; one per core by default, where memory allows.
    device : {"cpu", "cuda"}
        Where to factor; ``cuda`` needs ``eckart[torch]``.
    progress : callable, optional
        Called with a `Progress` after each tensor.
    notify : callable, optional
        Called with a sentence when tensors have to be factored again, or the store is in use.
    **options
        The rule as keyword arguments, e.g. ``energy=0.9, max_rank=64``; see `RuleOptions`.

    Returns
    -------
    Extraction

    Raises
    ------
    InputError
        A subclass of it; nothing is written. All arguments are checked before the pass starts.

    Notes
    -----
    Every factor pair is B = U sqrt(S), A = sqrt(S) Vh with alpha = r, so the scale is 1 in every program
    that loads it. Errors are measured on the rounded factors.

    Examples
    --------
    ``eckart.extract("base", "tuned", "adapter", energy=0.9, max_rank=64)``
    """
    job = validate(
        base,
        tuned,
        out,
        rule=rule,
        plan=plan,
        store=store,
        dtype=dtype,
        embeddings=embeddings,
        modules_to_save=modules_to_save,
        consumers=consumers,
        experts=experts,
        base_name=base_name,
        overwrite=overwrite,
        pass_options=PassOptions(
            workers=workers,
            device=device,
            durable=store is not None,
            progress=progress,
            notify=notify or log_notice,
        ),
        notify=notify,
        rule_keywords=options,
    )
    sources = open_sources_of(job)  # an input that does not exist is reported before an output that does
    with OutputFolder(job.out, overwrite=job.overwrite, marker=CONFIG) as staging:
        filled = factor(job, sources, job.store or staging / ".store")
        filled, rank_plan = choose_ranks(job, sources, filled)
        if job.store is not None:
            planned = [name for name, rank in rank_plan.ranks.items() if rank]
            filled = fill(sources, job.store, {}, job.pass_options, verify=planned)
        parts = cut(job, sources, filled, rank_plan)
        arranged = arrange(job, sources, filled, rank_plan, parts)
        remarks = remarks_on(filled)
        if job.store is None:
            shutil.rmtree(filled.path)
        check_unchanged(sources)
        write(job, sources, arranged, staging)
    return Extraction(
        path=job.out,
        plan=rank_plan,
        adapter=arranged.adapter,
        statement=arranged.statement,
        leftovers=arranged.leftovers,
        notes=(
            *sources.notes,
            *remarks,
            *tie_notes(sources, arranged.adapter),
            *notes_on_budget(job, rank_plan, arranged.adapter),
            *notes_on_dense(arranged.adapter, arranged.adapter.dtype.itemsize),
        ),
    )


def validate(
    base: str | Path,
    tuned: str | Path,
    out: str | Path,
    *,
    rule: RankRule | None,
    plan: RankPlan | None,
    store: str | Path | None,
    dtype: str | None,
    embeddings: bool,
    modules_to_save: bool,
    consumers: ConsumerNames,
    experts: str | None,
    base_name: str | None,
    overwrite: bool,
    pass_options: PassOptions,
    notify: Callable[[str], None] | None,
    rule_keywords: RuleOptions,
) -> Job:
    """Check every argument that needs no file, and return the job; see `extract`."""
    if plan is not None and (rule is not None or rule_keywords):
        raise UsageError("eckart.extract", "got both a plan and a rank rule", "Pass one of the two")
    readers = check_consumers(consumers, modules_to_save)
    refuse_overlap(out, [base, tuned, store])
    return Job(
        base=str(base),
        tuned=str(tuned),
        out=user_path(out),
        rule=None if plan else Layout(readers).bounded(rule_from(rule, rule_keywords)),
        plan=plan,
        store=user_path(store) if store is not None else None,
        dtype=check_dtype(dtype),
        embeddings=embeddings,
        modules_to_save=modules_to_save,
        consumers=readers,
        experts=check_experts(experts, readers),
        base_name=base_name or str(base),
        overwrite=overwrite,
        pass_options=pass_options,
        notify=notify,
    )


def factor(job: Job, sources: PairSources, folder: Path) -> FactorStore:
    """Open the store if it exists; otherwise factor just what the plan or the rule needs."""
    if job.plan is not None:
        demands = {
            source.name: Demand(Goal("rank", min(job.plan.ranks[source.name], *source.shape)))
            for source in sources.tensors
            if job.plan.ranks.get(source.name)
        }
    elif (folder / MANIFEST).is_file() or job.rule is None:
        demands = {}  # the pass checks that the store belongs to these checkpoints
    else:
        demands = first_demands(sources, job.rule, job.kinds, job.factor_dtype(sources).itemsize)
    filled = fill(sources, folder, demands, job.pass_options)
    if all(record.energy == 0 for record in filled):
        if any(record.unchanged < 1 for record in filled if record.shape and 0 not in record.shape):
            raise PairError(
                f"{job.base} and {job.tuned}",
                "their weights differ by less than 1e-145, whose square float64 does not hold",
                "Multiply both checkpoints by the same power of two",
            )
        raise PairError(
            f"{job.base} and {job.tuned}",
            "they hold the same weights, so there is no update to extract",
            "Check that the second one is the fine-tuned checkpoint",
        )
    return filled


def choose_ranks(job: Job, sources: PairSources, filled: FactorStore) -> tuple[FactorStore, RankPlan]:
    """Return the given plan, or apply the rule; this may factor some tensors again, to a higher rank."""
    if job.rule is None:
        assert job.plan is not None  # `validate` sets one of the two
        return filled, job.plan
    return decide(
        filled,
        job.rule,
        embeddings=job.embeddings,
        bytes_each=job.factor_dtype(sources).itemsize,
        sources=sources,
        notify=job.notify,
        options=job.pass_options,
    )


def write(job: Job, sources: PairSources, arranged: Arranged, staging: Path) -> None:
    """Write the adapter's files into the staging folder."""
    adapter = arranged.adapter
    options = PeftOptions(
        base_name=job.base_name,
        base_modules=tuple(wrappable_modules(sources)),
        task=task_type(sources.config),
    )
    writer = PeftWriter(adapter, options)
    write_into(staging, writer, adapter.modules.__getitem__, lambda: arranged.statement)


def wrappable_modules(sources: PairSources) -> list[str]:
    """Return the paths of all modules that PEFT could wrap, under the names that the adapter uses."""
    full = {source.base.name: source.name for source in sources.tensors}
    infos = {full.get(name, name): info for name, info in sources.base.tensors.items()}
    # The base may have been saved without its head, which then appears in the fine-tune only.
    infos |= {name: sources.tuned.info(name) for name in sources.only_tuned}
    kinds = {name: kind_of(name, info.shape, sources.config) for name, info in infos.items()}
    return [module_of(name) for name, kind in kinds.items() if kind in WRAPPABLE]
