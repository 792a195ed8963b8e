"""The two layouts of a mixture of experts: one fused parameter for all, or matrices by expert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from eckart.adapter.adapter import Array, Module, by_parameter, expert_name
from eckart.errors import AdapterError

# Where each model type keeps its experts in files, and what it calls an expert's gate, up and down
# matrices; transformers 5 fuses them on loading (conversion_mapping.py) into gate_up_proj and
# down_proj under `mlp.experts`.
MIXTRAL = ("block_sparse_moe.experts", ("w1", "w3", "w2"))
QWEN = ("mlp.experts", ("gate_proj", "up_proj", "down_proj"))
FUSED_ON_LOADING: Mapping[str, tuple[str, tuple[str, str, str]]] = {
    **dict.fromkeys(("mixtral", "minimax", "minimax_m2"), MIXTRAL),
    **dict.fromkeys(
        (
            "afmoe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe", "exaone_moe",
            "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "hunyuan_v1_moe", "longcat_flash",
            "olmoe", "qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_omni_moe", "solar_open",
        ),
        QWEN,
    ),
}  # fmt: skip
FUSED = "mlp.experts"

# Model types whose gate and up rows alternate in gate_up_proj instead of standing one above the other.
INTERLEAVED = frozenset({"gpt_oss"})

# A mixture's router: a matrix of its own in files, and a bare parameter in transformers 5.
_ROUTER = re.compile(r"(.*\.)?((mlp|block_sparse_moe)\.gate|mlp\.router)")

_SPLIT = re.compile(r"(.+\.)?(\w+\.experts)\.(\d+)\.(\w+)")


def is_split(name: str) -> bool:
    """Whether a module is one expert's matrix by name, e.g. ``...experts.3.up_proj``."""
    return _SPLIT.fullmatch(name) is not None


def split_experts(modules: Mapping[str, Module], config: Mapping[str, Any]) -> dict[str, Module]:
    """Take fused updates apart into those of each expert's matrices, exactly and without a copy.

    Parameters
    ----------
    modules : mapping of str to Module
    config : mapping
        The base's ``config.json``; its ``model_type`` says what the matrices are called.

    Notes
    -----
    The rows of B are cut, and A is shared: the update of ``gate_up_proj`` becomes those of gate and
    up, each with the same A.
    """
    kind = str(config.get("model_type"))
    container, (gate, up, down) = FUSED_ON_LOADING.get(kind, QWEN)
    result: dict[str, Module] = {}
    for module in modules.values():
        if module.kind == "router":
            name = re.sub(r"mlp\.gate$", container.removesuffix("experts") + "gate", module.name)
            result[name] = replace(module, name=name, kind="linear")
            continue
        if module.expert is None:
            result[module.name] = module
            continue
        parameter, number = module.expert
        path, _, leaf = parameter.rpartition(".")
        if leaf not in ("gate_up_proj", "down_proj") or kind in INTERLEAVED:
            raise AdapterError(parameter, "is a fused parameter whose parts are not known", "Keep it fused")
        path = re.sub(rf"{re.escape(FUSED)}$", container, path)
        B, A = module.BA
        half = B.shape[0] // 2
        parts = {down: B} if leaf == "down_proj" else {gate: B[:half], up: B[half:]}
        for name, rows in parts.items():
            full = f"{path}.{number}.{name}"
            result[full] = replace(module, name=full, kind="linear", left=rows, right=A)
    return result


def fuse_experts(modules: Mapping[str, Module], config: Mapping[str, Any]) -> dict[str, Module]:
    """Put updates by expert together into those of the fused parameters, exactly.

    Parameters
    ----------
    modules : mapping of str to Module
    config : mapping
        The base's ``config.json``, which says how many experts there are; without it there is one more
        than the largest number seen.

    Notes
    -----
    gate and up stand one above the other in ``gate_up_proj``: B = [B_gate, 0; 0, B_up], A = [A_gate;
    A_up], of rank r_gate + r_up. An expert without an update gets one of zeros and rank 1.
    """
    result: dict[str, Module] = {}
    groups: dict[str, dict[int, dict[str, Module]]] = {}
    for module in modules.values():
        found = _SPLIT.fullmatch(module.name)
        if found is None:
            result[module.name] = module
        else:
            path = (found[1] or "") + FUSED
            groups.setdefault(path, {}).setdefault(int(found[3]), {})[found[4]] = module
    for path, by_expert in groups.items():
        count = max(expert_count(config) or 0, max(by_expert) + 1)
        shapes = {_role(leaf): m.shape for parts in by_expert.values() for leaf, m in parts.items()}
        for number in range(count):
            named = by_expert.get(number, {})
            parts = {_role(leaf): m for leaf, m in named.items()}
            if "gate" in shapes or "up" in shapes:
                name = expert_name(f"{path}.gate_up_proj", number)
                result[name] = _stacked(name, parts, shapes, _dtype(modules))
            if "down" in shapes:
                name = expert_name(f"{path}.down_proj", number)
                down = parts.get("down") or zero_module(name, shapes["down"], _dtype(modules))
                result[name] = replace(down, name=name, kind="expert")
    return with_routers(result, config)


