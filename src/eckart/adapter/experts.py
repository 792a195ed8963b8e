"""The two layouts of a mixture of experts: one fused parameter for all, or matrices for each expert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

import numpy as np

from eckart.adapter.adapter import Module, by_parameter, expert_name
from eckart.arrays import Array
from eckart.checkpoint.kinds import Kind
from eckart.checks import check_choice
from eckart.errors import AdapterError


class ExpertsLayout(Enum):
    """The layout of mixture-of-experts layers.

    ``FUSED``: one parameter for all experts of a layer, ``...mlp.experts.gate_up_proj[3]``.
    ``SPLIT``: matrices for every expert, by name: ``...mlp.experts.3.up_proj``.
    """

    FUSED = "fused"
    SPLIT = "split"

    @classmethod
    def parse(cls, text: str) -> ExpertsLayout:
        """Return the layout that a user named.

        Parameters
        ----------
        text : {"fused", "split"}

        Raises
        ------
        UsageError
            If the text is anything else.

        Examples
        --------
        >>> ExpertsLayout.parse("split")
        <ExpertsLayout.SPLIT: 'split'>
        """
        return cls(check_choice(text, "experts", [layout.value for layout in cls]))


# Where each model type keeps its experts in files, and the names of an expert's gate, up and down
# matrices. On loading, transformers 5 fuses them (conversion_mapping.py) into gate_up_proj and
# down_proj under `mlp.experts`.
MIXTRAL = ("block_sparse_moe.experts", ("w1", "w3", "w2"))
QWEN = ("mlp.experts", ("gate_proj", "up_proj", "down_proj"))
_QWEN_LIKE = """
    afmoe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe glm4_moe_lite
    glm4v_moe hunyuan_v1_moe longcat_flash olmoe qwen2_moe qwen3_moe qwen3_next qwen3_omni_moe solar_open
"""
FUSED_ON_LOADING: Mapping[str, tuple[str, tuple[str, str, str]]] = {
    **dict.fromkeys(("mixtral", "minimax", "minimax_m2"), MIXTRAL),
    **dict.fromkeys(_QWEN_LIKE.split(), QWEN),
}
FUSED_PATH = "mlp.experts"
RENAMED = frozenset(container for container, _ in (MIXTRAL, QWEN))

# Model types that interleave the rows of gate and up in gate_up_proj instead of stacking the two.
INTERLEAVED = frozenset({"gpt_oss"})

# A mixture's router: a linear layer of its own in files, a bare parameter in transformers 5.
_ROUTER = re.compile(r"(.*\.)?((mlp|block_sparse_moe)\.gate|mlp\.router)")

_SPLIT = re.compile(r"(.+\.)?(\w+\.experts)\.(\d+)\.(\w+)")


def is_split(name: str) -> bool:
    """Whether a module is one expert's matrix by name, e.g. ``...experts.3.up_proj``."""
    return _SPLIT.fullmatch(name) is not None


def experts_layouts(modules: Mapping[str, Module]) -> set[ExpertsLayout]:
    """Return the layouts in which modules hold experts.

    Returns
    -------
    set of ExpertsLayout
        Empty without experts; both layouts if some experts are fused and others split.
    """
    layouts = set()
    if any(module.expert is not None for module in modules.values()):
        layouts.add(ExpertsLayout.FUSED)
    if any(is_split(name) for name in modules):
        layouts.add(ExpertsLayout.SPLIT)
    return layouts


def arrange_experts(
    modules: Mapping[str, Module], layout: ExpertsLayout | None, config: Mapping[str, Any]
) -> dict[str, Module]:
    """Return the modules with their experts in a layout; every update stays exactly the same.

    Parameters
    ----------
    modules : mapping of str to Module
    layout : ExpertsLayout or None
        None leaves the experts as they are.
    config : mapping
        The base's ``config.json``, whose ``model_type`` determines the names; may be empty.

    Raises
    ------
    AdapterError
        If a fused parameter cannot be split, because the order of its rows is not known.

    Notes
    -----
    This is the one place that moves experts between layouts. Modules that are in the layout already stay as
    they are. A router follows the experts: with fused experts it is a bare parameter, with split ones a
    linear layer. Fusing leaves each expert its own scale; a file that stores one scale for a whole stack
    needs `even_scales` as well.
    """
    if layout is ExpertsLayout.SPLIT:
        return split_experts(modules, config)
    if layout is ExpertsLayout.FUSED:
        return fuse_experts(modules, config)
    return dict(modules)


