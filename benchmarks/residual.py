"""Compute from the files how much of the update is missing from an adapter. Uses no code of Eckart."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

PREFIX = "base_model.model."
ROWS = 512  # rows of the update in memory at a time, in float64


class Residual(NamedTuple):
    """The residual of an adapter, and the contents of its file."""

    relative: float  # ||dW - B A||_F / ||dW||_F over all adapted modules together
    modules: frozenset[str]
    other_tensors: tuple[str, ...]  # tensors that are not LoRA factors
    bytes: int
    dtype: str


def residual(base: Path, tuned: Path, adapter: Path) -> Residual:
    """Compare an adapter in PEFT's format with the difference of two checkpoints, in float64."""
    weights = adapter / "adapter_model.safetensors"
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    missing = total = 0.0
    with (
        safe_open(base / "model.safetensors", "pt") as base_file,
        safe_open(tuned / "model.safetensors", "pt") as tuned_file,
        safe_open(weights, "pt") as factors,
    ):
        keys = list(factors.keys())
        modules = [k.removesuffix(".lora_A.weight") for k in keys if k.endswith(".lora_A.weight")]
        for module in modules:
            A = factors.get_tensor(f"{module}.lora_A.weight")  # (r, d_in)
            B = factors.get_tensor(f"{module}.lora_B.weight")  # (d_out, r)
            dtype = str(B.dtype).removeprefix("torch.")
            name = module.removeprefix(PREFIX)
            B64, A64 = B.double() * scale(config, name, A.shape[0]), A.double()
            before, after = base_file.get_slice(f"{name}.weight"), tuned_file.get_slice(f"{name}.weight")
            for row in range(0, B.shape[0], ROWS):
                rows = slice(row, row + ROWS)
                change = after[rows].double() - before[rows].double()  # (ROWS, d_in)
                total += float(torch.sum(change * change))
                change -= B64[rows] @ A64
                missing += float(torch.sum(change * change))
    factor_keys = {f"{m}.{half}.weight" for m in modules for half in ("lora_A", "lora_B")}
    return Residual(
        math.sqrt(missing / total),
        frozenset(m.removeprefix(PREFIX) for m in modules),
        tuple(sorted(set(keys) - factor_keys)),
        weights.stat().st_size,
        dtype,
    )


def scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """Return alpha / r of one module; as in PEFT, the first matching pattern decides."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
