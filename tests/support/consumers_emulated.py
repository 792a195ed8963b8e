"""Independent implementations of how each program turns an adapter's files into updates.

They are written from the programs' own sources, cited above each function, and use nothing of Eckart: files
are read with safetensors, configurations with json. Each function takes a path and returns the dense update
of every module by name, in the orientation (d_out, d_in), or raises `Refused`. Modules that the program
silently drops are not in the result.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

PREFIX = "base_model.model."
Updates = dict[str, np.ndarray]


class Refused(Exception):
    """The program stops with an error instead of loading the adapter."""


class Unknown(Exception):
    """What the program computes is not known."""


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return file.metadata() or {}


def read_folder(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    config = json.loads((Path(folder) / "adapter_config.json").read_text())
    return config, tensors_of(Path(folder) / "adapter_model.safetensors")


def product(B: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Return B A in float64, with the window of a convolution flattened into the columns."""
    B, A = B.astype(np.float64), A.astype(np.float64)
    return B.reshape(len(B), -1) @ A.reshape(len(A), -1)


def pairs(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (B, A) by name, of linear layers and convolutions."""
    end = ".lora_A.weight"
    names = [key.removesuffix(end) for key in tensors if key.endswith(end)]
    return {n.removeprefix(PREFIX): (tensors[f"{n}.lora_B.weight"], tensors[n + end]) for n in names}


def embedding_pairs(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    end = ".lora_embedding_A"
    names = [key.removesuffix(end) for key in tensors if key.endswith(end)]
    return {n.removeprefix(PREFIX): (tensors[f"{n}.lora_embedding_B"], tensors[n + end]) for n in names}


def from_pattern(pattern: Mapping[str, float] | None, name: str, default: float) -> float:
    """Do as PEFT's get_pattern_key: take the first expression that matches the end of the name."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


def split_names(updates: Updates) -> Updates:
    """Return the same updates, with fused parameters of experts split into gate, up and down by name."""
    split: Updates = {}
    for name, update in updates.items():
        fused = re.fullmatch(r"(.+)\.(gate_up_proj|down_proj)\[(\d+)\]", name)
        if fused is None:
            split[name] = update
        elif fused[2] == "down_proj":
            split[f"{fused[1]}.{fused[3]}.down_proj"] = update
        else:
            half = len(update) // 2
            split[f"{fused[1]}.{fused[3]}.gate_proj"] = update[:half]
            split[f"{fused[1]}.{fused[3]}.up_proj"] = update[half:]
    return split


def is_fused(name: str) -> bool:
    return name.endswith((".experts", ".experts.base_layer"))


# PEFT: tuners/lora/layer.py (update_layer, ParamWrapper.get_delta_weight), utils/other.py


def peft(folder: Path) -> Updates:
    config, tensors = read_folder(folder)
    parameters = config.get("target_parameters") or []
    updates: Updates = {}
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if is_fused(name):
            updates |= _stack(name, B, A, parameters, config)
            continue
        r = from_pattern(config.get("rank_pattern"), name, config["r"])
        if A.shape[0] != r:
            raise Refused(f"size mismatch for {name}: {A.shape[0]} in the file, {r} in the model")
        updates[name] = _peft_scale(config, name, r) * product(B, A)
    return updates


def _peft_scale(config: dict, name: str, r: int) -> float:
    alpha = from_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
    return alpha / math.sqrt(r) if config.get("use_rslora") else alpha / r


def _stack(name: str, B: np.ndarray, A: np.ndarray, parameters: list[str], config: dict) -> Updates:
    """Split a stack: A holds one expert after the other, in B the number of the expert varies fastest."""
    path = name.removesuffix(".base_layer")
    leaf = "gate_up_proj" if name.endswith(".base_layer") or len(parameters) == 1 else "down_proj"
    if len(parameters) == 1:
        leaf = parameters[0].rpartition(".")[2]
    full = f"{path}.{leaf}"
    r = int(from_pattern(config.get("rank_pattern"), full, config["r"]))
    scale, count = _peft_scale(config, full, r), len(A) // r
    A3, B3 = A.reshape(count, r, -1), B.reshape(len(B), r, count)
    return {f"{full}[{e}]": scale * product(B3[:, :, e], A3[e]) for e in range(count)}


# vLLM 0.33: lora/peft_helper.py (get_rank_and_scaling, validate_legal), lora/lora_model.py,
# lora/utils.py (parse_fine_tuned_lora_name), model_manager.py (_validate_moe_lora_format), config/lora.py

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
HEADS = ("classifier", "score")


def vllm(folder: Path) -> Updates:
    config, tensors = read_folder(folder)
    if set(config.get("modules_to_save") or []) - set(HEADS):
        raise Refused("vLLM only supports modules_to_save being either None or classifier, score")
    if config.get("lora_bias") or config.get("bias", "none") != "none":
        raise Refused("Adapter bias is not supported")
    pattern = config.get("rank_pattern") or {}
    if max([config["r"], *pattern.values()]) > VLLM_RANKS[-1]:
        raise Refused("LoRA rank is greater than max_lora_rank")
    updates: Updates = {}
    for key in tensors:
        if key.endswith((".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")):
            continue
        if re.fullmatch(r".*\.(lora_[AB]\.weight|lora_embedding_[AB])", key):
            continue
        if key.split(".")[-2] not in HEADS:
            raise Refused(f"{key} is unsupported LoRA weight")
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if A.ndim > 2:
            raise Refused(f"expected target modules, but received {name}")  # convolutions are not wrapped
        if is_fused(name):
            raise Refused(f"contains fused 3D MoE weights for {name}")
        r = from_pattern(pattern, name, config["r"])
        alpha = from_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
        updates[name] = alpha / (math.sqrt(r) if config.get("use_rslora") else r) * product(B, A)
    return updates


# vLLM 0.30: the same files; patterns are not read


def vllm_030(folder: Path) -> Updates:
    config, tensors = read_folder(folder)
    if config.get("modules_to_save"):
        raise Refused("vLLM only supports modules_to_save being None")
    if config.get("bias", "none") != "none":
        raise Refused("Adapter bias is not supported")
    limit = next((rank for rank in VLLM_RANKS if rank >= config["r"]), None)
    if limit is None:
        raise Refused(f"LoRA rank {config['r']} is greater than max_lora_rank")
    for key in tensors:
        if not re.fullmatch(r".*\.(lora_[AB]\.weight|lora_embedding_[AB])", key):
            raise Refused(f"{key} is unsupported LoRA weight")
    root = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    updates: Updates = {}
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if A.ndim > 2:
            raise Refused(f"expected target modules, but received {name}")  # convolutions are not wrapped
        if len(A) > limit and not is_fused(name):
            raise Refused(f"{name}: rank {len(A)} does not fit the buffer of {limit}")
        if is_fused(name):
            continue  # vllm-project/vllm#41384: the 3-D layout is silently skipped
        updates[name] = config["lora_alpha"] / root * product(B, A)
    return updates


# SGLang 0.5.23: srt/lora/lora.py (scaling, normalize_qkv_proj, normalize_gate_up_proj), lora_config.py,
# utils.py (get_normalized_target_modules, get_target_module_name), mem_pool.py (buffer shapes)

SGLANG_NEEDS = {
    "q_proj": {"v_proj"},
    "v_proj": {"q_proj"},
    "k_proj": {"q_proj", "v_proj"},
    "up_proj": {"gate_proj"},
}


def sglang(folder: Path) -> Updates:
    config, tensors = read_folder(folder)
    if isinstance(config["target_modules"], str) and config["target_modules"] not in ("all", "all-linear"):
        raise Refused("Only 'all' or 'all-linear' can be used as the string for target module")
    for key in tensors:
        if ".layers." in key and ".lora_" not in key:
            raise Refused(f"Cannot find target module name for {key}")
    updates: Updates = {}
    stacks: dict[str, set[str]] = defaultdict(set)
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if is_fused(name):
            raise Refused(f"Cannot find target module name for {name}")
        if A.ndim > 2:
            raise Refused(f"No corresponding LoRA layer supported for {name}")
        if len(A) != config["r"]:
            raise Refused(f"LoRA buffer of rank {config['r']} does not match {name}, {len(A)}")
        path, _, leaf = name.rpartition(".")
        stacks[path].add(leaf)
        updates[name] = config["lora_alpha"] / config["r"] * product(B, A)
    for path, leaves in stacks.items():
        for leaf in leaves:
            if not SGLANG_NEEDS.get(leaf, set()) <= leaves:
                raise Refused(f"KeyError: {path}, next to {leaf}")
    return updates


# llama.cpp: convert_lora_to_gguf.py (get_tensors), src/llama-adapter.h (get_scale)


def llama_cpp(folder: Path) -> Updates:
    config, tensors = read_folder(folder)
    for key in tensors:
        if ".lora_A.weight" in key or ".lora_B.weight" in key or ".lora_embedding_" in key:
            continue
        if "_layernorm" in key or ".norm" in key:
            continue  # written to the GGUF file, then ignored on loading
        raise Refused(f"Unexpected name '{key}': Not a lora_A or lora_B tensor")
    updates: Updates = {}
    experts: dict[str, dict[int, set[tuple[str, int]]]] = defaultdict(lambda: defaultdict(set))
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if A.ndim > 2:
            raise Refused(f"assert A.shape[-2] == B.shape[-1]: {name}")
        if is_fused(name):
            raise Refused(f"Can not map tensor {name}")
        updates[name] = np.float32(config["lora_alpha"]) / len(A) * product(B, A)
        expert = re.fullmatch(r"(.+\.experts)\.(\d+)\.(\w+)", name)
        if expert:
            experts[expert[1]][int(expert[2])].add((expert[3], len(A)))
    for path, by_number in experts.items():  # the converter stacks all experts of a layer, or stops
        same = len({frozenset(leaves) for leaves in by_number.values()}) == 1
        if (
            not same
            or set(by_number) != set(range(max(by_number) + 1))
            or len(next(iter(by_number.values()))) != 3
        ):
            raise Refused(f"Unprocessed experts: {path}")
    return updates


# LoRAX, and its copy in text-generation-inference: adapters/lora.py (LoraWeights.load), utils/sgmv.py

TGI_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")


def tgi(folder: Path, layers: int | None = None) -> Updates:
    config, tensors = read_folder(folder)
    factors = pairs(tensors)
    numbered = [int(m[1]) for name in factors if (m := re.search(r"\.layers\.(\d+)\.", name))]
    count = layers or 1 + max(numbered, default=0)
    updates: Updates = {}
    r = config["r"]
    for leaf in TGI_ORDER:
        block = "self_attn" if leaf in TGI_ORDER[:4] else "mlp"
        names = [f"model.layers.{i}.{block}.{leaf}" for i in range(count)]
        names = ["lm_head"] if leaf == "lm_head" else names
        if any(name not in factors for name in names):
            continue  # the program returns None here: this type of module gets no update at all
        scale = config["lora_alpha"] / (r**0.5 if config.get("use_rslora") else r)
        padded = {_padded(len(factors[name][1])) for name in names}
        if len(padded) > 1:
            raise Refused(f"stack expects each tensor to be equal size: {leaf}, {sorted(padded)}")
        updates |= {name: scale * product(*factors[name]) for name in names}
        (r,) = padded  # config.r = padded_rank, which the next type reads
    return updates


def _padded(rank: int) -> int:
    return 8 if rank <= 8 else -(-rank // 16) * 16


# TensorRT-LLM: lora_manager.py (HF_LORA_PATTERN, iterate_hf_lora, load_from_hf)

_TRT_KEY = re.compile(r"(.*)\.(\d+)\.(\w+)\.(\w+|\w+\.\w+|(\w+)\.(\d+)\.(\w+))\.lora_(A|B)\.weight")
_TRT_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_TRT_MLP = {"gate_proj", "down_proj", "up_proj", "gate_up_proj", "w1", "w2", "w3", "gate"}


def tensorrt_llm(folder: Path) -> Updates:
    config, tensors = read_folder(folder)
    for key in tensors:
        matched = _TRT_KEY.match(key)
        if not matched:
            if "lm_head" not in key and "embed_tokens" not in key:
                raise Refused(f"unsupported key {key} from HF LoRA weights")
            continue
        module = matched[7] or matched[4]
        if module not in _TRT_ATTENTION | _TRT_MLP:
            raise Refused(f"hf_module {module} is not in supported list")
    updates: Updates = {}
    for name, (B, A) in pairs(tensors).items():
        if not _TRT_KEY.match(f"{PREFIX}{name}.lora_A.weight"):
            continue  # lm_head
        r = len(A)  # effective_rank: the rank of the tensor itself
        root = math.sqrt(r) if config.get("use_rslora") else r
        updates[name] = config["lora_alpha"] / root * product(B, A)
    return updates


# Files of image models. Names are flattened (`down_blocks_0_attn_to_q`), which makes formats comparable.


def _image_pairs(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, float | None]]:
    """Return B, A and the alpha stored next to them, by the name in the file."""
    tensors = tensors_of(path)
    factors = {}
    for key, A in tensors.items():
        for down, up in ((".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")):
            if key.endswith(down):
                stem = key.removesuffix(down)
                alpha = tensors.get(f"{stem}.alpha")
                factors[stem] = tensors[stem + up], A, None if alpha is None else float(alpha)
    return factors


def flat(name: str) -> str:
    for prefix in ("lora_unet_", "unet.", "transformer.", "diffusion_model."):
        if name.startswith(prefix):
            return name.removeprefix(prefix).replace(".", "_")
    return name.replace(".", "_")


def _metadata_alpha(path: Path, name: str) -> tuple[float | None, bool]:
    """Return the alpha of lora_adapter_metadata, and whether it is divided by the root of the rank."""
    fields = json.loads(metadata_of(path).get("lora_adapter_metadata", "null"))
    if fields is None:
        return None, False
    component, _, rest = name.partition(".")
    own = {k.removeprefix(f"{component}."): v for k, v in fields.items() if k.startswith(f"{component}.")}
    return from_pattern(own.get("alpha_pattern"), rest, own["lora_alpha"]), bool(own.get("use_rslora"))


# diffusers: loaders/lora_base.py (LoraBaseMixin), utils/peft_utils.py (get_peft_kwargs)


def diffusers(path: Path) -> Updates:
    updates: Updates = {}
    factors = _image_pairs(path)
    alphas = {alpha for _, _, alpha in factors.values()}
    if any(name.startswith("lora_unet_") for name in factors) and len(alphas) > 1:
        raise Unknown("diffusers takes one alpha for all attention layers of a U-Net")
    for name, (B, A, alpha) in factors.items():
        stated, root = _metadata_alpha(path, name) if alpha is None else (alpha, False)
        scale = 1.0 if stated is None else stated / (math.sqrt(len(A)) if root else len(A))
        updates[flat(name)] = scale * product(B, A)
    return updates


# ComfyUI: comfy/weight_adapter/lora.py (LoRAAdapter.calculate_weight); it reads no metadata


def comfyui(path: Path) -> Updates:
    return {
        flat(name): (1.0 if alpha is None else alpha / len(A)) * product(B, A)
        for name, (B, A, alpha) in _image_pairs(path).items()
    }


def image_file(path: Path) -> Updates:
    """Return the intended update: the alpha next to the tensors counts, else the one in the metadata."""
    updates: Updates = {}
    for name, (B, A, alpha) in _image_pairs(path).items():
        stated, root = _metadata_alpha(path, name) if alpha is None else (alpha, False)
        scale = 1.0 if stated is None else stated / (math.sqrt(len(A)) if root else len(A))
        updates[flat(name)] = scale * product(B, A)
    return updates


EMULATED = {
    "peft": peft,
    "vllm": vllm,
    "vllm-0.30": vllm_030,
    "sglang": sglang,
    "llama.cpp": llama_cpp,
    "tgi": tgi,
    "tensorrt-llm": tensorrt_llm,
    "diffusers": diffusers,
    "comfyui": comfyui,
}


def intended(path: Path) -> Updates:
    """Return the update that an adapter's own format defines."""
    return peft(path) if Path(path).is_dir() else image_file(path)


def computed(consumer: str, path: Path) -> Updates:
    """Return the update that a program computes from an adapter."""
    if Path(path).is_dir() is (consumer in ("diffusers", "comfyui")):
        raise Refused(f"{path} is in another program's format")
    return EMULATED[consumer](path)


def error(before: Updates, after: Updates) -> float:
    """Return ||before - after||_F / ||before||_F over all modules; a missing module counts as zeros."""
    before, after = split_names(before), split_names(after)
    difference = sum(float(((after.get(n, 0.0) - update) ** 2).sum()) for n, update in before.items())
    difference += sum(float((update**2).sum()) for n, update in after.items() if n not in before)
    return math.sqrt(difference / sum(float((update**2).sum()) for update in before.values()))
