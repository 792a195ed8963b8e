"""What an adapter leaves of a fine-tune, by dense float64 matrices over the files: a second opinion."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support.checkpoints import read

PREFIX = "base_model.model."


@dataclass(frozen=True)
class DensePart:
    """One term of the whole change: ||dW||, and ||dW - what the adapter holds of it||."""

    update: float
    lost: float
    holder: str  # "factors", "bias", "whole" or ""


def dense_parts(base: Path, tuned: Path, adapter: Path, prefix: str = "") -> dict[tuple[str, str], DensePart]:
    """Return every changed term of the whole change, by tensor (an expert apart) and region.

    ``prefix`` stands before the names of the tuned checkpoint alone. Scales are 1, as Eckart writes them.
    """
    before, after = read(base), read(tuned)
    factors, biases, whole = held(adapter, after, json.loads((base / "config.json").read_text()))
    parts: dict[tuple[str, str], DensePart] = {}

    def add(name: str, region: str, update: np.ndarray, guess: np.ndarray | float, holder: str) -> None:
        if np.any(update):
            lost = float(np.linalg.norm(np.ravel(update - guess)))
            parts[name, region] = DensePart(float(np.linalg.norm(np.ravel(update))), lost, holder)

    for name, new in after.items():
        if new.dtype == np.int64:
            continue
        old = before.get(name.removeprefix(prefix))
        if old is None:
            is_whole = name in whole
            add(name, "tuned only", new, whole.get(name, 0.0), "whole" if is_whole else "")
            continue
        rows = slice(None) if old.shape == new.shape else slice(0, min(len(old), len(new)))
        update = new[rows] - old[rows] if new.ndim else new - old
        if old.shape != new.shape and len(new) > len(old):
            kept = whole[name][len(old) :] if name in whole else 0.0
            add(name, "new rows", new[len(old) :], kept, "whole" if name in whole else "")
        if name in whole:
            kept = whole[name][rows] - old[rows] if new.ndim else whole[name] - old
            add(name, "shared", update, kept, "whole")
        elif f"{name}[0]" in factors or (new.ndim == 3 and "experts" in name):
            for e, part in enumerate(update):
                add(f"{name}[{e}]", "shared", part, factors.get(f"{name}[{e}]", 0.0),
                    "factors" if f"{name}[{e}]" in factors else "")  # fmt: skip
        elif name in factors:
            add(name, "shared", update, factors[name][: len(update)], "factors")
        elif name in biases:
            add(name, "shared", update, biases[name], "bias")
        else:
            add(name, "shared", update, 0.0, "")
    return parts


def relative_error(parts: list[DensePart]) -> float:
    """Return the error of several terms as one vector."""
    return math.hypot(*(p.lost for p in parts)) / math.hypot(*(p.update for p in parts))


def held(
    adapter: Path, after: dict[str, np.ndarray], model: dict
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what a PEFT folder holds: B A by tensor name as the tensor is stored, biases, and whole tensors.

    Factors of zeros are padding and are left out.
    """
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = {key.removeprefix(PREFIX): array for key, array in read(adapter).items()}
    targets = config.get("target_parameters") or []
    factors: dict[str, np.ndarray] = {}
    biases: dict[str, np.ndarray] = {}
    whole: dict[str, np.ndarray] = {}
    for key, A in tensors.items():
        if key.endswith(".lora_A.weight"):
            name = key.removesuffix(".lora_A.weight")
            _add_factors(factors, name, tensors[f"{name}.lora_B.weight"], A, targets, after, model)
        elif key.endswith(".lora_embedding_A"):
            name = key.removesuffix(".lora_embedding_A")
            factors[f"{name}.weight"] = (tensors[f"{name}.lora_embedding_B"] @ A).T
        elif key.endswith(".lora_B.bias"):
            biases[f"{key.removesuffix('.lora_B.bias')}.bias"] = A
        elif not key.endswith((".lora_B.weight", ".lora_embedding_B")):
            whole[key] = A
    return {name: product for name, product in factors.items() if np.any(product)}, biases, whole


def _add_factors(
    factors: dict[str, np.ndarray],
    name: str,
    B: np.ndarray,
    A: np.ndarray,
    targets: list[str],
    after: dict[str, np.ndarray],
    model: dict,
) -> None:
    path = name.removesuffix(".base_layer")
    leaves = [
        leaf for leaf in ("gate_up_proj", "down_proj") if any(f"{path}.{leaf}".endswith(t) for t in targets)
    ]
    split = re.fullmatch(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj", name)
    if leaves:  # PEFT nests the wrappers: the last parameter is the outermost
        leaf = leaves[0] if name != path or len(leaves) == 1 else leaves[-1]
        experts = model.get("num_experts") or len(after[f"{path}.{leaf}"])
        A = A.reshape(experts, -1, A.shape[-1])
        B = B.reshape(len(B), -1, experts)
        for e in range(experts):
            product = B[:, :, e] @ A[e]
            if f"{path}.{leaf}" in after:
                stored = product.T if model.get("model_type") == "gpt_oss" else product
                factors[f"{path}.{leaf}[{e}]"] = stored
            elif leaf == "down_proj":
                factors[f"{path}.{e}.down_proj.weight"] = product
            else:
                gate, up = np.split(product, 2)
                factors[f"{path}.{e}.gate_proj.weight"] = gate
                factors[f"{path}.{e}.up_proj.weight"] = up
    elif split and f"{name}.weight" not in after:
        stack, expert, role = split.groups()
        leaf = "down_proj" if role == "down" else "gate_up_proj"
        target = f"{stack}.{leaf}[{expert}]"
        product = factors.setdefault(target, np.zeros(after[f"{stack}.{leaf}"].shape[1:]))
        half = len(product) // 2
        rows = {"down": slice(None), "gate": slice(0, half), "up": slice(half, None)}[role]
        product[rows] = B @ A
    elif model.get("model_type") == "gpt2" and name.endswith("c_attn"):
        factors[f"{name}.weight"] = (B @ A).T
    else:
        factors[f"{name}.weight"] = B @ A
