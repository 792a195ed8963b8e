"""Check: each consumer's own rule applied to an adapter's file, and what it would compute from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module, by_parameter
from eckart.adapter.experts import is_split
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.adapter.rounding import relative
from eckart.checkpoint import Checkpoint
from eckart.errors import UsageError
from eckart.serving.base_fit import Problem, Severity, base_problems
from eckart.serving.consumers import Consumer, consumers_named
from eckart.serving.layout import Wish, has_expression, missing_modules, treatment
from eckart.text import count

SAME_SCALE = 1e-6  # a scale that went through float32 may differ by this much


@dataclass(frozen=True)
class Verdict:
    """What one consumer would make of an adapter.

    Parameters
    ----------
    consumer : Consumer
    problems : tuple of Problem
    error : float or None
        ||intended - computed||_F / ||intended||_F over all modules; None if it refuses to load, or if
        what it computes is not known.
    options : str
        What it has to be started with.
    """

    consumer: Consumer
    problems: tuple[Problem, ...]
    error: float | None
    options: str

    @property
    def refused(self) -> bool:
        """Whether it does not load at all."""
        return any(p.severity == "refused" for p in self.problems)

    @property
    def right(self) -> bool:
        """Whether it computes the intended update."""
        return not self.problems


@dataclass(frozen=True)
class CheckReport:
    """What every named consumer would make of an adapter, and how it fits its base."""

    verdicts: tuple[Verdict, ...]
    base_problems: tuple[Problem, ...]

    @property
    def right(self) -> bool:
        """Whether nothing is the matter."""
        return all(v.right for v in self.verdicts) and not self.base_problems


def check_adapter(adapter: Adapter, consumers: Wish, base: Checkpoint | None = None) -> CheckReport:
    """Apply the rules of consumers to an adapter.

    Parameters
    ----------
    adapter : Adapter
        As read from its file; what is checked is the file's own configuration and alphas.
    consumers : str or sequence of str
        For example ``"vllm,llama.cpp"``.
    base : Checkpoint, optional
        To check names, shapes and the vocabulary too.

    Notes
    -----
    The intended update is that of the adapter's own format: PEFT's for a PEFT folder. Its norms come
    from the factors, 2(m + n)r^2 flops a module. That a program does what its entry in `CONSUMERS`
    says was read in the source named there, not run.
    """
    named = consumers_named(consumers)
    if not named and base is None:
        raise UsageError("check", "expected --for or --base", "For example --for vllm,llama.cpp")
    energies = {m.name: _energy(m) for m in adapter}
    adapter.release()
    shapes: dict[str, tuple[int, int]] = {}
    verdicts = tuple(_verdict(adapter, c, energies, shapes) for c in named)
    return CheckReport(verdicts, tuple(base_problems(adapter, base)) if base is not None else ())


def computed_scales(adapter: Adapter, consumer: Consumer) -> dict[str, float]:
    """Return what a consumer multiplies the B A of every module by."""
    leaves = {m.name.rpartition(".")[2] for m in adapter}
    first = next((leaf for leaf in consumer.order if leaf in leaves), None)
    scales = {}
    for m in adapter:
        config = adapter.config
        if consumer.order and m.name.rpartition(".")[2] != first and isinstance(config.get("r"), int):
            config = {**config, "r": consumer.padded(config["r"])}
        scales[m.name] = computed_scale(m, consumer, config)
    return scales


def computed_scale(module: Module, consumer: Consumer, config: Mapping[str, Any]) -> float:
    """Return what a consumer multiplies the module's B A by.

    Parameters
    ----------
    module : Module
    consumer : Consumer
    config : mapping
        The adapter's ``adapter_config.json``; empty for formats without one.
    """
    if consumer.scale == "module":
        if config.get("use_rslora") and not consumer.rslora:
            return module.scale / math.sqrt(module.rank)
        return module.scale
    if consumer.scale == "file":
        unread = module.alpha is None or (config.get("alpha_in_metadata") and not consumer.metadata)
        return 1.0 if unread or module.alpha is None else module.alpha / module.rank
    alpha, rank = float(config.get("lora_alpha") or 0), int(config.get("r") or 1)
    rank = module.rank if consumer.scale == "tensor" else rank
    return alpha / math.sqrt(rank) if config.get("use_rslora") and consumer.rslora else alpha / rank


def _verdict(
    adapter: Adapter, consumer: Consumer, energies: Mapping[str, float], shapes: Mapping[str, tuple[int, int]]
) -> Verdict:
    problems = list(_problems(adapter, consumer, shapes))
    if any(p.severity == "refused" or p.where == "alpha" for p in problems):
        return Verdict(consumer, tuple(problems), None, "")
    gone = _dropped(adapter, consumer, shapes)
    missed = 0.0
    scales = computed_scales(adapter, consumer)
    for module in adapter:
        ratio = scales[module.name] / module.scale
        missed += energies[module.name] * (1.0 if module.name in gone else (ratio - 1.0) ** 2)
    rank = max((m.rank for m in adapter), default=0)
    options = f"{consumer.option} {consumer.limit_for(rank) or rank}" if consumer.option else ""
    return Verdict(consumer, tuple(problems), relative(missed, sum(energies.values())), options)


def _energy(module: Module) -> float:
    left, right = module.product()
    return max(float(((left.T @ left) * (right @ right.T)).sum()), 0.0)


def _dropped(adapter: Adapter, consumer: Consumer, shapes: Mapping[str, tuple[int, int]]) -> set[str]:
    """Return the modules that a consumer leaves out without an error."""
    gone = {m.name for m in adapter if treatment(m, consumer) == "drops"}
    if consumer.every_layer:
        holes = missing_modules(adapter.modules, [consumer], shapes)
        types = {_type_of(name) for name in holes}
        gone |= {name for name in adapter.modules if _type_of(name) in types}
    return gone


def _type_of(name: str) -> str:
    """Return a module's name without the numbers of layers."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _problems(
    adapter: Adapter, consumer: Consumer, shapes: Mapping[str, tuple[int, int]]
) -> Iterator[Problem]:
    title = consumer.title
    rank = max((m.rank for m in adapter), default=1)
    again = f"eckart resize {adapter.path or 'ADAPTER'} OUT --rank {rank} --for {consumer.name}"
    if adapter.format not in consumer.formats:
        to = consumer.formats[0]
        yield Problem(
            "refused",
            adapter.format,
            f"{title} does not read this format",
            f"eckart convert {adapter.path} OUT --to {to}",
        )
        return
    yield from _whole_problems(adapter, consumer, again)
    yield from _kind_problems(adapter, consumer, again)
    yield from _rank_problems(adapter, consumer, again)
    yield from _scale_problems(adapter, consumer, again)
    if consumer.lists_targets and has_expression(adapter.config):
        yield Problem(
            "refused", "target_modules", f"is a regular expression, and {title} takes a list", again
        )
    holes = missing_modules(adapter.modules, [consumer], shapes)
    if holes:
        first = next(iter(holes))
        severity: Severity = "dropped" if consumer.every_layer else "refused"
        why = "drops a type of module that a layer lacks" if consumer.every_layer else "needs these together"
        yield Problem(severity, first, f"is not there ({len(holes)} such), and {title} {why}", again)


