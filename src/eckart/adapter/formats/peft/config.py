"""adapter_config.json, as it is written: the targets, ranks and alphas of an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eckart.adapter.adapter import Adapter, Module, by_parameter
from eckart.adapter.formats.peft.origin import peft_origin
from eckart.adapter.formats.peft.patterns import alternation, rank_pattern, target_modules
from eckart.adapter.formats.peft.whole import settings_of_whole
from eckart.checkpoint.kinds import Kind, module_of
from eckart.strictjson import JsonObject

# The order in which transformers registers an expert layer's parameters; PEFT nests its wrappers in it.
EXPERT_ORDER = ("gate_proj", "up_proj", "gate_up_proj", "down_proj")

# Settings under which PEFT wraps other modules than those that target_modules matches.
NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying")


@dataclass(frozen=True)
class PeftOptions:
    """What the writer of a PEFT folder may know about the base model.

    Parameters
    ----------
    base_name : str, optional
        Written as ``base_model_name_or_path``.
    base_modules : tuple of str, optional
        Paths of all modules of the base that PEFT could wrap. With it the writer finds the shortest list of
        targets that wraps no other module; without it, it writes full paths.
    task : str, optional
        PEFT's task type, e.g. ``"CAUSAL_LM"``.
    """

    base_name: str | None = None
    base_modules: tuple[str, ...] | None = None
    task: str | None = None


def make_config(adapter: Adapter, options: PeftOptions) -> JsonObject:
    """Return the configuration with which PEFT gives every module its scale.

    Parameters
    ----------
    adapter : Adapter
        Settings of its ``config`` that still fit are kept.
    options : PeftOptions
        What is known about the base.

    Returns
    -------
    dict
        The content of ``adapter_config.json``.

    Notes
    -----
    ``r`` is the largest rank, because servers compare ``r`` with their limit.
    """
    old: JsonObject = adapter.config if adapter.config.get("peft_type") == "LORA" else {}
    plain = {m.name: m for m in adapter if m.expert is None and m.kind != Kind.ROUTER}
    fused = {name: group[0] for name, group in by_parameter(adapter.modules).items()}
    fused |= {f"{m.name}.weight": m for m in adapter if m.kind == Kind.ROUTER}
    ranks = {name: m.rank for name, m in (plain | fused).items()}
    largest = max(ranks.values(), default=1)
    alphas = {name: m.scale * m.rank for name, m in (plain | fused).items()}
    targets: object
    if options.base_modules is not None:
        targets = target_modules(plain, options.base_modules)
    elif _targets_still_fit(old, adapter):
        targets = old["target_modules"]
    else:
        targets = _full_paths(sorted(plain))
    alpha = alphas[max(ranks, key=lambda n: ranks[n])] if ranks else largest
    config: JsonObject = {
        "peft_type": "LORA",
        "task_type": options.task or old.get("task_type"),
        "base_model_name_or_path": options.base_name or old.get("base_model_name_or_path"),
        "inference_mode": True,
        "r": largest,
        "lora_alpha": _shortest(alpha),
        "rank_pattern": rank_pattern(ranks, largest),
        "alpha_pattern": {k: _shortest(v) for k, v in rank_pattern(alphas, float(alpha)).items()},
        "target_modules": targets,
        "lora_dropout": 0.0,
        "lora_bias": any(m.bias is not None for m in adapter),
        "fan_in_fan_out": bool(old.get("fan_in_fan_out")) or any(m.kind == Kind.CONV1D for m in adapter),
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        **settings_of_whole(old, adapter),
    }
    if fused:
        config["target_parameters"] = sorted(fused)
    return config


def task_type(config: Mapping[str, object]) -> str | None:
    """Return PEFT's task type for a model, if setting it only chooses a class.

    Parameters
    ----------
    config : mapping
        The model's ``config.json``.

    Notes
    -----
    SEQ_CLS and TOKEN_CLS are never returned: with them PEFT adds the classifier to ``modules_to_save``,
    in addition to the factors that the adapter has for it.
    """
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    if name.endswith("ForConditionalGeneration") and config.get("is_encoder_decoder"):
        return "SEQ_2_SEQ_LM"
    return None


def _targets_still_fit(old: Mapping[str, object], adapter: Adapter) -> bool:
    """Whether the targets that were read match the modules to write, and no others."""
    is_narrowed = any(old.get(setting) for setting in NARROWING)
    has_same_modules = peft_origin(adapter.origin).modules == tuple(sorted(adapter.modules))
    return old.get("target_modules") is not None and has_same_modules and not is_narrowed


def _full_paths(names: list[str]) -> list[str] | str:
    """Return paths for ``target_modules``: a list, or one expression where a path is the end of another."""
    endings = {name[i + 1 :] for name in names for i, letter in enumerate(name) if letter == "."}
    return alternation(names) if endings & set(names) else names


def _shortest(number: float) -> int | float:
    """Return a number as JSON writes it shortest: 8, not 8.0."""
    return int(number) if float(number).is_integer() else float(number)


def nesting(modules: Mapping[str, Module]) -> dict[str, int]:
    """Return how many ``base_layer`` PEFT puts into the key of each fused parameter.

    Parameters
    ----------
    modules : mapping of str to Module
        All modules of the adapter.

    Returns
    -------
    dict of str to int
        By the name of the fused parameter.

    Notes
    -----
    If several parameters of one layer are adapted, PEFT wraps the first, then that wrapper for the next,
    and so on: the last has no ``base_layer`` in its key.
    """
    containers: dict[str, list[str]] = {}
    for name in by_parameter(modules):
        containers.setdefault(module_of(name), []).append(name)
    depth = {}
    for names in containers.values():
        for place, name in enumerate(in_order(names)):
            depth[name] = len(names) - 1 - place
    return depth


def in_order(parameters: Iterable[str]) -> list[str]:
    """Return the parameters of an expert layer in the order in which transformers registers them."""

    def place(name: str) -> tuple[int, str]:
        leaf = name.rpartition(".")[2]
        return (EXPERT_ORDER.index(leaf) if leaf in EXPERT_ORDER else len(EXPERT_ORDER)), leaf

    return sorted(parameters, key=place)
