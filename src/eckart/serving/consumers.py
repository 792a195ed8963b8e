"""The programs that load adapters, as data with sources, and how to look them up by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from eckart.adapter.experts import ExpertsLayout
from eckart.adapter.formats.registry import readable_formats
from eckart.arguments import argument
from eckart.errors import UsageError
from eckart.serving.consumer import Consumer, Scaling, Treatment

ConsumerNames = str | Sequence[str]  # "vllm,llama.cpp" or ["vllm", "llama.cpp"]

VLLM_LIMITS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

CONSUMERS: dict[str, Consumer] = {
    c.name: c
    for c in (
        Consumer(
            "peft",
            "PEFT",
            "huggingface/peft 0.21.2: tuners/lora/layer.py, utils/other.py (get_pattern_key)",
            whole=Treatment.LOADS,
            bias=Treatment.LOADS,
            embeddings=Treatment.LOADS,
            conv=Treatment.LOADS,
            heads=Treatment.LOADS,
            experts=ExpertsLayout.FUSED,
            other_experts=Treatment.DROPS,
            one_rank_per_stack=True,
        ),
        Consumer(
            "vllm",
            "vLLM",
            "vllm-project/vllm 0.33.0: vllm/lora/peft_helper.py, lora_model.py, model_manager.py",
            whole=Treatment.REFUSES,
            bias=Treatment.REFUSES,
            embeddings=Treatment.LOADS,
            conv=Treatment.REFUSES,
            heads=Treatment.LOADS,
            # Fused experts need --enable-mixed-moe-lora-format, and is_3d_lora_weight in the request.
            experts=ExpertsLayout.SPLIT,
            other_experts=Treatment.REFUSES,
            max_rank=512,
            limits=VLLM_LIMITS,
            option="--max-lora-rank",
            exceptions=((r"(^|\.)(classifier|score)\.", Treatment.LOADS),),
        ),
        Consumer(
            "vllm-0.30",
            "vLLM 0.30",
            "vllm-project/vllm 0.30.0: vllm/lora/peft_helper.py, lora_model.py@0306474e, issue 59799",
            whole=Treatment.REFUSES,
            bias=Treatment.REFUSES,
            embeddings=Treatment.LOADS,
            conv=Treatment.REFUSES,
            heads=Treatment.LOADS,
            experts=ExpertsLayout.SPLIT,
            other_experts=Treatment.DROPS,
            scale=Scaling.GLOBAL,
            max_rank=512,
            limits=VLLM_LIMITS,
            option="--max-lora-rank",
        ),
        Consumer(
            "sglang",
            "SGLang",
            "sgl-project/sglang 0.5.23: srt/lora/lora.py, lora_config.py, mem_pool.py, utils.py",
            whole=Treatment.DROPS,
            bias=Treatment.DROPS,
            embeddings=Treatment.LOADS,
            conv=Treatment.REFUSES,
            heads=Treatment.LOADS,
            experts=ExpertsLayout.SPLIT,
            other_experts=Treatment.REFUSES,
            scale=Scaling.GLOBAL,
            rslora=False,
            one_rank=True,
            option="--max-lora-rank",
            exceptions=((r"\.layers\.\d+\.", Treatment.REFUSES),),  # a key in a layer must belong to a target
            # It stacks q, k and v, and gate and up. Zeros replace only a missing k and a missing up.
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
            whole=Treatment.REFUSES,
            bias=Treatment.REFUSES,
            embeddings=Treatment.LOADS,
            conv=Treatment.REFUSES,
            heads=Treatment.LOADS,
            experts=ExpertsLayout.SPLIT,
            other_experts=Treatment.REFUSES,
            scale=Scaling.TENSOR,
            rslora=False,
            exceptions=((r"_layernorm|\.norm", Treatment.DROPS),),  # converted, then ignored at run time
            all_experts=True,
        ),
        Consumer(
            "tgi",
            "TGI and LoRAX",
            "predibase/lorax: adapters/lora.py@03679f33; text-generation-inference copy@45d95bdc",
            whole=Treatment.DROPS,
            bias=Treatment.DROPS,
            embeddings=Treatment.DROPS,
            conv=Treatment.DROPS,
            heads=Treatment.LOADS,
            experts=None,
            other_experts=Treatment.DROPS,
            scale=Scaling.GLOBAL,
            one_rank=True,
            # It pads the rank to 8 or a multiple of 16, and writes that back into the configuration after
            # the first type of module: for all later types, alpha is divided by the padded rank.
            ranks=(8, 16, 32, 48, 64, 80, 96, 112, 128),
            order=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"),
            max_rank=128,
            every_layer=True,
        ),
        Consumer(
            "tensorrt-llm",
            "TensorRT-LLM",
            "NVIDIA/TensorRT-LLM: tensorrt_llm/lora_manager.py@007e181b (load_from_hf)",
            whole=Treatment.REFUSES,
            bias=Treatment.REFUSES,
            embeddings=Treatment.DROPS,
            conv=Treatment.DROPS,
            heads=Treatment.DROPS,
            experts=None,
            other_experts=Treatment.REFUSES,
            scale=Scaling.TENSOR,
            exceptions=((r"lm_head|embed_tokens", Treatment.DROPS),),
            option="max_lora_rank",
        ),
        Consumer(
            "diffusers",
            "diffusers",
            "huggingface/diffusers 0.42.1: loaders/peft.py, lora_conversion_utils.py, pull request 14409",
            whole=Treatment.DROPS,
            bias=Treatment.LOADS,
            embeddings=Treatment.LOADS,
            conv=Treatment.LOADS,
            heads=Treatment.LOADS,
            experts=None,
            other_experts=Treatment.DROPS,
            formats=("diffusers", "kohya"),
            scale=Scaling.FILE,
            metadata=True,
            one_alpha_in=("kohya",),
        ),
        Consumer(
            "comfyui",
            "ComfyUI",
            "Comfy-Org/ComfyUI: comfy/weight_adapter/lora.py@6f98b150, comfy/lora.py@17358c8f",
            whole=Treatment.DROPS,
            bias=Treatment.DROPS,
            embeddings=Treatment.DROPS,
            conv=Treatment.LOADS,
            heads=Treatment.LOADS,
            experts=None,
            other_experts=Treatment.DROPS,
            formats=("kohya", "diffusers"),
            scale=Scaling.FILE,
        ),
    )
}

ALIASES = {"lorax": "tgi", "llamacpp": "llama.cpp", "trt-llm": "tensorrt-llm", "a1111": "comfyui"}


def consumers_named(names: str | Iterable[str]) -> list[Consumer]:
    """Return consumers by their names.

    Parameters
    ----------
    names : str or iterable of str
        ``"vllm,llama.cpp"`` or ``["vllm", "llama.cpp"]``; aliases and capitals are accepted.

    Returns
    -------
    list of Consumer
        In the given order, each once.

    Raises
    ------
    UsageError
        If a name is not known.

    Examples
    --------
    >>> [c.title for c in consumers_named("vllm,lorax")]
    ['vLLM', 'TGI and LoRAX']
    """
    texts = [names] if isinstance(names, str) else names
    consumers: list[Consumer] = []
    for given in (part.strip().lower() for text in texts for part in text.split(",")):
        name = ALIASES.get(given, given)
        if not name:
            continue
        if name not in CONSUMERS:
            raise _unknown(given)
        if CONSUMERS[name] not in consumers:
            consumers.append(CONSUMERS[name])
    return consumers


def _unknown(name: str) -> UsageError:
    """Return the error for a name that is no program's. A format is a common mistake, so it is explained."""
    where = argument("consumers", name)
    if name in readable_formats():
        readers = [c.name for c in CONSUMERS.values() if name in c.formats]
        fix = f"Use {argument('consumers', readers[0])}, which reads it" if readers else ""
        return UsageError(where, f"{name} is a file format; expected the name of a program", fix)
    close = difflib.get_close_matches(name, [*CONSUMERS, *ALIASES], n=1)
    fix = f"Use {argument('consumers', close[0])}" if close else "Separate several names by commas"
    return UsageError(where, f"expected some of {', '.join(CONSUMERS)}", fix)


def common_formats(consumers: Sequence[Consumer]) -> list[str]:
    """Return the formats that every consumer reads, in the first one's order of preference.

    Raises
    ------
    UsageError
        If there is none.
    """
    common = [f for f in consumers[0].formats if all(f in c.formats for c in consumers)]
    if not common:
        readers = "; ".join(f"{c.title} reads {' and '.join(c.formats)}" for c in consumers)
        raise UsageError(
            argument("consumers"), f"no format is read by all: {readers}", "Write one adapter for each format"
        )
    return common
