"""adapter_config.json: read and checked, looked up as PEFT looks it up, and written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eckart.adapter.adapter import Adapter, Module, by_parameter
from eckart.adapter.formats.peft.patterns import alternation, rank_pattern, target_modules
from eckart.adapter.formats.peft.whole import settings_of_whole
from eckart.checkpoint.kinds import module_of
from eckart.errors import AdapterError

CONFIG = "adapter_config.json"

# Settings under which the update is not scale * B A, with the name of what they turn on.
OTHER_UPDATES = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "alora_invocation_tokens": "aLoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "layer_replication": "layer replication",
}

# Initialisations that take B A out of the base's weights first, so that B A is no update of the base.
MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

# The order in which transformers registers an expert layer's parameters; PEFT nests its wrappers so.
EXPERT_ORDER = ("gate_proj", "up_proj", "gate_up_proj", "down_proj")


# Settings under which other modules than those of target_modules are wrapped.
NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying")


class Pattern:
    """PEFT's ``rank_pattern`` or ``alpha_pattern``.

    Notes
    -----
    PEFT tries ``re.match(rf"(.*\\.)?({key})$", name)`` for every key and takes the first that fits. Plain
    keys are looked up here by the endings of the name instead, since their number may be that of the
    modules; a dot in a plain key stands for a dot.
    """

    def __init__(self, pattern: Mapping[str, Any], default: Any) -> None:
        self.default = default
        self.plain: dict[str, tuple[int, Any]] = {}
        self.expressions: list[tuple[int, re.Pattern[str], Any]] = []
        for place, (key, value) in enumerate(pattern.items()):
            if re.fullmatch(r"[\w.]+", key):
                self.plain.setdefault(key, (place, value))
            else:
                self.expressions.append((place, re.compile(rf"(.*\.)?({key})$"), value))

    def __getitem__(self, name: str) -> Any:
        starts = [0] + [i + 1 for i, letter in enumerate(name) if letter == "."]
        found = [self.plain[name[i:]] for i in starts if name[i:] in self.plain]
        found += [(place, value) for place, key, value in self.expressions if key.match(name)]
        return min(found, key=lambda hit: hit[0])[1] if found else self.default


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json``, refusing what is not plain LoRA."""
    where = str(folder / CONFIG)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError:
        raise AdapterError(where, "no such file", "Name the folder of a PEFT adapter") from None
    except OSError as reason:
        raise AdapterError(where, f"cannot be read ({reason.strerror})", "Check its permissions") from None
    except (ValueError, RecursionError):
        raise AdapterError(where, "is not JSON", "Download it again, or make the adapter again") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(where, f"expected peft_type LORA, found {kind!r}")
    for key, kind in OTHER_UPDATES.items():
        if config.get(key):
            raise AdapterError(where, f"turns on {kind} ({key}), which is not handled", "Give a plain LoRA")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(MOVES_BASE):
        raise AdapterError(
            where,
            f"init_lora_weights is {start}: the factors belong to a base whose weights were changed first",
            "Save the adapter with PEFT's path_initial_model_for_weight_conversion",
        )
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(name) or {}
        try:
            for key in dict(pattern):
                re.compile(key)
        except (TypeError, ValueError, re.error):
            raise AdapterError(where, f"{name} is not a table of regular expressions") from None
    return config


def make_config(
    adapter: Adapter,
    *,
    base_name: str | None = None,
    base_modules: Iterable[str] | None = None,
    task: str | None = None,
) -> dict[str, Any]:
    """Return the configuration under which PEFT gives every module its stated scale.

    Parameters
    ----------
    adapter : Adapter
        Its ``config`` is kept where it does not say otherwise.
    base_name : str, optional
        Written as ``base_model_name_or_path``.
    base_modules : iterable of str, optional
        All module paths of the base that PEFT could wrap, so that no other is; without it, full paths
        are written.
    task : str, optional
        PEFT's task type.

    Notes
    -----
    ``r`` is the largest rank, which is what servers check against their limit.
    """
    old = adapter.config if adapter.config.get("peft_type") == "LORA" else {}
    plain = {m.name: m for m in adapter if m.expert is None and m.kind != "router"}
    fused = {name: group[0] for name, group in by_parameter(adapter.modules).items()}
    fused |= {f"{m.name}.weight": m for m in adapter if m.kind == "router"}
    ranks = {name: m.rank for name, m in (plain | fused).items()}
    largest = max(ranks.values(), default=1)
    alphas = {name: m.scale * m.rank for name, m in (plain | fused).items()}
    if base_modules is not None:
        targets = target_modules(plain, base_modules)
    elif _targets_still_fit(old, adapter):
        targets = old["target_modules"]
    else:
        targets = _full_paths(sorted(plain))
    alpha = alphas[max(ranks, key=lambda n: ranks[n])] if ranks else largest
    config = {
        "peft_type": "LORA",
        "task_type": task or old.get("task_type"),
        "base_model_name_or_path": base_name or old.get("base_model_name_or_path"),
        "inference_mode": True,
        "r": largest,
        "lora_alpha": _whole(alpha),
        "rank_pattern": rank_pattern(ranks, largest),
        "alpha_pattern": {k: _whole(v) for k, v in rank_pattern(alphas, float(alpha)).items()},
        "target_modules": targets,
        "lora_dropout": 0.0,
        "lora_bias": any(m.bias is not None for m in adapter),
        "fan_in_fan_out": bool(old.get("fan_in_fan_out")) or any(m.kind == "conv1d" for m in adapter),
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        **settings_of_whole(old, adapter),
    }
    if fused:
        config["target_parameters"] = sorted(fused)
    return config


def _targets_still_fit(old: Mapping[str, Any], adapter: Adapter) -> bool:
    """Whether the targets that were read name the modules that will be written, and no others."""
    narrowed = any(old.get(k) for k in NARROWING)
    same = old.get("_modules") == sorted(adapter.modules)
    return old.get("target_modules") is not None and same and not narrowed


def _full_paths(names: list[str]) -> list[str] | str:
    """Return paths as PEFT takes them: a list, or one expression where a path is the end of another."""
    endings = {name[i + 1 :] for name in names for i, letter in enumerate(name) if letter == "."}
    return alternation(names) if endings & set(names) else names


def _whole(number: float) -> int | float:
    """Return a number as JSON writes it best: 8, not 8.0."""
    return int(number) if float(number).is_integer() else float(number)


def nesting(modules: Mapping[str, Module]) -> dict[str, int]:
    """Say how many ``base_layer`` PEFT puts into the key of each fused parameter.

    Of several parameters of one layer PEFT wraps the first, then the wrapper for the next, and so on:
    the last has none.
    """
    containers: dict[str, list[str]] = {}
    for name in by_parameter(modules):
        containers.setdefault(module_of(name), []).append(name)
    depth = {}
    for names in containers.values():
        for place, name in enumerate(in_order(names)):
            depth[name] = len(names) - 1 - place
    return depth


def in_order(parameters: list[str]) -> list[str]:
    """Sort the parameters of an expert layer as transformers registers them."""

    def place(name: str) -> tuple[int, str]:
        leaf = name.rpartition(".")[2]
        return (EXPERT_ORDER.index(leaf) if leaf in EXPERT_ORDER else len(EXPERT_ORDER)), leaf

    return sorted(parameters, key=place)
