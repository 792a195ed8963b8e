"""Scales: what each consumer multiplies B A by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats.single_file.diffusers import DiffusersOrigin
from eckart.serving.consumer import Consumer, Scaling


def computed_scales(adapter: Adapter, consumer: Consumer) -> dict[str, float]:
    """Return what a consumer multiplies the B A of every module by.

    Parameters
    ----------
    adapter : Adapter
        As read from its file.
    consumer : Consumer
    """
    leaves = {m.name.rpartition(".")[2] for m in adapter}
    first_type = next((leaf for leaf in consumer.order if leaf in leaves), None)
    config = adapter.config
    padded_config = config
    if consumer.order and isinstance(config.get("r"), int):
        padded_config = {**config, "r": consumer.padded(config["r"])}
    scales = {}
    for m in adapter:
        is_first = m.name.rpartition(".")[2] == first_type
        scales[m.name] = computed_scale(
            m, consumer, config if is_first else padded_config, _alpha_is_in_metadata(adapter)
        )
    return scales


def _alpha_is_in_metadata(adapter: Adapter) -> bool:
    """Whether the file states its alphas only in its metadata."""
    return isinstance(adapter.origin, DiffusersOrigin) and adapter.origin.alpha_in_metadata


def computed_scale(
    module: Module, consumer: Consumer, config: Mapping[str, Any], alpha_in_metadata: bool = False
) -> float:
    """Return what a consumer multiplies one module's B A by.

    Parameters
    ----------
    module : Module
    consumer : Consumer
    config : mapping
        The adapter's ``adapter_config.json``; empty for formats without one.
    alpha_in_metadata : bool
        Whether the file states its alphas only in its metadata.
    """
    uses_rslora = bool(config.get("use_rslora"))
    if consumer.scale is Scaling.MODULE:
        misses_root = uses_rslora and not consumer.rslora
        return module.scale / math.sqrt(module.rank) if misses_root else module.scale
    if consumer.scale is Scaling.FILE:
        is_unread = alpha_in_metadata and not consumer.metadata
        if module.alpha is None or is_unread:
            return 1.0
        return module.alpha / module.rank
    alpha = float(config.get("lora_alpha") or 0)
    rank = module.rank if consumer.scale is Scaling.TENSOR else int(config.get("r") or 1)
    return alpha / math.sqrt(rank) if uses_rslora and consumer.rslora else alpha / rank
