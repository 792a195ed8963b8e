"""Problems: each consumer's rules applied to an adapter's file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from eckart.adapter.adapter import Adapter, by_parameter
from eckart.adapter.experts import is_split
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.checkpoint.kinds import Kind
from eckart.serving.consumer import Consumer, Scaling, Treatment
from eckart.serving.missing_modules import missing_modules
from eckart.serving.scales import computed_scales
from eckart.serving.treatment import has_expression, treatment_of
from eckart.text import count

SAME_SCALE = 1e-6  # relative: a scale that was stored in float32 may differ by this much

_KINDS = {
    Kind.EMBEDDING: "embedding tables are",
    Kind.CONV: "convolutions are",
    Kind.LINEAR: "the output layer is",
}


class Severity(Enum):
    """What a program does with an update that has a problem."""

    REFUSED = "refused"  # the program does not load the adapter
    WRONG = "wrong"  # the program computes a different update
    DROPPED = "dropped"  # the program silently leaves a part out


@dataclass(frozen=True)
class Problem:
    """A part of an adapter that a program would refuse, compute wrongly, or silently drop.

    Parameters
    ----------
    severity : Severity
        Whether the part is refused, wrong or dropped.
    where : str
        The module, tensor or setting.
    what : str
        What the program would do, and why.
    fix : str
        The command to type, or what to change.
    """

    severity: Severity
    where: str
    what: str
    fix: str


def problems_of(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    """Find everything in an adapter that a consumer would not load correctly."""
    if adapter.format not in consumer.formats:
        yield Problem(
            Severity.REFUSED,
            adapter.format,
            "this format is not read",
            _convert_command(adapter, consumer),
        )
        return
    yield from _whole_problems(adapter, consumer)
    yield from _kind_problems(adapter, consumer)
    yield from _rank_problems(adapter, consumer)
    yield from _scale_problems(adapter, consumer)
    if consumer.lists_targets and has_expression(adapter.config):
        yield Problem(
            Severity.REFUSED,
            "target_modules",
            "the program needs a list of modules, but this is a regular expression",
            _resize_command(adapter, consumer),
        )
    yield from _missing_problems(adapter, consumer)


def mixes_up_alphas(adapter: Adapter, consumer: Consumer) -> bool:
    """Whether the adapter's alphas differ in a format in which the consumer supports only one."""
    return adapter.format in consumer.one_alpha_in and len({m.alpha for m in adapter}) > 1


def type_of(name: str) -> str:
    """Return a module's name with ``*`` for the numbers of layers."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def path_in_command(adapter: Adapter) -> str:
    """Return an adapter's path as it is typed in a shell; ``ADAPTER`` for one in memory."""
    return "ADAPTER" if adapter.path is None else shlex.quote(str(adapter.path))


def _resize_command(adapter: Adapter, consumer: Consumer) -> str:
    largest = max((m.rank for m in adapter), default=1)
    rank = min(consumer.padded(largest), consumer.max_rank or largest)
    return f"eckart resize {path_in_command(adapter)} -o OUT --rank {rank} --for {consumer.name}"


def _convert_command(adapter: Adapter, consumer: Consumer) -> str:
    return f"eckart convert {path_in_command(adapter)} -o OUT --to {consumer.formats[0]}"


def _severity(treatment: Treatment) -> Severity:
    return Severity.REFUSED if treatment is Treatment.REFUSES else Severity.DROPPED


