"""A second opinion on every consumer: how its source turns an adapter's raw files into updates.

Written from the programs' own code, named beside each function, and from nothing of eckart: a file is
read with safetensors, a configuration with json. Each function takes a path and returns the dense update
of every module by name, in the orientation (d_out, d_in), or raises `Refused`. A module that the program
leaves out without a word is not in the answer.
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
    """The program ends with an error instead of loading the adapter."""


class Unknown(Exception):
    """What the program makes of it was not worked out."""


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return file.metadata() or {}


def opened(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    config = json.loads((Path(folder) / "adapter_config.json").read_text())
    return config, tensors_of(Path(folder) / "adapter_model.safetensors")


def product(B: np.ndarray, A: np.ndarray) -> np.ndarray:
    """B A, with a convolution's window flattened into the columns."""
    B, A = B.astype(np.float64), A.astype(np.float64)
    return B.reshape(len(B), -1) @ A.reshape(len(A), -1)


def pairs(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(B, A) by name, of linear layers and convolutions."""
    end = ".lora_A.weight"
    names = [key.removesuffix(end) for key in tensors if key.endswith(end)]
    return {n.removeprefix(PREFIX): (tensors[f"{n}.lora_B.weight"], tensors[n + end]) for n in names}


def embedding_pairs(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    end = ".lora_embedding_A"
    names = [key.removesuffix(end) for key in tensors if key.endswith(end)]
    return {n.removeprefix(PREFIX): (tensors[f"{n}.lora_embedding_B"], tensors[n + end]) for n in names}


def from_pattern(pattern: Mapping[str, float] | None, name: str, default: float) -> float:
    """PEFT's get_pattern_key: the first expression that matches the end of the name."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


def split_names(updates: Updates) -> Updates:
    """The same updates with every fused parameter of experts cut into gate, up and down by name."""
    found: Updates = {}
    for name, update in updates.items():
        fused = re.fullmatch(r"(.+)\.(gate_up_proj|down_proj)\[(\d+)\]", name)
        if fused is None:
            found[name] = update
        elif fused[2] == "down_proj":
            found[f"{fused[1]}.{fused[3]}.down_proj"] = update
        else:
            half = len(update) // 2
            found[f"{fused[1]}.{fused[3]}.gate_proj"] = update[:half]
            found[f"{fused[1]}.{fused[3]}.up_proj"] = update[half:]
    return found


def is_fused(name: str) -> bool:
    return name.endswith((".experts", ".experts.base_layer"))


# PEFT: tuners/lora/layer.py (update_layer, ParamWrapper.get_delta_weight), utils/other.py


def peft(folder: Path) -> Updates:
    config, tensors = opened(folder)
    parameters = config.get("target_parameters") or []
    found: Updates = {}
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if is_fused(name):
            found |= _stack(name, B, A, parameters, config)
            continue
        r = from_pattern(config.get("rank_pattern"), name, config["r"])
        if A.shape[0] != r:
            raise Refused(f"size mismatch for {name}: {A.shape[0]} in the file, {r} in the model")
        found[name] = _peft_scale(config, name, r) * product(B, A)
    return found


def _peft_scale(config: dict, name: str, r: int) -> float:
    alpha = from_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
    return alpha / math.sqrt(r) if config.get("use_rslora") else alpha / r


def _stack(name: str, B: np.ndarray, A: np.ndarray, parameters: list[str], config: dict) -> Updates:
    """One A for all experts, expert by expert; one B whose columns run over the experts fastest."""
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
    config, tensors = opened(folder)
    if set(config.get("modules_to_save") or []) - set(HEADS):
        raise Refused("vLLM only supports modules_to_save being either None or classifier, score")
    if config.get("lora_bias") or config.get("bias", "none") != "none":
        raise Refused("Adapter bias is not supported")
    pattern = config.get("rank_pattern") or {}
    if max([config["r"], *pattern.values()]) > VLLM_RANKS[-1]:
        raise Refused("LoRA rank is greater than max_lora_rank")
    found: Updates = {}
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
        found[name] = alpha / (math.sqrt(r) if config.get("use_rslora") else r) * product(B, A)
    return found


# vLLM 0.30: the same files; patterns are not read


def vllm_030(folder: Path) -> Updates:
    config, tensors = opened(folder)
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
    found: Updates = {}
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if A.ndim > 2:
            raise Refused(f"expected target modules, but received {name}")  # convolutions are not wrapped
        if len(A) > limit and not is_fused(name):
            raise Refused(f"{name}: rank {len(A)} does not fit the buffer of {limit}")
        if is_fused(name):
            continue  # vllm-project/vllm#41384: the 3-D layout is skipped without a word
        found[name] = config["lora_alpha"] / root * product(B, A)
    return found


# SGLang 0.5.23: srt/lora/lora.py (scaling, normalize_qkv_proj, normalize_gate_up_proj), lora_config.py,
# utils.py (get_normalized_target_modules, get_target_module_name), mem_pool.py (buffer shapes)

SGLANG_NEEDS = {"q_proj": {"v_proj"}, "v_proj": {"q_proj"}, "k_proj": {"q_proj", "v_proj"},
    "up_proj": {"gate_proj"}}  # fmt: skip


def sglang(folder: Path) -> Updates:
    config, tensors = opened(folder)
    if isinstance(config["target_modules"], str) and config["target_modules"] not in ("all", "all-linear"):
        raise Refused("Only 'all' or 'all-linear' can be used as the string for target module")
    for key in tensors:
        if ".layers." in key and ".lora_" not in key:
            raise Refused(f"Cannot find target module name for {key}")
    found: Updates = {}
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
        found[name] = config["lora_alpha"] / config["r"] * product(B, A)
    for path, leaves in stacks.items():
        for leaf in leaves:
            if not SGLANG_NEEDS.get(leaf, set()) <= leaves:
                raise Refused(f"KeyError: {path}, beside {leaf}")
    return found


# llama.cpp: convert_lora_to_gguf.py (get_tensors), src/llama-adapter.h (get_scale)


def llama_cpp(folder: Path) -> Updates:
    config, tensors = opened(folder)
    for key in tensors:
        if ".lora_A.weight" in key or ".lora_B.weight" in key or ".lora_embedding_" in key:
            continue
        if "_layernorm" in key or ".norm" in key:
            continue  # written to the GGUF, and ignored when it is loaded
        raise Refused(f"Unexpected name '{key}': Not a lora_A or lora_B tensor")
    found: Updates = {}
    experts: dict[str, dict[int, set[tuple[str, int]]]] = defaultdict(lambda: defaultdict(set))
    for name, (B, A) in {**pairs(tensors), **embedding_pairs(tensors)}.items():
        if A.ndim > 2:
            raise Refused(f"assert A.shape[-2] == B.shape[-1]: {name}")
        if is_fused(name):
            raise Refused(f"Can not map tensor {name}")
        found[name] = np.float32(config["lora_alpha"]) / len(A) * product(B, A)
        expert = re.fullmatch(r"(.+\.experts)\.(\d+)\.(\w+)", name)
        if expert:
            experts[expert[1]][int(expert[2])].add((expert[3], len(A)))
    for path, by_number in experts.items():  # the converter stacks all experts of a layer, or ends
        same = len({frozenset(leaves) for leaves in by_number.values()}) == 1
        if (
            not same
            or set(by_number) != set(range(max(by_number) + 1))
            or len(next(iter(by_number.values()))) != 3
        ):
            raise Refused(f"Unprocessed experts: {path}")
    return found


# LoRAX, and its copy in text-generation-inference: adapters/lora.py (LoraWeights.load), utils/sgmv.py

TGI_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")


def tgi(folder: Path, layers: int | None = None) -> Updates:
    config, tensors = opened(folder)
    there = pairs(tensors)
    numbered = [int(m[1]) for name in there if (m := re.search(r"\.layers\.(\d+)\.", name))]
    count = layers or 1 + max(numbered, default=0)
    found: Updates = {}
    r = config["r"]
    for leaf in TGI_ORDER:
        block = "self_attn" if leaf in TGI_ORDER[:4] else "mlp"
        names = [f"model.layers.{i}.{block}.{leaf}" for i in range(count)]
        names = ["lm_head"] if leaf == "lm_head" else names
        if any(name not in there for name in names):
            continue  # return None: the type has no update at all
        scale = config["lora_alpha"] / (r**0.5 if config.get("use_rslora") else r)
        padded = {_padded(len(there[name][1])) for name in names}
        if len(padded) > 1:
            raise Refused(f"stack expects each tensor to be equal size: {leaf}, {sorted(padded)}")
        found |= {name: scale * product(*there[name]) for name in names}
        (r,) = padded  # config.r = padded_rank, which the next type reads
    return found


def _padded(rank: int) -> int:
    return 8 if rank <= 8 else -(-rank // 16) * 16


# TensorRT-LLM: lora_manager.py (HF_LORA_PATTERN, iterate_hf_lora, load_from_hf)

_TRT_KEY = re.compile(r"(.*)\.(\d+)\.(\w+)\.(\w+|\w+\.\w+|(\w+)\.(\d+)\.(\w+))\.lora_(A|B)\.weight")
_TRT_MODULES = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj", "gate_up_proj",
    "w1", "w2", "w3", "gate",
}  # fmt: skip


def tensorrt_llm(folder: Path) -> Updates:
    config, tensors = opened(folder)
    for key in tensors:
        matched = _TRT_KEY.match(key)
        if not matched:
            if "lm_head" not in key and "embed_tokens" not in key:
                raise Refused(f"unsupported key {key} from HF LoRA weights")
            continue
        module = matched[7] or matched[4]
        if module not in _TRT_MODULES:
            raise Refused(f"hf_module {module} is not in supported list")
    found: Updates = {}
    for name, (B, A) in pairs(tensors).items():
        if not _TRT_KEY.match(f"{PREFIX}{name}.lora_A.weight"):
            continue  # lm_head
        r = len(A)  # effective_rank, the tensor's own
        root = math.sqrt(r) if config.get("use_rslora") else r
        found[name] = config["lora_alpha"] / root * product(B, A)
    return found


# Files of image models. Names are flat (`down_blocks_0_attn_to_q`), so that formats can be compared.


def _image_pairs(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, float | None]]:
    """(B, A, the alpha beside them) by flat name."""
    tensors = tensors_of(path)
    found = {}
    for key, A in tensors.items():
        for down, up in ((".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")):
            if key.endswith(down):
                stem = key.removesuffix(down)
                alpha = tensors.get(f"{stem}.alpha")
                found[stem] = tensors[stem + up], A, None if alpha is None else float(alpha)
    return found


