"""The layout of mixture-of-experts layers that the chosen programs need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eckart.adapter.adapter import Module
from eckart.adapter.experts import (
    ExpertsLayout,
    arrange_experts,
    even_scales,
    experts_layouts,
    is_fused_on_loading,
)
from eckart.arguments import argument
from eckart.errors import UsageError
from eckart.serving.consumer import Consumer


def check_experts(experts: ExpertsLayout | str | None, consumers: Sequence[Consumer]) -> ExpertsLayout | None:
    """Return the layout of experts that the user asked for, if every consumer can read it.

    Call this before any slow work.

    Parameters
    ----------
    experts : {"fused", "split"} or ExpertsLayout, optional
        What the user asked for.
    consumers : sequence of Consumer
        The programs that the adapter is for.

    Returns
    -------
    ExpertsLayout or None
        None if the user did not ask for a layout.

    Raises
    ------
    UsageError
        If the text names no layout, or if a consumer reads only the other layout.

    Examples
    --------
    >>> from eckart.serving.consumers import consumers_named
    >>> check_experts("split", consumers_named("vllm,llama.cpp"))
    <ExpertsLayout.SPLIT: 'split'>
    """
    if experts is None:
        return None
    layout = experts if isinstance(experts, ExpertsLayout) else ExpertsLayout.parse(experts)
    for consumer in consumers:
        if consumer.experts is not None and consumer.experts is not layout:
            raise UsageError(
                argument("experts", layout.value),
                f"{consumer.title} reads experts only {consumer.experts.value}",
                f"Remove {argument('experts')}, or remove {consumer.name} from {argument('consumers')}",
            )
    return layout


def arrange_experts_for(
    consumers: Sequence[Consumer],
    modules: Mapping[str, Module],
    config: Mapping[str, Any],
    experts: ExpertsLayout | None = None,
) -> dict[str, Module]:
    """Return the modules, with experts in the layout that all consumers read.

    Parameters
    ----------
    consumers : sequence of Consumer
    modules : mapping of str to Module
    config : mapping
        The base's ``config.json``; may be empty. Unless ``experts`` asks for it, experts are fused only if
        transformers is known to fuse those of this model.
    experts : ExpertsLayout, optional
        The layout that the user asked for, as `check_experts` returned it.

    Raises
    ------
    UsageError
        If the modules hold experts and the consumers read different layouts.
    """
    titles = {c.experts: c.title for c in consumers if c.experts is not None}
    if len(titles) > 1 and experts_layouts(modules):
        readers = ", ".join(f"{title} reads experts {layout.value}" for layout, title in titles.items())
        raise UsageError(
            argument("consumers"),
            f"no layout of experts is read by all: {readers}",
            "Write one adapter for each layout",
        )
    return even_scales(arrange_experts(modules, experts_layout_for(consumers, config, experts), config))


def experts_layout_for(
    consumers: Sequence[Consumer], config: Mapping[str, Any], experts: ExpertsLayout | None = None
) -> ExpertsLayout | None:
    """Return the layout of experts that all consumers read; None to leave experts as they are.

    Parameters
    ----------
    consumers : sequence of Consumer
    config : mapping
        The base's ``config.json``; may be empty.
    experts : ExpertsLayout, optional
        The layout that the user asked for.
    """
    read = {c.experts for c in consumers if c.experts is not None}
    if experts is not None:
        return experts
    if read == {ExpertsLayout.SPLIT}:
        return ExpertsLayout.SPLIT
    if read == {ExpertsLayout.FUSED} and is_fused_on_loading(config):
        return ExpertsLayout.FUSED
    return None