def _whole_problems(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    """Check tensors saved whole, replaced rows of tables, biases, and tensors that belong to no module."""
    groups: dict[tuple[str, Treatment], list[str]] = {}
    for name in adapter.dense:
        if not is_copy_of_base(name, adapter):
            groups.setdefault(("whole tensors", consumer.whole_treatment(name)), []).append(name)
    for name in adapter.rows:
        groups.setdefault(("replaced rows of tables", consumer.whole_treatment(name)), []).append(name)
    for m in adapter:
        if m.bias is not None:
            groups.setdefault(("biases (lora_bias)", consumer.bias), []).append(f"{m.name}.bias")
    for (part, treatment), names in groups.items():
        if not treatment.is_read:
            yield Problem(
                _severity(treatment),
                names[0],
                f"{part} are {_severity(treatment).value} ({len(names):,})",
                _resize_command(adapter, consumer),
            )
    if adapter.unknown and adapter.format == "peft":
        yield Problem(
            Severity.DROPPED,
            next(iter(adapter.unknown)),
            f"tensors that belong to no module are dropped ({len(adapter.unknown):,})",
            "Remove them from the file",
        )


def _kind_problems(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    """Check for kinds of modules that the consumer does not load."""
    groups: dict[tuple[Treatment, str], list[str]] = {}
    for m in adapter:
        treatment = treatment_of(m, consumer)
        if not treatment.is_read:
            is_expert = m.expert is not None or is_split(m.name)
            kind = "experts are" if is_expert else _KINDS.get(m.kind, "modules of this kind are")
            groups.setdefault((treatment, kind), []).append(m.name)
    for (treatment, kind), names in groups.items():
        yield Problem(
            _severity(treatment),
            names[0],
            f"{kind} {_severity(treatment).value} ({count(names, 'module')})",
            _resize_command(adapter, consumer),
        )


def _rank_problems(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    """Check for ranks that vary where one is needed, are too large, or change the scale."""
    ranks = {m.name: m.rank for m in adapter}
    if not ranks:
        return
    fix = _resize_command(adapter, consumer)
    largest = max(ranks.values())
    stated = adapter.config.get("r")
    admitted = None
    if isinstance(stated, int) and consumer.scale is Scaling.GLOBAL:
        admitted = consumer.limit_for(stated)
    if adapter.format == "peft" and admitted is not None and admitted < largest:
        name = max(ranks, key=lambda n: ranks[n])
        yield Problem(
            Severity.REFUSED,
            name,
            f"rank {largest} does not fit, because the program reserves memory for r, which is {stated}",
            fix,
        )
    if consumer.one_rank:
        expected = stated if isinstance(stated, int) else largest
        others = [name for name, rank in ranks.items() if rank != expected]
        if others:
            pads_to_one_rank = _pads_each_type_to_one_rank(adapter, consumer)
            yield Problem(
                Severity.WRONG if pads_to_one_rank else Severity.REFUSED,
                others[0],
                f"all modules must have one rank, and this one has rank {ranks[others[0]]} where r is "
                f"{stated} ({count(others, 'module')})",
                fix,
            )
    elif consumer.one_rank_per_stack:
        yield from _uneven_stacks(adapter, consumer)
    if consumer.max_rank is not None and largest > consumer.max_rank:
        yield Problem(
            Severity.REFUSED,
            f"rank {largest}",
            f"the largest accepted rank is {consumer.max_rank}",
            fix,
        )
    elif consumer.ranks and largest not in consumer.ranks:
        correct = ", ".join(map(str, consumer.ranks))
        yield Problem(
            Severity.WRONG,
            "rank",
            f"rank {largest} would be padded, and then scaled incorrectly; correct ranks are {correct}",
            fix,
        )


def _pads_each_type_to_one_rank(adapter: Adapter, consumer: Consumer) -> bool:
    """Whether the consumer's own padding brings all modules of each type to one rank."""
    padded: dict[str, set[int]] = {}
    for m in adapter:
        padded.setdefault(type_of(m.name), set()).add(consumer.padded(m.rank))
    return bool(consumer.ranks) and all(len(ranks) == 1 for ranks in padded.values())


def _uneven_stacks(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    for name, stack in by_parameter(adapter.modules).items():
        if len({m.rank for m in stack}) > 1:
            yield Problem(
                Severity.REFUSED,
                name,
                "all experts of this parameter must have one rank",
                _resize_command(adapter, consumer),
            )


def _scale_problems(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    """Check that the consumer multiplies every B A by the intended scale."""
    if mixes_up_alphas(adapter, consumer):
        yield Problem(
            Severity.WRONG,
            "alpha",
            f"the program mixes up alphas that differ within a {adapter.format} file",
            _convert_command(adapter, consumer),
        )
    scales = computed_scales(adapter, consumer)
    ratios = {m.name: scales[m.name] / m.scale for m in adapter}
    wrong = {n: ratio for n, ratio in ratios.items() if not math.isclose(ratio, 1.0, rel_tol=SAME_SCALE)}
    if wrong:
        name = max(wrong, key=lambda n: abs(math.log(abs(wrong[n]))) if wrong[n] else math.inf)
        yield Problem(
            Severity.WRONG,
            name,
            f"this update would be {wrong[name]:.4g} times as large as intended ({count(wrong, 'module')})",
            _resize_command(adapter, consumer),
        )


def _missing_problems(adapter: Adapter, consumer: Consumer) -> Iterator[Problem]:
    """Check for modules that the consumer needs next to those of the adapter."""
    missing = missing_modules(adapter.modules, [consumer], shapes={})
    if not missing:
        return
    if consumer.every_layer:
        severity = Severity.DROPPED
        reason = "a type of module that one layer lacks is dropped from all layers"
    else:
        severity = Severity.REFUSED
        reason = "this module is required next to others of its layer"
    yield Problem(
        severity,
        next(iter(missing)),
        f"{reason} ({count(missing, 'module')} missing)",
        _resize_command(adapter, consumer),
    )
