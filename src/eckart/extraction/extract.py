"""The main job: two checkpoints in, an adapter of proven rank out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import (
    ExpertsLayout,
    arrange_experts,
    even_ranks,
    even_scales,
    is_fused_on_loading,
    with_routers,
)
from eckart.adapter.formats.peft.config import CONFIG
from eckart.adapter.formats.peft.peft import PeftWriter, task_type
from eckart.adapter.formats.write import write_into
from eckart.adapter.statement import FORMAT, relative, rounded_factors, stored_error, versions
from eckart.adapter.targets import experts_as_in
from eckart.checkpoint import DTYPES, OutputFolder
from eckart.checkpoint.dtypes import ADAPTER_DTYPES
from eckart.checkpoint.kinds import is_input_embedding, kind_of, module_name, module_of, tied_head
from eckart.errors import AdapterError, OutputError, PairError, UsageError
from eckart.extraction.leftovers import Leftover, carry_dense, leftovers
from eckart.linalg import Goal
from eckart.parallel import OnProgress
from eckart.rank import RankPlan, RankRule
from eckart.serving.consumer import Consumer
from eckart.serving.consumers import ConsumerNames, consumers_named
from eckart.serving.experts_read import check_experts
from eckart.serving.layout import Layout
from eckart.serving.treatment import titles_of, unread_by
from eckart.store import FactorStore, decide
from eckart.store.decide import adapter_dtype
from eckart.store.demands import first_demands
from eckart.store.fill import fill
from eckart.store.record import Demand
from eckart.store.sources import ALL_KINDS, LORA_KINDS, Sources
from eckart.store.store import MANIFEST


@dataclass(frozen=True)
class Extraction:
    """What `extract` did: the plan, the adapter as written, and what it could not carry."""

    path: Path
    plan: RankPlan
    adapter: Adapter
    leftovers: tuple[Leftover, ...]
    notes: tuple[str, ...]

    @property
    def statement(self) -> dict[str, Any]:
        """What ``eckart.json`` holds."""
        return self.adapter.statement


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
    say: Callable[[str], None] | None = None,
    **wishes: Any,
) -> Extraction:
    """Extract a LoRA adapter from a fine-tune, and state its error.

    Parameters
    ----------
    base, tuned : path
        Checkpoints: a ``.safetensors`` file or a Hugging Face folder.
    out : path
        Folder of the adapter, made whole or not at all.
    rule : RankRule, optional
        How ranks are chosen; or give the rule's words directly: ``energy=0.9``, ``budget="1%"``,
        ``rank=16, max_rank=64`` (see `RankRule.of`).
    plan : RankPlan, optional
        Ranks chosen before, in place of a rule.
    store : path, optional
        A FactorStore to use, or to make and keep; without it a temporary one.
    dtype : {"F32", "F16", "BF16", "F64"}, optional
        Of the factors; the tuned checkpoint's by default (BF16 for float8).
    embeddings : bool
        Also give embedding tables factors. Few servers load them.
    modules_to_save : bool
        Carry whole what factors cannot: norms, biases, new rows. vLLM and llama.cpp refuse these.
    consumers : sequence of str
        Programs that must compute the update right, e.g. ``["vllm", "llama.cpp"]``; the statement says
        what that costs. PEFT alone by default.
    experts : {"fused", "split"}, optional
        How a mixture's experts are held: in one stack for all, as PEFT needs them for the models that
        transformers fuses on loading, or by expert. As PEFT needs them, by default.
    base_name : str, optional
        What the adapter calls its base; ``base`` by default.
    overwrite : bool
        Replace an adapter that is there.

    Returns
    -------
    Extraction

    Raises
    ------
    InputError
        Some kind of it, with nothing written.

    Notes
    -----
    Every factor pair is B = U sqrt(S), A = sqrt(S) Vh with alpha = r, so that the scale is 1 in
    every program that loads it. Errors are measured on the rounded factors.
    """
    given = [name for name, there in (("rule", rule), ("plan", plan)) if there is not None] + list(wishes)
    if (rule is not None or plan is not None) and len(given) > 1:
        raise UsageError("eckart.extract", f"expected a plan, a rule or its words, got {', '.join(given)}")
    if rule is None and plan is None:
        rule = RankRule.of(**wishes)
    if dtype is not None and dtype not in ADAPTER_DTYPES:
        raise UsageError(f"dtype={dtype!r}", f"expected one of {', '.join(ADAPTER_DTYPES)}")
    named = consumers_named(consumers)
    experts_layout = check_experts(experts, named)
    if modules_to_save and not all(c.whole.is_read for c in named):
        refusing = titles_of(c for c in named if not c.whole.is_read)
        raise UsageError("--modules-to-save", f"is not read by {refusing}", "Leave one of the two out")
    if rule is not None:
        rule = Layout(tuple(named)).bounded(rule)
    target = Path(out)
    how: dict[str, Any] = {
        "workers": workers, "device": device, "progress": progress, "durable": store is not None
    }  # fmt: skip
    with _naming(target), OutputFolder(target, overwrite=overwrite, marker=CONFIG) as staging:
        _refuse_overlap(target, base, tuned, store)
        sources = Sources.open(base, tuned)
        folder = Path(store) if store is not None else staging / ".store"
        filled = _filled(sources, folder, rule, plan, embeddings, how)
        if all(r.energy == 0 for r in filled):
            raise PairError(
                f"{base} and {tuned}", "hold the same weights, so there is no update to extract",
                "Check that the second is the fine-tuned one",
            )  # fmt: skip
        number = DTYPES[dtype] if dtype else adapter_dtype(filled)
        if plan is None:
            assert rule is not None
            filled, plan = decide(
                filled, rule, embeddings=embeddings, bytes_each=number.itemsize,
                sources=sources, say=say, **how,
            )  # fmt: skip
        form = _Form(number, modules_to_save, tuple(named), experts_layout)
        result = _build(filled, sources, plan, form, str(base_name or base))
        if store is None:
            shutil.rmtree(folder)
        assert sources.base is not None
        writer = PeftWriter(
            result.adapter,
            base_name=str(base_name or base),
            base_modules=_module_paths(sources),
            task=task_type(sources.base.config or sources.tuned.config),
        )
        write_into(staging, writer, result.adapter.modules.__getitem__, lambda: result.adapter.statement)
    return Extraction(target, plan, result.adapter, result.leftovers, sources.notes)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Let errors name the folder that was asked for, not the hidden one beside it that is gone by then."""
    try:
        yield
    except OutputError as error:
        hidden = re.sub(rf"\.{re.escape(target.name)}\.tmp-\d+", lambda _: target.name, error.where)
        raise OutputError(hidden, error.what, error.fix) from error