def fuses_experts(config: Mapping[str, Any]) -> bool:
    """Whether transformers holds this model's experts in fused parameters."""
    kind = config.get("model_type")
    return kind in FUSED_ON_LOADING or kind in INTERLEAVED


def with_routers(modules: Mapping[str, Module], config: Mapping[str, Any]) -> dict[str, Module]:
    """Mark the routers of a mixture whose experts are fused, and name them as transformers 5 does."""
    if not fuses_experts(config) or any(map(is_split, modules)):
        return dict(modules)
    result = {}
    for name, module in modules.items():
        if _ROUTER.fullmatch(name) and module.kind == "linear":
            path = name.replace("block_sparse_moe.gate", "mlp.gate")
            result[path] = replace(module, name=path, kind="router")
        else:
            result[name] = module
    return result


def expert_count(config: Mapping[str, Any]) -> int | None:
    """Return how many experts a model has, by its configuration."""
    for key in ("num_local_experts", "num_experts", "n_routed_experts"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None


def even_scales(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Fold the scales of the experts of one parameter into their factors, in float32, where they differ."""
    result = dict(modules)
    for stack in by_parameter(modules).values():
        if len({m.scale for m in stack}) > 1:
            for m in stack:
                result[m.name] = _folded(m, 1.0)
    return result


def _folded(module: Module, scale: float) -> Module:
    """Return the module with another scale, its factors in float32 at least: bfloat16 would round them."""
    work = np.float64 if module.dtype == np.float64 else np.float32
    left = (module.left.astype(np.float64) * (module.scale / scale)).astype(work)
    return replace(module, left=left, right=module.right.astype(work), scale=scale, alpha=None)


def even_ranks(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Pad the experts of each fused parameter with zeros to one rank, which a stack of factors needs."""
    result = dict(modules)
    for stack in by_parameter(modules).values():
        rank = max(m.rank for m in stack)
        result |= {m.name: m.padded(rank) for m in stack}
    return result


def zero_module(name: str, shape: tuple[int, int], dtype: np.dtype[Any], kind: str = "expert") -> Module:
    """Return an update of nothing, of rank 1."""
    return Module(name, kind, np.zeros((shape[0], 1), dtype), np.zeros((1, shape[1]), dtype))


def _role(leaf: str) -> str:
    roles = {"w1": "gate", "w3": "up", "w2": "down"}
    return roles.get(leaf, leaf.removesuffix("_proj"))


def _dtype(modules: Mapping[str, Module]) -> np.dtype[Any]:
    return next(iter(modules.values())).dtype


def _stacked(
    name: str, parts: Mapping[str, Module], shapes: Mapping[str, tuple[int, int]], dtype: np.dtype[Any]
) -> Module:
    """Return one expert's gate_up_proj of its gate and up, either of which may be missing."""
    rows, columns = shapes.get("gate") or shapes["up"]
    found = [(place, parts[role]) for place, role in enumerate(("gate", "up")) if role in parts]
    if not found:
        return zero_module(name, (2 * rows, columns), dtype)
    scale = found[0][1].scale
    if any(m.scale != scale for _, m in found):
        found = [(place, _folded(m, scale)) for place, m in found]
    lefts, rights = [], []
    for place, m in found:
        wide: Array = np.zeros((2 * rows, m.rank), m.dtype)
        wide[place * rows : (place + 1) * rows] = m.left
        lefts.append(wide)
        rights.append(m.right)
    return Module(name, "expert", np.concatenate(lefts, axis=1), np.concatenate(rights), scale)
