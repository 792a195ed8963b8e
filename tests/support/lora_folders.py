"""LoRA adapters in PEFT's format, with factors that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eckart.checkpoint import write_safetensors
from support.matrices import orthonormal

PREFIX = "base_model.model."

Pair = tuple[np.ndarray, np.ndarray]  # B (m, r) and A (r, n)


def write_lora(folder: Path, pairs: dict[str, Pair], **config: object) -> Path:
    """Write a PEFT folder of (B, A) by module name, with scale 1 unless ``config`` has a ``lora_alpha``."""
    folder.mkdir(parents=True)
    ranks = {name: B.shape[1] for name, (B, _) in pairs.items()}
    largest = max(ranks.values())
    default = {
        "peft_type": "LORA",
        "r": largest,
        "lora_alpha": largest,
        "target_modules": sorted(pairs),
        "rank_pattern": ranks,
        "alpha_pattern": {} if "lora_alpha" in config else ranks,
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(default | config))
    arrays = {}
    for name, (B, A) in pairs.items():
        arrays |= {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}
    write_safetensors(folder / "adapter_model.safetensors", arrays)
    return folder


def random_pair(m: int, n: int, r: int, seed: int, dtype: type = np.float32) -> Pair:
    """Return random factors B (m, r) and A (r, n)."""
    random = np.random.default_rng(seed)
    return random.standard_normal((m, r)).astype(dtype), random.standard_normal((r, n)).astype(dtype)


def pair_with_values(sigma: list[float], m: int, n: int, seed: int = 0, dtype: type = np.float32) -> Pair:
    """Return factors of an (m, n) update with these singular values."""
    root = np.sqrt(np.asarray(sigma, float))
    r = len(root)
    B, A = orthonormal(m, r, 2 * seed) * root, root[:, None] * orthonormal(n, r, 2 * seed + 1).T
    return B.astype(dtype), A.astype(dtype)


def summed(updates: list[dict[str, np.ndarray]], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the weighted sum of updates by module name."""
    total: dict[str, np.ndarray] = {}
    for by_name, weight in zip(updates, weights, strict=True):
        for name, update in by_name.items():
            total[name] = total.get(name, 0.0) + weight * update
    return total