def _filled(
    sources: Sources,
    folder: Path,
    rule: RankRule | None,
    plan: RankPlan | None,
    embeddings: bool,
    how: Mapping[str, Any],
) -> FactorStore:
    """Open the store if there is one of these files, else factor just what the wish needs."""
    if plan is None and (folder / MANIFEST).is_file():
        return fill(sources, folder, {}, **how)  # checks that the sources are the same
    if plan is not None:
        named = {s.name: s for s in sources.tensors}
        demands = {
            name: Demand(Goal("rank", min(rank, *named[name].shape)))
            for name, rank in plan.ranks.items()
            if rank and name in named
        }
        return fill(sources, folder, demands, **how)
    assert rule is not None
    kinds = ALL_KINDS if embeddings else LORA_KINDS
    return fill(sources, folder, first_demands(sources, rule, kinds), **how)


@dataclass(frozen=True)
class _Form:
    """How the adapter is to be written."""

    dtype: np.dtype[Any]
    modules_to_save: bool
    consumers: tuple[Consumer, ...]
    experts: ExpertsLayout | None


@dataclass(frozen=True)
class _Built:
    adapter: Adapter
    leftovers: tuple[Leftover, ...]


def _build(
    store: FactorStore,
    sources: Sources,
    plan: RankPlan,
    form: _Form,
    base_name: str,
) -> _Built:
    """Cut the factors to the plan, round them, and measure what the rounded ones leave out."""
    unknown = [name for name in plan.ranks if name not in store.records]
    if unknown:
        raise UsageError(f"plan: {unknown[0]}", "is not a tensor of these checkpoints")
    modules: dict[str, Module] = {}
    errors: dict[str, dict[str, Any]] = {}
    left_out = whole = 0.0
    # A table that grew goes whole or not at all: half of a vocabulary fits no model.
    whole_tables = {r.name for r in store if form.modules_to_save and r.new_rows > 0}
    unread: dict[str, str] = {}
    for name, rank in plan.ranks.items():
        record = store.record(name)
        if not rank or name in whole_tables:
            continue
        module, energy = _module(store, name, rank, form.dtype)
        skipped_by = unread_by(module, form.consumers, experts_arranged=True)
        if skipped_by:
            unread[name] = f"not read by {titles_of(skipped_by)}"
            continue
        module = _padded(module, record.shape[0] - min(record.new_rows, 0))
        modules[module.name] = module
        left_out += energy
        whole += record.energy
        errors[module.name] = {
            "rank": module.rank,
            "error": relative(energy, record.energy),
            "update": float(np.sqrt(record.energy)),
            "rank_bounds": record.rank_bounds if record.rank == rank else None,
        }
        head = tied_head(sources.tuned.names(), sources.tuned.config) if is_input_embedding(name) else None
        if head:
            modules[head] = Module(head, "linear", module.left, module.right)
            errors[head] = {**errors[module.name], "tied": module.name}
    if not modules:
        raise AdapterError("plan", "gives every tensor rank 0, so the adapter would be empty", "Ask for more")
    adapter = Adapter(modules)
    rest = leftovers(store, sources, plan, modules, unread)
    if form.modules_to_save:
        rest = carry_dense(adapter, rest, sources, form.dtype)
    everything = sum(r.energy for r in store) + sum(item.energy for item in rest if item.extra)
    lost = left_out + sum(item.energy for item in rest if not item.carried)
    adapter.statement |= {
        "format": FORMAT,
        "base": base_name,
        "dtype": form.dtype.name,
        "rule": plan.rule,
        "error": relative(left_out, whole),
        "error_of_whole_change": relative(lost, everything),
        "modules": errors,
        "not_carried": [item.to_json(everything) for item in rest if not item.carried],
        "carried_whole": [item.to_json(everything) for item in rest if item.carried],
        "plan": plan.to_json(),
        "versions": versions(),
    }
    return _Built(_arranged(adapter, sources, form), tuple(rest))