def split_experts(modules: Mapping[str, Module], config: Mapping[str, Any]) -> dict[str, Module]:
    """Split updates of fused parameters into updates of each expert's matrices, exactly and without a copy.

    Parameters
    ----------
    modules : mapping of str to Module
    config : mapping
        The base's ``config.json``, whose ``model_type`` determines the names of the matrices.

    Notes
    -----
    The rows of B are cut and A is shared: the update of ``gate_up_proj`` becomes an update of gate and
    one of up, each with the same A.
    """
    model_type = str(config.get("model_type"))
    container, (gate, up, down) = FUSED_ON_LOADING.get(model_type, QWEN)
    result: dict[str, Module] = {}
    for module in modules.values():
        if module.kind == Kind.ROUTER:
            name = re.sub(r"mlp\.gate$", container.removesuffix("experts") + "gate", module.name)
            result[name] = replace(module, name=name, kind=Kind.LINEAR)
            continue
        if module.expert is None:
            result[module.name] = module
            continue
        parameter, number = module.expert
        path, _, leaf = parameter.rpartition(".")
        if leaf not in ("gate_up_proj", "down_proj") or model_type in INTERLEAVED:
            raise AdapterError(
                parameter,
                "this fused parameter cannot be split into the matrices of each expert: their order in it "
                "is not known",
                "Keep the experts fused",
            )
        path = re.sub(rf"{re.escape(FUSED_PATH)}$", container, path)
        B, A = module.BA
        half = B.shape[0] // 2
        parts = {down: B} if leaf == "down_proj" else {gate: B[:half], up: B[half:]}
        for name, rows in parts.items():
            full_name = f"{path}.{number}.{name}"
            result[full_name] = replace(module, name=full_name, kind=Kind.LINEAR, left=rows, right=A)
    return result


def fuse_experts(modules: Mapping[str, Module], config: Mapping[str, Any]) -> dict[str, Module]:
    """Join the updates of each expert's matrices into updates of the fused parameters, exactly.

    Parameters
    ----------
    modules : mapping of str to Module
    config : mapping
        The base's ``config.json``, which gives the number of experts. Without it, the largest expert
        number among the modules counts as the last one.

    Notes
    -----
    gate is stacked on up in ``gate_up_proj``: B = [B_gate, 0; 0, B_up], A = [A_gate; A_up], of rank
    r_gate + r_up. An expert without an update gets zeros of rank 1.
    """
    result: dict[str, Module] = {}
    groups: dict[str, dict[int, dict[str, Module]]] = {}
    for module in modules.values():
        match = _SPLIT.fullmatch(module.name)
        if match is None:
            result[module.name] = module
        else:
            path = (match[1] or "") + (FUSED_PATH if match[2] in RENAMED else match[2])
            groups.setdefault(path, {}).setdefault(int(match[3]), {})[match[4]] = module
    for path, by_expert in groups.items():
        count = max(expert_count(config) or 0, max(by_expert) + 1)
        shapes = {_role(leaf): m.shape for parts in by_expert.values() for leaf, m in parts.items()}
        for number in range(count):
            parts = {_role(leaf): m for leaf, m in by_expert.get(number, {}).items()}
            if "gate" in shapes or "up" in shapes:
                name = expert_name(f"{path}.gate_up_proj", number)
                result[name] = _stacked(name, parts, shapes, _dtype(modules))
            if "down" in shapes:
                name = expert_name(f"{path}.down_proj", number)
                down = parts.get("down") or zero_module(name, shapes["down"], _dtype(modules))
                result[name] = replace(down, name=name, kind=Kind.EXPERT)
    return with_routers(result, config)