def _whole_problems(adapter: Adapter, consumer: Consumer, again: str) -> Iterator[Problem]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name in adapter.dense:
        if not is_copy_of_base(name, adapter):
            groups.setdefault(("whole tensors", consumer.whole_treatment(name)), []).append(name)
    for name in adapter.rows:
        groups.setdefault(("rows of tables", consumer.whole_treatment(name)), []).append(name)
    for m in adapter:
        if m.bias is not None:
            groups.setdefault(("lora_bias", consumer.bias), []).append(f"{m.name}.bias")
    for (what, treat), names in groups.items():
        if treat != "loads":
            words = f"{what}: {consumer.title} {treat} them ({len(names)})"
            yield Problem(_severity(treat), names[0], words, again)
    if adapter.unknown and adapter.format == "peft":
        names = list(adapter.unknown)
        yield Problem(
            "dropped",
            names[0],
            f"{count(names, 'tensor')} that belong to no module",
            "Remove them from the file",
        )


def _kind_problems(adapter: Adapter, consumer: Consumer, again: str) -> Iterator[Problem]:
    groups: dict[str, list[str]] = {}
    for m in adapter:
        treat = treatment(m, consumer)
        if treat != "loads":
            kind = "experts" if m.expert is not None or is_split(m.name) else m.kind
            kind = "the output layer" if kind == "linear" else kind
            groups.setdefault(f"{treat} {kind}", []).append(m.name)
    for words, names in groups.items():
        treat = words.partition(" ")[0]
        yield Problem(
            _severity(treat), names[0], f"{consumer.title} {words} ({count(names, 'module')})", again
        )