def flat(name: str) -> str:
    for prefix in ("lora_unet_", "unet.", "transformer.", "diffusion_model."):
        if name.startswith(prefix):
            return name.removeprefix(prefix).replace(".", "_")
    return name.replace(".", "_")


def _metadata_alpha(path: Path, name: str) -> tuple[float | None, bool]:
    """The alpha of lora_adapter_metadata, and whether it is divided by the root of the rank."""
    fields = json.loads(metadata_of(path).get("lora_adapter_metadata", "null"))
    if fields is None:
        return None, False
    component, _, rest = name.partition(".")
    own = {k.removeprefix(f"{component}."): v for k, v in fields.items() if k.startswith(f"{component}.")}
    return from_pattern(own.get("alpha_pattern"), rest, own["lora_alpha"]), bool(own.get("use_rslora"))


# diffusers: loaders/lora_base.py (LoraBaseMixin), utils/peft_utils.py (get_peft_kwargs)


def diffusers(path: Path) -> Updates:
    found: Updates = {}
    there = _image_pairs(path)
    alphas = {alpha for _, _, alpha in there.values()}
    if any(name.startswith("lora_unet_") for name in there) and len(alphas) > 1:
        raise Unknown("one alpha is taken for all attention of a U-Net")
    for name, (B, A, alpha) in there.items():
        stated, root = _metadata_alpha(path, name) if alpha is None else (alpha, False)
        scale = 1.0 if stated is None else stated / (math.sqrt(len(A)) if root else len(A))
        found[flat(name)] = scale * product(B, A)
    return found


