"""Programs that load adapters, as data: how each computes the scale, and what it refuses or drops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from eckart.errors import UsageError

Scale = Literal["module", "global", "tensor", "file"]
Treatment = Literal["loads", "refuses", "drops"]


@dataclass(frozen=True)
class Consumer:
    """A program that loads adapters.

    Parameters
    ----------
    name, title : str
        As on the command line, and as its makers write it.
    source : str
        Project, file and commit or version that these facts were read in.
    formats : tuple of str
        Formats that it reads.
    scale : {"module", "global", "tensor", "file"}
        What it multiplies B A by. ``module``: alpha / r of that module, patterns honoured. ``global``:
        ``lora_alpha / r`` of the configuration, for every module. ``tensor``: ``lora_alpha`` of the
        configuration over the rank of the tensor, or its root for rsLoRA. ``file``: the alpha stored
        beside the tensors over their rank, and 1 where there is none.
    metadata : bool
        Whether an alpha in the file's metadata is read too (``lora_adapter_metadata`` of diffusers).
    one_alpha_in : tuple of str
        Formats that it reads right only where all modules have one alpha.
    rslora : bool
        Whether ``use_rslora`` is honoured.
    one_rank : bool
        Whether every module must have the configuration's ``r``.
    ranks : tuple of int
        The ranks that it computes right; empty for any.
    order : tuple of str
        Where only some ranks are right: the order in which it goes through the types of modules. The
        first is scaled by the configuration's rank, and the rest by the padded one.
    max_rank : int, optional
        The largest rank that it can be told to accept.
    limits : tuple of int
        Values of the option that sets the largest rank; empty if there is none.
    option : str
        That option.
    whole, bias, embeddings, conv : {"loads", "refuses", "drops"}
        What it does with ``modules_to_save``, ``lora_B.bias``, factors of embedding tables and of
        convolutions.
    heads : {"loads", "refuses", "drops"}
        What it does with factors of the output layer.
    exceptions : tuple of (str, {"loads", "refuses", "drops"})
        Regular expressions for the names of whole tensors with which it does something else.
    experts : {"fused", "split", "neither"}
        Which layout of mixture-of-experts layers it reads right: one stack of factors for a fused
        parameter, or factors for every expert by name.
    other_experts : {"refuses", "drops"}
        What it does with experts in a layout that it does not read.
    all_experts : bool
        Whether a layer's experts must all be there if one is.
    every_layer : bool
        Whether a type of module must be there in every layer or is dropped in all.
    needs : mapping of str to tuple of str
        Modules, by the last part of their names, that need others beside them.
    lists_targets : bool
        Whether ``target_modules`` must be a list, or PEFT's ``all-linear``.
    """

    name: str
    title: str
    source: str
    formats: tuple[str, ...] = ("peft",)
    scale: Scale = "module"
    metadata: bool = False
    one_alpha_in: tuple[str, ...] = ()
    rslora: bool = True
    one_rank: bool = False
    ranks: tuple[int, ...] = ()
    order: tuple[str, ...] = ()
    max_rank: int | None = None
    limits: tuple[int, ...] = ()
    option: str = ""
    whole: Treatment = "loads"
    bias: Treatment = "loads"
    embeddings: Treatment = "loads"
    conv: Treatment = "loads"
    heads: Treatment = "loads"
    exceptions: tuple[tuple[str, Treatment], ...] = ()
    experts: Literal["fused", "split", "neither"] = "fused"
    other_experts: Treatment = "drops"
    all_experts: bool = False
    every_layer: bool = False
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lists_targets: bool = False

    def whole_treatment(self, name: str) -> Treatment:
        """Return what it does with a whole tensor, or with new rows of one."""
        return next((t for pattern, t in self.exceptions if re.search(pattern, name)), self.whole)

    def padded(self, rank: int) -> int:
        """Return the rank that it pads to, where only some are computed right."""
        return next((r for r in self.ranks if r >= rank), rank)

    def limit_for(self, rank: int) -> int | None:
        """Return the least value of `option` that admits a rank; None if there is none."""
        return next((limit for limit in self.limits if limit >= rank), None)


VLLM_LIMITS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

CONSUMERS: dict[str, Consumer] = {
    c.name: c
    for c in (
        Consumer(
            "peft",
            "PEFT",
            "huggingface/peft 0.21.2: tuners/lora/layer.py, utils/other.py (get_pattern_key)",
        ),
        Consumer(
            "vllm",
            "vLLM",
            "vllm-project/vllm 0.33.0: vllm/lora/peft_helper.py, lora_model.py, model_manager.py",
            max_rank=512,
            limits=VLLM_LIMITS,
            option="--max-lora-rank",
            whole="refuses",
            exceptions=((r"(^|\.)(classifier|score)\.", "loads"),),
            bias="refuses",
            conv="refuses",
            # Fused ones want --enable-mixed-moe-lora-format and is_3d_lora_weight in the request.
            experts="split",
            other_experts="refuses",
        ),
        Consumer(
            "vllm-0.30",
            "vLLM 0.30",
            "vllm-project/vllm 0.30.0: vllm/lora/peft_helper.py, lora_model.py@0306474e, issue 59799",
            scale="global",
            max_rank=512,
            limits=VLLM_LIMITS,
            option="--max-lora-rank",
            whole="refuses",
            bias="refuses",
            conv="refuses",
            experts="split",
        ),
        Consumer(
            "sglang",
            "SGLang",
            "sgl-project/sglang 0.5.23: srt/lora/lora.py, lora_config.py, mem_pool.py, utils.py",
            scale="global",
            rslora=False,
            one_rank=True,
            option="--max-lora-rank",
            whole="drops",
            exceptions=((r"\.layers\.\d+\.", "refuses"),),  # a key in a layer has to be a target's
            bias="drops",
            conv="refuses",
            experts="split",
            other_experts="refuses",
            # It stacks q, k and v, taking zeros for k alone, and gate and up, taking zeros for up alone.
            needs={
                "q_proj": ("v_proj",),
                "v_proj": ("q_proj",),
                "k_proj": ("q_proj", "v_proj"),
                "up_proj": ("gate_proj",),
                "w3": ("w1",),
            },
            lists_targets=True,
        ),
        Consumer(
            "llama.cpp",
            "llama.cpp",
            "ggml-org/llama.cpp: convert_lora_to_gguf.py@0b03adaa, src/llama-adapter.h@215841fc",
            scale="tensor",
            rslora=False,
            whole="refuses",
            exceptions=((r"_layernorm|\.norm", "drops"),),  # converted, and ignored at run time
            other_experts="refuses",
            all_experts=True,
            bias="refuses",
            conv="refuses",
            experts="split",
        ),
        Consumer(
            "tgi",
            "TGI and LoRAX",
            "predibase/lorax: adapters/lora.py@03679f33; text-generation-inference copy@45d95bdc",
            scale="global",
            one_rank=True,
            # The rank is padded to 8 or a multiple of 16, and written back into the configuration
            # after the first type of module: from then on alpha is divided by the padded one.
            ranks=(8, 16, 32, 48, 64, 80, 96, 112, 128),
            order=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"),
            max_rank=128,
            whole="drops",
            bias="drops",
            embeddings="drops",
            conv="drops",
            experts="neither",
            every_layer=True,
        ),
        Consumer(
            "tensorrt-llm",
            "TensorRT-LLM",
            "NVIDIA/TensorRT-LLM: tensorrt_llm/lora_manager.py@007e181b (load_from_hf)",
            scale="tensor",
            whole="refuses",
            exceptions=((r"lm_head|embed_tokens", "drops"),),
            bias="refuses",
            embeddings="drops",
            heads="drops",
            conv="drops",
            experts="neither",
            other_experts="refuses",
            option="max_lora_rank",
        ),
        Consumer(
            "diffusers",
            "diffusers",
            "huggingface/diffusers 0.42.1: loaders/peft.py, lora_conversion_utils.py, pull request 14409",
            formats=("diffusers", "kohya"),
            scale="file",
            metadata=True,
            one_alpha_in=("kohya",),
            whole="drops",
            experts="neither",
        ),
        Consumer(
            "comfyui",
            "ComfyUI",
            "Comfy-Org/ComfyUI: comfy/weight_adapter/lora.py@6f98b150, comfy/lora.py@17358c8f",
            formats=("kohya", "diffusers"),
            scale="file",
            whole="drops",
            bias="drops",
            embeddings="drops",
            experts="neither",
        ),
    )
}

ALIASES = {"lorax": "tgi", "llamacpp": "llama.cpp", "trt-llm": "tensorrt-llm", "a1111": "comfyui"}


def consumers_named(names: str | Iterable[str]) -> list[Consumer]:
    """Return consumers by their names: ``"vllm,llama.cpp"`` or a sequence of names.

    Examples
    --------
    >>> [c.title for c in consumers_named("vllm,lorax")]
    ['vLLM', 'TGI and LoRAX']
    """
    parts = names.split(",") if isinstance(names, str) else [p for n in names for p in n.split(",")]
    found: list[Consumer] = []
    for part in (p.strip().lower() for p in parts):
        name = ALIASES.get(part, part)
        if not name:
            continue
        if name not in CONSUMERS:
            raise UsageError(
                f"--for {part}", f"expected some of {', '.join(CONSUMERS)}", "Part them by commas"
            )
        if CONSUMERS[name] not in found:
            found.append(CONSUMERS[name])
    return found