def _arranged(adapter: Adapter, sources: Sources, form: _Form) -> Adapter:
    """Return the adapter as its readers need it, and state the ranks and the size that this gives it."""
    assert sources.base is not None
    needed = adapter.parameters
    config = sources.base.config or sources.tuned.config
    if form.consumers:
        names = [c.name for c in form.consumers]
        layout, adapter = Layout.prepare(adapter, names, sources.base, form.experts)
        applied = layout.realised(adapter.modules)
        adapter = replace(adapter, modules=applied.modules)
        adapter.statement["layout"] = layout.to_json(applied, form.dtype, needed)
    else:
        experts = form.experts
        if experts is None and is_fused_on_loading(config):
            experts = ExpertsLayout.FUSED
        adapter = replace(adapter, modules=even_scales(arrange_experts(adapter.modules, experts, config)))
    adapter = replace(adapter, modules=even_ranks(with_routers(adapter.modules, config)))
    as_stated = experts_as_in(adapter.modules, sources.base)
    for name, said in adapter.statement["modules"].items():
        if name in as_stated:
            said["rank"] = as_stated[name].rank
    adapter.statement["parameters"] = adapter.parameters
    return adapter


def _module(store: FactorStore, name: str, rank: int, dtype: np.dtype[Any]) -> tuple[Module, float]:
    """Return a module with its factors rounded to ``dtype``, and the energy it leaves out."""
    update = store.factors(name, rank)
    exact = update.factors()
    module = Module(module_name(name), store.record(name).kind, *rounded_factors(exact, dtype, name))
    return module, stored_error(exact, update.tail, module)


def _padded(module: Module, rows: int) -> Module:
    """Add rows of zeros for what only the base has (a vocabulary that shrank), so that the shapes fit."""
    missing = rows - module.left.shape[0]
    if missing <= 0:
        return module
    return replace(module, left=np.pad(module.left, ((0, missing), (0, 0))))


def _module_paths(sources: Sources) -> list[str]:
    """Return the paths of all modules that PEFT could wrap, in the names of the adapter."""
    assert sources.base is not None
    full = {s.base.name: s.name for s in sources.tensors if s.base is not None}
    named = {full.get(name, name): info for name, info in sources.base.tensors.items()}
    # The base may have been saved without its head, which the fine-tune then shows.
    named |= {name: sources.tuned.info(name) for name in sources.only_tuned}
    kinds = ("linear", "conv1d", "embedding", "conv")
    config = sources.base.config or sources.tuned.config
    return [module_of(name) for name, info in named.items() if kind_of(name, info.shape, config) in kinds]


def _refuse_overlap(out: Path, base: str | Path, tuned: str | Path, store: str | Path | None) -> None:
    for name, given in (("base", base), ("tuned", tuned), ("store", store)):
        if given is not None and Path(given).resolve().is_relative_to(out.resolve()):
            raise OutputError(
                str(out), f"is or holds the {name}, {given}", "Name another folder for the adapter"
            )
