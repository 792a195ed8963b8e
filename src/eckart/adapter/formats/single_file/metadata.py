"""lora_adapter_metadata: where diffusers keeps the ranks and alphas of a file, read and written.

The entry is JSON in the file's metadata: the fields of PEFT's LoraConfig, each prefixed with its component
(``unet.r``). If a file has the entry, diffusers (0.34 and later) takes every component's configuration from
it, and a component without fields gets PEFT's defaults, alpha 8 and rank 8. So either all components have
their fields, or the file has no entry, and then alpha equals the rank everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from eckart.adapter.adapter import Module
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.peft.patterns import alternation, rank_pattern
from eckart.adapter.formats.peft.settings import check_settings
from eckart.adapter.formats.single_file.common import alpha_of
from eckart.adapter.formats.single_file.names import read_entry
from eckart.documents import Document
from eckart.errors import AdapterError
from eckart.strictjson import JsonObject

ENTRY = "lora_adapter_metadata"
_FIELDS = Document(
    JsonObject, "the entry", AdapterError, "Correct the entry in the file's metadata, or remove it"
)

DEFAULT = 8  # LoraConfig's rank and alpha where a file states none


class ComponentConfig:
    """The configuration of one component.

    Parameters
    ----------
    file : AdapterFile
        The file, for messages.
    fields : mapping
        Fields of LoraConfig.

    Raises
    ------
    AdapterError
        If they describe an update that is not scale * B A, an entry has another type, or a pattern is not
        supported.
    """

    def __init__(self, file: AdapterFile, fields: Mapping[str, object]) -> None:
        where = file.where(ENTRY)
        settings = check_settings({"r": DEFAULT, "lora_alpha": DEFAULT, **fields}, where)
        self.rslora = bool(settings.use_rslora)
        self._ranks, self._alphas = settings.ranks(where), settings.alphas(where)

    def rank(self, path: str) -> object:
        """Return the stated rank of a module, as it was parsed."""
        return self._ranks[path]

    def alpha(self, path: str) -> object:
        """Return the stated alpha of a module, as it was parsed."""
        return self._alphas[path]


def read_configs(file: AdapterFile, components: tuple[str, ...]) -> dict[str, ComponentConfig]:
    """Return the configuration of each component; none if the file has no entry.

    Parameters
    ----------
    file : AdapterFile
        The file.
    components : tuple of str
        Its components; a file without any has one configuration, under ``""``.
    """
    fields = read_entry(file, ENTRY, _FIELDS)
    if fields is None:
        return {}
    configs = {}
    for component in components or ("",):
        dot = f"{component}." if component else ""
        own = {key.removeprefix(dot): value for key, value in fields.items() if key.startswith(dot)}
        configs[component] = ComponentConfig(file, own)
    return configs


def metadata_entry(components: Mapping[str, Mapping[str, Module]]) -> dict[str, str]:
    """Return the entry with which diffusers gives every module its scale; empty if it is not needed.

    Parameters
    ----------
    components : mapping of str to mapping of str to Module
        Modules by component, and by the path within it.

    Notes
    -----
    It is not needed if all scales are 1 and all ranks the same. If ranks differ, diffusers before 0.39
    took an arbitrary alpha without it.
    """
    modules = [m for group in components.values() for m in group.values()]
    if all(m.scale == 1 for m in modules) and len({m.rank for m in modules}) <= 1:
        return {}
    fields: JsonObject = {}
    for component, group in components.items():
        for key, value in _lora_config(component, group).items():
            fields[f"{component}.{key}"] = value
    return {ENTRY: json.dumps(fields, indent=2, sort_keys=True)}


def _lora_config(component: str, group: Mapping[str, Module]) -> JsonObject:
    """Return the fields of LoraConfig for the modules of one component."""
    paths = {path: path for path in group}
    if component.startswith("text_encoder"):
        # diffusers removes "text_model." from the tensors' names if the encoder has no such part
        # (transformers 5), but not from these names. PEFT finds a module by the end of its path.
        paths = {path: path.removeprefix("text_model.") for path in group}
    ranks = {paths[path]: m.rank for path, m in group.items()}
    alphas = {paths[path]: alpha_of(m) for path, m in group.items()}
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