def is_fused_on_loading(config: Mapping[str, Any]) -> bool:
    """Whether transformers fuses this model's experts on loading, while its files hold them split."""
    return str(config.get("model_type")) in FUSED_ON_LOADING


def fuses_experts(config: Mapping[str, Any]) -> bool:
    """Whether transformers holds this model's experts in fused parameters."""
    return is_fused_on_loading(config) or str(config.get("model_type")) in INTERLEAVED


def with_routers(modules: Mapping[str, Module], config: Mapping[str, Any]) -> dict[str, Module]:
    """Mark the routers of a model whose experts are fused, and name them as transformers 5 does."""
    if not fuses_experts(config) or ExpertsLayout.SPLIT in experts_layouts(modules):
        return dict(modules)
    result = {}
    for name, module in modules.items():
        if _ROUTER.fullmatch(name) and module.kind == Kind.LINEAR:
            path = name.replace("block_sparse_moe.gate", "mlp.gate")
            result[path] = replace(module, name=path, kind=Kind.ROUTER)
        else:
            result[name] = module
    return result


def expert_count(config: Mapping[str, Any]) -> int | None:
    """Return how many experts a model has, from its configuration; None if it does not say."""
    for key in ("num_local_experts", "num_experts", "n_routed_experts"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None


def even_scales(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Give the experts of each fused parameter one scale.

    Where their scales differ, each is multiplied into its expert's factors, in float32 or better.
    """
    result = dict(modules)
    for stack in by_parameter(modules).values():
        if len({m.scale for m in stack}) > 1:
            for m in stack:
                result[m.name] = _folded(m, 1.0)
    return result


def _folded(module: Module, scale: float) -> Module:
    """Return the same update with another scale; float32 or float64 factors, which bfloat16 would round."""
    work = np.float64 if module.dtype == np.float64 else np.float32
    left = (module.left.astype(np.float64) * (module.scale / scale)).astype(work)
    return replace(module, left=left, right=module.right.astype(work), scale=scale, alpha=None)


def even_ranks(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Pad the experts of each fused parameter with zeros to one rank, as a stack of factors needs."""
    result = dict(modules)
    for stack in by_parameter(modules).values():
        rank = max(m.rank for m in stack)
        result |= {m.name: m.padded(rank) for m in stack}
    return result


def zero_module(name: str, shape: tuple[int, int], dtype: np.dtype[Any], kind: Kind = Kind.EXPERT) -> Module:
    """Return an update of zeros, of rank 1."""
    return Module(name, kind, np.zeros((shape[0], 1), dtype), np.zeros((1, shape[1]), dtype))


def _role(leaf: str) -> str:
    roles = {"w1": "gate", "w3": "up", "w2": "down"}
    return roles.get(leaf, leaf.removesuffix("_proj"))


def _dtype(modules: Mapping[str, Module]) -> np.dtype[Any]:
    return next(iter(modules.values())).dtype


def _stacked(
    name: str, parts: Mapping[str, Module], shapes: Mapping[str, tuple[int, int]], dtype: np.dtype[Any]
) -> Module:
    """Build one expert's update of gate_up_proj from its gate and up, either of which may be missing."""
    rows, columns = shapes.get("gate") or shapes["up"]
    halves = [(half, parts[role]) for half, role in enumerate(("gate", "up")) if role in parts]
    if not halves:
        return zero_module(name, (2 * rows, columns), dtype)
    scale = halves[0][1].scale
    if any(m.scale != scale for _, m in halves):
        halves = [(half, _folded(m, scale)) for half, m in halves]
    lefts, rights = [], []
    for half, m in halves:
        tall: Array = np.zeros((2 * rows, m.rank), m.dtype)  # (rows of gate and up, r)
        tall[half * rows : (half + 1) * rows] = m.left
        lefts.append(tall)
        rights.append(m.right)
    return Module(name, Kind.EXPERT, np.concatenate(lefts, axis=1), np.concatenate(rights), scale)