def _rank_problems(adapter: Adapter, consumer: Consumer, again: str) -> Iterator[Problem]:
    ranks = {m.name: m.rank for m in adapter}
    if not ranks:
        return
    largest = max(ranks.values())
    stated = adapter.config.get("r")
    admitted = consumer.limit_for(stated) if isinstance(stated, int) and consumer.scale == "global" else None
    if adapter.format == "peft" and admitted is not None and admitted < largest:
        name = max(ranks, key=lambda n: ranks[n])
        yield Problem(
            "refused", name, f"has rank {largest}, and r, which {consumer.title} reads, is {stated}", again
        )
    if consumer.one_rank:
        other = [n for n, r in ranks.items() if r != (stated if isinstance(stated, int) else largest)]
        if other:
            severity: Severity = "wrong" if _one_padded_rank(adapter, consumer) else "refused"
            yield Problem(
                severity, other[0],
                f"has rank {ranks[other[0]]} and r is {stated} ({count(other, 'module')}); "
                f"{consumer.title} needs one rank",
                again,
            )  # fmt: skip
    elif consumer.name == "peft":
        yield from _uneven_experts(adapter)
    if consumer.max_rank is not None and largest > consumer.max_rank:
        yield Problem(
            "refused", f"rank {largest}", f"{consumer.title} takes {consumer.max_rank} at most", again
        )
    elif consumer.ranks and largest not in consumer.ranks:
        said = ", ".join(map(str, consumer.ranks))
        yield Problem(
            "wrong",
            "rank",
            f"is {largest}, and {consumer.title} pads it and rescales; right are {said}",
            again,
        )


def _one_padded_rank(adapter: Adapter, consumer: Consumer) -> bool:
    """Whether the modules of each type come to one rank by the padding that a program does itself."""
    padded: dict[str, set[int]] = {}
    for m in adapter:
        padded.setdefault(_type_of(m.name), set()).add(consumer.padded(m.rank))
    return bool(consumer.ranks) and all(len(ranks) == 1 for ranks in padded.values())


def _uneven_experts(adapter: Adapter) -> Iterator[Problem]:
    for name, stack in by_parameter(adapter.modules).items():
        if len({m.rank for m in stack}) > 1:
            yield Problem(
                "refused",
                name,
                "its experts have different ranks",
                f"eckart resize {adapter.path} OUT --rank {stack[0].rank} --for peft",
            )


def _scale_problems(adapter: Adapter, consumer: Consumer, again: str) -> Iterator[Problem]:
    alphas = {m.alpha for m in adapter}
    if adapter.format in consumer.one_alpha_in and len(alphas) > 1:
        yield Problem(
            "wrong", "alpha",
            f"{consumer.title} mixes up the alphas of a {adapter.format} file where they differ",
            f"eckart convert {adapter.path} OUT --to {consumer.formats[0]}",
        )  # fmt: skip
    off: dict[str, float] = {}
    scales = computed_scales(adapter, consumer)
    for m in adapter:
        ratio = scales[m.name] / m.scale
        if not math.isclose(ratio, 1.0, rel_tol=SAME_SCALE):
            off[m.name] = ratio
    if off:
        name = max(off, key=lambda n: abs(np.log(abs(off[n]))) if off[n] else math.inf)
        yield Problem(
            "wrong", name,
            f"{consumer.title} would scale it by {off[name]:.4g} times what is meant "
            f"({count(off, 'module')})",
            again,
        )  # fmt: skip


def _severity(treat: str) -> Severity:
    return "refused" if treat == "refuses" else "dropped"
