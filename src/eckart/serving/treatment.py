"""What programs would not load: the modules, tensors and biases that they refuse or drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import ExpertsLayout, is_split
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.arguments import argument
from eckart.checkpoint.kinds import Kind, is_head
from eckart.errors import AdapterError
from eckart.serving.consumer import Consumer, Treatment
from eckart.text import preview


def treatment_of(module: Module, consumer: Consumer, experts_arranged: bool = False) -> Treatment:
    """Return what a consumer does with a module's factors.

    Parameters
    ----------
    module : Module
    consumer : Consumer
    experts_arranged : bool
        Treat fused experts as if they were in the layout that the consumer reads, if it reads one. Use this
        for an adapter whose experts have not yet been arranged for the consumer.
    """
    if module.kind == Kind.EMBEDDING:
        return consumer.embeddings
    if module.kind == Kind.CONV:
        return consumer.conv
    if module.expert is not None and consumer.experts is not ExpertsLayout.FUSED:
        reads_them_split = experts_arranged and consumer.experts is ExpertsLayout.SPLIT
        return Treatment.LOADS if reads_them_split else consumer.other_experts
    if is_split(module.name) and consumer.experts is None:
        return consumer.other_experts
    return consumer.heads if is_head(f"{module.name}.weight") else Treatment.LOADS


def unread_by(
    module: Module, consumers: Sequence[Consumer], experts_arranged: bool = False
) -> list[Consumer]:
    """Return the consumers that would not load a module; see `treatment_of`."""
    return [c for c in consumers if not treatment_of(module, c, experts_arranged).is_read]


def separate_unread(
    modules: Mapping[str, Module], consumers: Sequence[Consumer]
) -> tuple[dict[str, Module], dict[str, Module]]:
    """Separate the modules that every consumer loads from all others.

    Raises
    ------
    AdapterError
        If no module is left that every consumer loads.
    """
    kept, unread = {}, {}
    for name, module in modules.items():
        if unread_by(module, consumers):
            unread[name] = module
        else:
            kept[name] = module
    if not kept:
        raise AdapterError(
            argument("consumers"),
            f"no module would remain, because {titles_of(consumers)} would not load {preview(unread)}",
            "Choose other programs",
        )
    return kept, unread


def unread_whole(adapter: Adapter, consumers: Sequence[Consumer]) -> tuple[str, ...]:
    """Return the tensors saved whole or by rows that a consumer would not load.

    Copies of the base's own tables are not among them: every program ignores those.
    """
    names = [name for name in adapter.dense if not is_copy_of_base(name, adapter)]
    return tuple(
        name
        for name in [*names, *adapter.rows]
        if not all(c.whole_treatment(name).is_read for c in consumers)
    )


def without_unread_biases(
    modules: Mapping[str, Module], consumers: Sequence[Consumer]
) -> tuple[dict[str, Module], int]:
    """Remove the biases if a consumer would not load them; also return how many were removed."""
    biases = sum(m.bias is not None for m in modules.values())
    if not biases or all(c.bias.is_read for c in consumers):
        return dict(modules), 0
    return {name: replace(m, bias=None) for name, m in modules.items()}, biases


def has_expression(config: Mapping[str, Any]) -> bool:
    """Whether a PEFT configuration gives its target modules as a regular expression."""
    targets = config.get("target_modules")
    return isinstance(targets, str) and targets != "all-linear"


def titles_of(consumers: Iterable[Consumer]) -> str:
    """Return the titles of consumers, separated by commas."""
    return ", ".join(c.title for c in consumers)
