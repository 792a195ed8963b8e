"""Adapters and bases of a small language model and a small U-Net, written with safetensors and json alone.

A function that takes a folder writes one adapter and returns its path. `adapter_with` returns such a
function, so that a table of cases can hold it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from support.consumers_emulated import PREFIX

PEFT_READERS = ["peft", "vllm", "vllm-0.30", "sglang", "llama.cpp", "tgi", "tensorrt-llm"]
IMAGE_READERS = ["diffusers", "comfyui"]

SHAPES = {
    "self_attn.q_proj": (32, 24),
    "self_attn.k_proj": (24, 24),
    "self_attn.v_proj": (24, 24),
    "self_attn.o_proj": (24, 32),
    "mlp.gate_proj": (40, 24),
    "mlp.up_proj": (40, 24),
    "mlp.down_proj": (24, 40),
}
LAYERS = [f"model.layers.{i}.{part}" for i in range(2) for part in SHAPES]
Q0, K1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj"
EXPERTS = "model.layers.0.mlp.experts"
EMBEDDING = "model.embed_tokens"


def random_factors(name: str, m: int, n: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """Return B (m, r) and A (r, n) in float32, the same ones for the same name."""
    random = np.random.default_rng(list(name.encode()))
    B, A = random.standard_normal((m, r)), random.standard_normal((r, n))
    return B.astype(np.float32), A.astype(np.float32)


def shape_of(name: str) -> tuple[int, int]:
    return SHAPES[name.split(".", 3)[3]]


def write_peft(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    """Write a PEFT folder of these tensors; ``config`` overrides rank 4, alpha 4 and ``all-linear``."""
    folder.mkdir(parents=True)
    prefixed = {PREFIX + key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(prefixed, folder / "adapter_model.safetensors")
    default = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": "all-linear", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(default | config))
    return folder


def write_adapter(
    folder: Path,
    ranks: dict[str, int] | int = 4,
    without: str = "^$",
    more: dict[str, np.ndarray] | None = None,
    **config: object,
) -> Path:
    """Write an adapter of two layers.

    ``ranks`` gives some modules a rank other than 4, or all modules one rank; modules that match
    ``without`` are left out; ``more`` holds further tensors; ``config`` further settings.
    """
    given = ranks if isinstance(ranks, dict) else {}
    default = 4 if isinstance(ranks, dict) else ranks
    tensors = dict(more or {})
    for name in LAYERS:
        if not re.search(without, name):
            B, A = random_factors(name, *shape_of(name), given.get(name, default))
            tensors |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    pattern = {name: rank for name, rank in given.items() if rank != 4}
    settings = {"r": default, "lora_alpha": default, "rank_pattern": pattern} | config
    return write_peft(folder, tensors, **settings)


def adapter_with(**settings: object) -> Callable[[Path], Path]:
    """Return a function that writes an adapter with these settings of `write_adapter` into a folder."""
    return lambda folder: write_adapter(folder, **settings)  # type: ignore[arg-type]


# Settings for `adapter_with`

VARIED_RANKS = {Q0: 6, K1: 2}
RANKS_UNDER_R = {Q0: 3, K1: 2}
RSLORA = {"use_rslora": True, "lora_alpha": 3}
TARGETS_EXPRESSION = {"target_modules": r".*\.(self_attn|mlp)\..*"}
ALPHAS = {"lora_alpha": 8, "alpha_pattern": {Q0: 3}}

# Tensors for its ``more``

Q0_BIAS = {f"{Q0}.lora_B.bias": np.ones(32, np.float32)}
WHOLE_HEAD = {"lm_head.weight": np.ones((50, 24), np.float32)}
WHOLE_NORM = {"model.norm.weight": np.ones(24, np.float32)}
WHOLE_LAYER_NORM = {"model.layers.0.input_layernorm.weight": np.ones(24, np.float32)}
REPLACED_ROWS = {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": np.ones((2, 24), np.float32)}
_TABLE_B, _TABLE_A = random_factors("table", 24, 50, 4)
TABLE_FACTORS = {f"{EMBEDDING}.lora_embedding_B": _TABLE_B, f"{EMBEDDING}.lora_embedding_A": _TABLE_A}
_HEAD_B, _HEAD_A = random_factors("h", 50, 24, 4)
HEAD_FACTORS = {"lm_head.lora_B.weight": _HEAD_B, "lm_head.lora_A.weight": _HEAD_A}


def adapter_with_convolution(folder: Path) -> Path:
    B, A = random_factors("conv", 8, 27, 4)
    more = {
        "stem.conv.lora_A.weight": A.reshape(4, 3, 3, 3),
        "stem.conv.lora_B.weight": B.reshape(8, 4, 1, 1),
    }
    return write_adapter(folder, more=more)


def adapter_with_fused_experts(folder: Path, **config: object) -> Path:
    """Attention, and four experts of rank 4: gate_up_proj (48, 24) and down_proj (24, 24)."""
    more = {}
    for suffix, (m, n) in ((".base_layer", (48, 24)), ("", (24, 24))):
        B, A = random_factors(f"experts{suffix}", m, n, 4 * 4)
        more |= {f"{EXPERTS}{suffix}.lora_A.weight": A, f"{EXPERTS}{suffix}.lora_B.weight": B}
    parameters = [f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj"]
    return write_adapter(folder, without="mlp", more=more, target_parameters=parameters, **config)


def adapter_with_split_experts(folder: Path, gap: bool = False) -> Path:
    """Attention, and four experts by name; with ``gap``, expert 2 has no up_proj."""
    more = {}
    for number in range(4):
        for leaf in ("gate_proj", "up_proj", "down_proj"):
            if gap and (number, leaf) == (2, "up_proj"):
                continue
            name = f"{EXPERTS}.{number}.{leaf}"
            B, A = random_factors(name, 24, 24, 4)
            more |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    return write_adapter(folder, without="mlp", more=more)


def adapter_of_rank_520(folder: Path) -> Path:
    B, A = random_factors("wide", 530, 540, 520)
    tensors = {"lm_head.lora_B.weight": B, "lm_head.lora_A.weight": A}
    return write_peft(folder, tensors, r=520, lora_alpha=1040)


# Image models

UNET = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (16, 16),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k": (16, 16),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (16, 20),
}


def kohya_file(folder: Path, alphas: list[float | None], ranks: tuple[int, ...] = (4, 4, 4)) -> Path:
    folder.mkdir(parents=True)
    tensors = {}
    for (name, (m, n)), alpha, r in zip(UNET.items(), alphas, ranks, strict=True):
        stem = "lora_unet_" + name.replace(".", "_")
        B, A = random_factors(name, m, n, r)
        tensors |= {f"{stem}.lora_down.weight": A, f"{stem}.lora_up.weight": B}
        if alpha is not None:
            tensors[f"{stem}.alpha"] = np.array(alpha, np.float32)
    save_file(tensors, folder / "k.safetensors")
    return folder / "k.safetensors"


def diffusers_file(
    folder: Path, bias: bool = False, ranks: tuple[int, ...] = (4, 4, 4), **fields: object
) -> Path:
    """Write a file in the format of diffusers; ``fields`` go into its metadata."""
    folder.mkdir(parents=True)
    tensors = {}
    for (name, (m, n)), r in zip(UNET.items(), ranks, strict=True):
        B, A = random_factors(name, m, n, r)
        tensors |= {f"unet.{name}.lora_A.weight": A, f"unet.{name}.lora_B.weight": B}
        if bias:
            tensors[f"unet.{name}.lora_B.bias"] = np.ones(m, np.float32)
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in fields.items()})}
    save_file(tensors, folder / "d.safetensors", metadata if fields else {"format": "pt"})
    return folder / "d.safetensors"


# Bases, and what lies in a written adapter


def write_base(folder: Path, vocabulary: int = 50, tied: bool = False, prefix: str = "") -> Path:
    """Write the base of `write_adapter`'s adapters, all zeros."""
    folder.mkdir()
    tensors = {f"{prefix}{name}.weight": np.zeros(shape_of(name), np.float32) for name in LAYERS}
    tensors[f"{prefix}{EMBEDDING}.weight"] = np.zeros((vocabulary, 24), np.float32)
    if not tied:
        tensors["lm_head.weight"] = np.zeros((vocabulary, 24), np.float32)
    save_file(tensors, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def bytes_of_zeros(path: Path) -> int:
    """Count the bytes of components that are zero in A and in B, and of modules that are all zeros."""
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    tensors, total = load_file(file), 0
    for key, A in tensors.items():
        for down, up in (("lora_A", "lora_B"), ("lora_down", "lora_up")):
            if key.endswith(f".{down}.weight"):
                B = tensors[key.replace(down, up)]
                empty = ~(A.reshape(len(A), -1).any(axis=1) | B.reshape(len(B), -1).any(axis=0))
                total += int(empty.sum()) * (A[0].size + len(B)) * A.itemsize
        if key.endswith(".lora_embedding_A"):
            B = tensors[key.replace("lora_embedding_A", "lora_embedding_B")]
            total += int((~A.any(axis=1)).sum()) * (A.shape[1] + len(B)) * A.itemsize
    return total