# ComfyUI: comfy/weight_adapter/lora.py (LoRAAdapter.calculate_weight); it reads no metadata


def comfyui(path: Path) -> Updates:
    return {
        flat(name): (1.0 if alpha is None else alpha / len(A)) * product(B, A)
        for name, (B, A, alpha) in _image_pairs(path).items()
    }


def image_file(path: Path) -> Updates:
    """What a file of an image model means: the alpha beside the tensors, else that of the metadata."""
    found: Updates = {}
    for name, (B, A, alpha) in _image_pairs(path).items():
        stated, root = _metadata_alpha(path, name) if alpha is None else (alpha, False)
        scale = 1.0 if stated is None else stated / (math.sqrt(len(A)) if root else len(A))
        found[flat(name)] = scale * product(B, A)
    return found


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
    """What an adapter means in its own format."""
    return peft(path) if Path(path).is_dir() else image_file(path)


def computed(consumer: str, path: Path) -> Updates:
    """What a program makes of an adapter."""
    if Path(path).is_dir() is (consumer in ("diffusers", "comfyui")):
        raise Refused(f"{path} is in a format of others")
    return EMULATED[consumer](path)


def error(meant: Updates, made: Updates) -> float:
    """||meant - made||_F / ||meant||_F over all modules; one that is not there counts as zeros."""
    meant, made = split_names(meant), split_names(made)
    apart = sum(float(((made.get(n, 0.0) - update) ** 2).sum()) for n, update in meant.items())
    apart += sum(float((update**2).sum()) for n, update in made.items() if n not in meant)
    return math.sqrt(apart / sum(float((update**2).sum()) for update in meant.values()))
