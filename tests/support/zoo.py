"""Adapters that PEFT itself writes, for tiny models that are built from their configurations.

Every factor, bias and copied module is drawn at random, because PEFT starts B at zero. `dense` is an
independent reader of a folder: it reads the two files as PEFT's documentation describes them and multiplies
in float64, module by module.
"""

from __future__ import annotations

import atexit
import copy
import json
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from support.tuned_models import (
    MIXED,
    PREFIX,
    TIED,
    TOKENS,
    bert,
    gpt2,
    llama,
    load_file,
    load_peft,
    peft,
    tied_llama,
    torch,
    transformers,
)

transformers.utils.logging.disable_progress_bar()

# PEFT applies rank_pattern to parameters too, and yet warns that it did not.
SPURIOUS = "The following (rank|alpha)_pattern keys did not match"
# PEFT mistakes the vectors of `lora_bias` for shards of matrices.
VECTORS = r"Adapter 'default': \d+ LoRA tensor\(s\) have invalid shape"


class ConvNet(torch.nn.Module):
    """Two convolutions, 3 x 3 and 1 x 1, and a linear layer; not a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(8, 6, 1), torch.nn.Tanh()
        )
        self.head = torch.nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.body(x).mean((-1, -2)))


def _experts(**more) -> dict[str, Any]:
    return (
        dict(
            vocab_size=TOKENS,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=16,
            num_experts_per_tok=2,
        )
        | more
    )


def mixtral():
    config = transformers.MixtralConfig(**_experts(num_local_experts=4, intermediate_size=20))
    return transformers.MixtralForCausalLM(config)


def qwen3_moe():
    config = _experts(num_experts=3, moe_intermediate_size=16, head_dim=12)
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**config))


def gpt_oss():
    """Experts stored as (experts, d_in, d_out)."""
    config = _experts(
        num_local_experts=3,
        intermediate_size=20,
        head_dim=12,
        num_hidden_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return transformers.GptOssForCausalLM(transformers.GptOssConfig(**config))


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]

# name: model, settings of LoraConfig, warnings of PEFT that the test ignores
ZOO: dict[str, tuple[Callable, dict[str, Any], tuple[str, ...]]] = {
    "bert": (
        bert,
        dict(
            r=4,
            lora_alpha=6,
            target_modules=["query", "value", "intermediate.dense"],
            modules_to_save=["classifier"],
        ),
        (),
    ),
    "bert SEQ_CLS": (bert, dict(r=3, lora_alpha=3, target_modules=["key"], task_type="SEQ_CLS"), ()),
    "bert biases": (bert, dict(r=3, lora_alpha=7, target_modules=["query"], bias="all"), ()),
    "gpt2": (
        gpt2,
        dict(r=5, lora_alpha=7, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
        (),
    ),
    "llama": (llama, dict(r=4, lora_alpha=8, target_modules="all-linear"), ()),
    "llama rsLoRA": (
        llama,
        dict(r=6, lora_alpha=4, target_modules=["q_proj", "down_proj"], use_rslora=True),
        (),
    ),
    "llama patterns": (
        llama,
        dict(
            r=4,
            lora_alpha=6,
            target_modules=["q_proj", "up_proj", "v_proj"],
            rank_pattern={"layers.1.mlp.up_proj": 7, r"layers\.\d.self_attn.v_proj": 2},
            alpha_pattern={"q_proj": 11, r".*\.1\.mlp\.up_proj": 3},
        ),
        (),
    ),
    "llama patterns rsLoRA": (
        llama,
        dict(
            r=4,
            lora_alpha=6,
            target_modules=["q_proj", "up_proj"],
            rank_pattern={"up_proj": 9},
            alpha_pattern={"up_proj": 2},
            use_rslora=True,
        ),
        (),
    ),
    "llama embeddings": (
        llama,
        dict(r=3, lora_alpha=5, target_modules=["embed_tokens", "lm_head", "q_proj"]),
        (),
    ),
    "llama tables": (
        llama,
        dict(r=3, lora_alpha=5, target_modules=["embed_tokens", "lm_head", "q_proj"], save=True),
        (),
    ),
    "llama tied layers": (
        tied_llama,
        dict(r=3, lora_alpha=5, target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True),
        (),
    ),
    "llama rows": (
        llama,
        dict(r=3, lora_alpha=5, target_modules=["q_proj"], trainable_token_indices=[1, 3, 5]),
        (),
    ),
    "llama tied rows": (
        tied_llama,
        dict(r=3, lora_alpha=5, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [2, 4]}),
        (),
    ),
    "llama lora_bias": (
        lambda: llama(attention_bias=True),
        dict(r=3, lora_alpha=5, target_modules=QKVO, lora_bias=True),
        (),
    ),
    "llama a layer": (llama, dict(r=3, lora_alpha=5, target_modules=["q_proj"], layers_to_transform=[1]), ()),
    "llama but one": (
        llama,
        dict(r=3, lora_alpha=5, target_modules="all-linear", exclude_modules=["q_proj"]),
        (),
    ),
    "mixtral": (
        mixtral,
        dict(
            r=3,
            lora_alpha=5,
            target_modules=["q_proj", "o_proj"],
            target_parameters=EXPERTS,
            rank_pattern={"mlp.experts.down_proj": 2},
            alpha_pattern={"mlp.experts.down_proj": 7},
        ),
        (SPURIOUS,),
    ),
    "mixtral rsLoRA": (
        mixtral,
        dict(r=3, lora_alpha=2, target_modules=["v_proj"], target_parameters=EXPERTS, use_rslora=True),
        (),
    ),
    "mixtral one parameter": (
        mixtral,
        dict(r=2, lora_alpha=3, target_modules=["v_proj"], target_parameters=["mlp.experts.down_proj"]),
        (),
    ),
    "qwen3 moe": (qwen3_moe, dict(r=2, lora_alpha=5, target_modules=QKVO, target_parameters=EXPERTS), ()),
    "qwen3 moe router": (
        qwen3_moe,
        dict(r=2, lora_alpha=5, target_modules=["q_proj"], target_parameters=["mlp.gate.weight"]),
        (),
    ),
    "gpt_oss": (gpt_oss, dict(r=2, lora_alpha=3, target_modules=["q_proj"], target_parameters=EXPERTS), ()),
    "conv": (ConvNet, dict(r=4, lora_alpha=6, target_modules=["body.0", "body.2", "head"]), ()),
}

MOE = [name for name in ZOO if "mixtral" in name or "moe" in name or "oss" in name]

_FOLDER = Path(tempfile.mkdtemp(prefix="zoo-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


@dataclass(frozen=True)
class PeftCase:
    """A base and an adapter on disk, both in float32, and what PEFT computes with them."""

    name: str
    base: Path
    adapter: Path
    model: torch.nn.Module
    allowed: tuple[str, ...]

    def fresh_base(self) -> torch.nn.Module:
        return copy.deepcopy(self.model)

    def loaded(self, adapter: Path | None = None):
        """Return the base with an adapter, as PEFT loads it; fail on a missing or unexpected key."""
        return load_peft(self.fresh_base(), adapter or self.adapter, MIXED, TIED, SPURIOUS, *self.allowed)

    @torch.no_grad()
    def outputs(self, model: torch.nn.Module) -> torch.Tensor:
        generator = torch.Generator().manual_seed(7)
        if isinstance(self.model, ConvNet):
            return model(torch.randn((3, 3, 6, 7), generator=generator))
        return model(input_ids=torch.randint(0, TOKENS, (3, 11), generator=generator)).logits

    def merged(self, adapter: Path | None = None, dtype: torch.dtype = torch.float32) -> dict:
        """Return the weights that `merge_and_unload` computes, by name."""
        model = self.fresh_base().to(dtype)
        loaded = load_peft(model, adapter or self.adapter, MIXED, TIED, SPURIOUS, *self.allowed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Model with `tie_word_embeddings=True`")
            merged = loaded.merge_and_unload()
        return {k: v.detach().clone() for k, v in merged.state_dict().items()}


@cache
def case_of(name: str) -> PeftCase:
    """Build a base, let PEFT create an adapter for it, draw its numbers, and save both."""
    build, settings, allowed = ZOO[name]
    torch.manual_seed(sum(map(ord, name)))
    model = build().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.02 * torch.randn(parameter.shape)
    folder = _FOLDER / name.replace(" ", "-")
    save_base(model, folder / "base")
    make_adapter(model, folder / "adapter", allowed=allowed, **settings)
    return PeftCase(name, folder / "base", folder / "adapter", model, allowed)


def save_base(model: torch.nn.Module, folder: Path, **options) -> Path:
    """Write the checkpoint of a model of any kind."""
    if isinstance(model, ConvNet):
        from safetensors.torch import save_file

        folder.mkdir(parents=True)
        save_file(model.state_dict(), folder / "model.safetensors")
    else:
        model.save_pretrained(folder, **options)
    return folder


def make_adapter(
    model, folder: Path, *, seed: int = 0, save: bool = False, allowed: tuple[str, ...] = (), **settings
) -> Path:
    """Let PEFT wrap a copy of a model, draw every trainable number at random, and let PEFT save it."""
    with warnings.catch_warnings():
        for message in (
            MIXED,
            TIED,
            SPURIOUS,
            VECTORS,
            *allowed,
            ".is_gradient_checkpointing. is deprecated",
        ):
            warnings.filterwarnings("ignore", message)
        wrapped = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**settings))
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                size = 0.3 if "lora_" in key else 0.05
                parameter.data += size * torch.randn(parameter.shape, generator=generator)
        wrapped.save_pretrained(folder, save_embedding_layers=save)
    return folder


# --- an independent reader ---


def _value(pattern: dict[str, Any], name: str, default: Any) -> Any:
    """Look up a pattern as PEFT documents it: the first key that matches an end of the name."""
    return next((v for k, v in pattern.items() if re.match(rf"(.*\.)?({k})$", name)), default)


def dense(folder: Path) -> dict[str, np.ndarray]:
    """Return scale * B A of every module in float64, computed from the files alone.

    The shape is (d_out, d_in), with the experts as the first axis, or (d_out, d_in * window) for a
    convolution. A bias is returned as ``name.bias``.
    """
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = {
        key.removeprefix(PREFIX): value.double().numpy()
        for key, value in load_file(folder / "adapter_model.safetensors").items()
    }
    targets = config.get("target_parameters") or []
    updates: dict[str, np.ndarray] = {}
    for key, A in tensors.items():
        if not key.endswith((".lora_A.weight", ".lora_embedding_A")):
            continue
        name = key.removesuffix(".lora_A.weight").removesuffix(".lora_embedding_A")
        B = tensors[key.replace("lora_A", "lora_B").replace("lora_embedding_A", "lora_embedding_B")]
        path = name.removesuffix(".base_layer")
        # transformers registers gate_up_proj before down_proj, and PEFT wraps in that order: the last is the
        # outermost.
        leaves = [
            leaf
            for leaf in ("gate_up_proj", "down_proj", "weight")
            if any(f"{path}.{leaf}".endswith(t) for t in targets)
        ]
        full = path
        if leaves:
            full = f"{path}.{leaves[0] if name != path or len(leaves) == 1 else leaves[1]}"
        rank = _value(config["rank_pattern"], full, config["r"])
        alpha = _value(config["alpha_pattern"], full, config["lora_alpha"])
        scale = alpha / math.sqrt(rank) if config["use_rslora"] else alpha / rank
        if leaves and not full.endswith(".weight"):
            A = A.reshape(-1, rank, A.shape[-1])
            B = B.reshape(len(B), rank, -1)
            updates[full] = scale * np.einsum("ore,eri->eoi", B, A)
            continue
        assert len(A) == rank, full
        updates[path] = scale * B.reshape(len(B), -1) @ A.reshape(len(A), -1)
        bias = tensors.get(f"{path}.lora_B.bias")
        if bias is not None:
            updates[f"{path}.bias"] = scale * bias
    assert updates
    return updates


def matrices(folder: Path) -> dict[str, np.ndarray]:
    """Return `dense` with each expert as a matrix, ``name[3]``, and without biases."""
    updates: dict[str, np.ndarray] = {}
    for name, update in dense(folder).items():
        if update.ndim == 3:
            updates |= {f"{name}[{e}]": part for e, part in enumerate(update)}
        elif update.ndim == 2:
            updates[name] = update
    return updates


def cut(update: np.ndarray, rank: int) -> np.ndarray:
    """Return the best approximation of a given rank, by NumPy's SVD in float64 (Eckart and Young, 1936)."""
    U, s, Vh = np.linalg.svd(update, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ Vh[:rank]


def distance(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Return ||ours - theirs||_F / ||theirs||_F over all modules; a module that one lacks counts as zero."""
    gap = whole = 0.0
    for name in ours.keys() | theirs.keys():
        a, b = ours.get(name, 0.0), theirs.get(name, 0.0)
        gap += float(np.square(np.asarray(a) - b).sum())
        whole += float(np.square(b).sum())
    return math.sqrt(gap / whole)


def same_outputs(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 3e-5) -> None:
    """Assert that outputs agree relative to the largest: 3e-5 is a few hundred roundings of float32."""
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def json_of(folder: Path) -> dict[str, Any]:
    """Return an adapter's configuration."""
    return json.loads((folder / "adapter_config.json").read_text())
