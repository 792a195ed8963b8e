"""lora_adapter_metadata: where diffusers keeps the ranks and alphas of a file, read and written.

An entry of the file's metadata, in JSON: the fields of PEFT's LoraConfig, each with its component
before it (``unet.r``). If there is any, diffusers (0.34 and later) makes every component's
configuration of it, and a component that has none gets PEFT's defaults, alpha 8 and rank 8: so either
all components have theirs, or the file has none, and then alpha is the rank everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from eckart.adapter.adapter import Module
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.peft.config import OTHER_UPDATES, Pattern
from eckart.adapter.formats.peft.patterns import alternation, rank_pattern
from eckart.adapter.formats.single_file.common import alpha_of
from eckart.adapter.formats.single_file.names import read_json
from eckart.errors import AdapterError

ENTRY = "lora_adapter_metadata"

_ANCHORED = re.compile(r"\^([\w.]+)")


class ComponentConfig:
    """What the entry says of one component.

    Parameters
    ----------
    file : AdapterFile
        For messages.
    fields : dict
        Those of LoraConfig.
    """

    def __init__(self, file: AdapterFile, fields: Mapping[str, Any]) -> None:
        where = file.where(ENTRY)
        for key, kind in OTHER_UPDATES.items():
            if fields.get(key):
                raise AdapterError(
                    where, f"turns on {kind} ({key}), which is not handled", "Give a plain LoRA"
                )
        self.rslora = bool(fields.get("use_rslora"))
        # 8 is what LoraConfig takes where nothing is said.
        self._ranks = _Lookup(where, fields.get("rank_pattern"), fields.get("r", 8))
        self._alphas = _Lookup(where, fields.get("alpha_pattern"), fields.get("lora_alpha", 8))

    def rank(self, path: str) -> Any:
        """Return the rank of a module."""
        return self._ranks[path]

    def alpha(self, path: str) -> Any:
        """Return the alpha of a module."""
        return self._alphas[path]


class _Lookup:
    """A pattern of PEFT's.

    diffusers anchors every name (``^down_blocks.0...``); those are looked up whole, since matching them
    one by one costs the square of their number.
    """

    def __init__(self, where: str, table: Any, default: Any) -> None:
        table = {} if table is None else table
        try:
            self._whole = {key[1:]: value for key, value in table.items() if _ANCHORED.fullmatch(key)}
            rest = {key: value for key, value in table.items() if not _ANCHORED.fullmatch(key)}
            self._rest = Pattern(rest, default)
        except (AttributeError, TypeError, re.error):
            raise AdapterError(where, "holds a pattern that is no table of regular expressions") from None

    def __getitem__(self, path: str) -> Any:
        return self._whole[path] if path in self._whole else self._rest[path]


def read_configs(file: AdapterFile, components: tuple[str, ...]) -> dict[str, ComponentConfig]:
    """Return the configuration of each component (``""`` for a file without); none where none is given."""
    fields = read_json(file, ENTRY, None)
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise AdapterError(file.where(ENTRY), "expected a JSON object")
    configs = {}
    for component in components or ("",):
        dot = f"{component}." if component else ""
        own = {key.removeprefix(dot): value for key, value in fields.items() if key.startswith(dot)}
        configs[component] = ComponentConfig(file, own)
    return configs


def metadata_entry(components: Mapping[str, Mapping[str, Module]]) -> dict[str, str]:
    """Return the entry under which diffusers gives every module its scale; none if none is needed.

    Parameters
    ----------
    components : mapping of str to mapping of str to Module
        Modules by the path within each component.

    Notes
    -----
    Not needed where all scales are 1 and all ranks the same. Where ranks differ, diffusers before 0.39
    took an arbitrary alpha without it.
    """
    modules = [m for group in components.values() for m in group.values()]
    if all(m.scale == 1 for m in modules) and len({m.rank for m in modules}) <= 1:
        return {}
    fields: dict[str, Any] = {}
    for component, group in components.items():
        for key, value in _lora_config(component, group).items():
            fields[f"{component}.{key}"] = value
    return {ENTRY: json.dumps(fields, indent=2, sort_keys=True)}


def _lora_config(component: str, group: Mapping[str, Module]) -> dict[str, Any]:
    paths = {path: path for path in group}
    if component.startswith("text_encoder"):
        # diffusers takes "text_model." off the tensors' names where the encoder has none (transformers 5),
        # and not off these; PEFT finds a module by the end of its path, so that the rest is enough.
        paths = {path: path.removeprefix("text_model.") for path in group}
    ranks = {paths[path]: m.rank for path, m in group.items()}
    alphas: dict[str, Any] = {paths[path]: alpha_of(m) for path, m in group.items()}
    rank = max(ranks.values())
    alpha = alphas[max(ranks, key=lambda path: ranks[path])]
    names = sorted(ranks)
    ends = {name[i + 1 :] for name in names for i, letter in enumerate(name) if letter == "."}
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": rank_pattern(ranks, rank),
        "alpha_pattern": rank_pattern(alphas, alpha),
        "target_modules": alternation(names) if ends & set(names) else names,
        "lora_bias": any(m.bias is not None for m in group.values()),
        "use_rslora": False,
    }
