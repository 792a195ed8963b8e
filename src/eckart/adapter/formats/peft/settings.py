"""adapter_config.json, as it is read: the settings of LoRA, with their declared types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eckart.adapter.formats.peft.expressions import Pattern
from eckart.documents import Document
from eckart.errors import AdapterError
from eckart.strictjson import JsonObject

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

# Initialisations that subtract B A from the base's weights first: B A is then not an update of the base.
MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class LoraSettings:
    """The settings of PEFT's ``LoraConfig`` that Eckart reads or keeps. Others are ignored.

    Parameters
    ----------
    r : int, optional
        Rank of a module without an entry in `rank_pattern`.
    lora_alpha : int or float, optional
        Alpha of a module without an entry in `alpha_pattern`.
    rank_pattern, alpha_pattern : dict, optional
        Ranks and alphas by regular expression; see `Pattern`.
    use_rslora : bool, optional
        Whether the scale is alpha / sqrt(r).
    target_modules, exclude_modules, modules_to_save, target_parameters : list of str or str, optional
        Names of modules, or one expression.
    trainable_token_indices : list of int or dict of str to list of int, optional
        Rows of a table, or rows by the name of a table.
    base_model_name_or_path, task_type, bias : str, optional
    fan_in_fan_out, lora_bias, ensure_weight_tying : bool, optional
    init_lora_weights : bool or str, optional
        How the factors were initialised.
    layers_to_transform : list of int or int, optional
    layers_pattern : list of str or str, optional
    """

    r: int | None = None
    lora_alpha: int | float | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, int | float] | None = None
    use_rslora: bool | None = None
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | str | None = None
    target_parameters: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    base_model_name_or_path: str | None = None
    task_type: str | None = None
    bias: str | None = None
    fan_in_fan_out: bool | None = None
    lora_bias: bool | None = None
    ensure_weight_tying: bool | None = None
    init_lora_weights: bool | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None

    def ranks(self, where: str) -> Pattern:
        """Return the rank of every module, by its name.

        Parameters
        ----------
        where : str
            The file, for messages.
        """
        return Pattern(self.rank_pattern or {}, self.r, f"{where}: rank_pattern")

    def alphas(self, where: str) -> Pattern:
        """Return the alpha of every module, by its name.

        Parameters
        ----------
        where : str
            The file, for messages.
        """
        return Pattern(self.alpha_pattern or {}, self.lora_alpha, f"{where}: alpha_pattern")


LORA = Document(LoraSettings, "the configuration", AdapterError, "Correct the configuration of the adapter")


@dataclass(frozen=True)
class PeftConfig:
    """An ``adapter_config.json``.

    Parameters
    ----------
    data : dict
        The configuration, unchanged.
    settings : LoraSettings
        The settings that Eckart uses.
    ranks, alphas : Pattern
        Rank and alpha of every module, by its name.
    """

    data: JsonObject
    settings: LoraSettings
    ranks: Pattern
    alphas: Pattern


def read_config(folder: Path) -> PeftConfig:
    """Read ``adapter_config.json`` and refuse a configuration that is not plain LoRA.

    Parameters
    ----------
    folder : Path
        The adapter's folder.

    Returns
    -------
    PeftConfig

    Raises
    ------
    AdapterError
        If the file is missing or not JSON, an entry has another type, a pattern is not supported, or the
        update is not scale * B A.
    """
    path = folder / CONFIG
    config: Any = LORA.load(path)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        shown = repr(kind) if kind is None or isinstance(kind, str) else "another value"
        raise AdapterError(str(path), f"expected peft_type LORA, found {shown}", "Use a LoRA adapter")
    settings = check_settings(config, str(path))
    start = settings.init_lora_weights
    if isinstance(start, str) and start.startswith(MOVES_BASE):
        raise AdapterError(
            str(path),
            f"init_lora_weights is {start}: the factors belong to a base whose weights were changed first",
            "Save the adapter again with PEFT's path_initial_model_for_weight_conversion",
        )
    return PeftConfig(config, settings, settings.ranks(str(path)), settings.alphas(str(path)))


def check_settings(config: Mapping[str, object], where: str) -> LoraSettings:
    """Check the types of LoRA's settings, and refuse those that turn on another method.

    Parameters
    ----------
    config : mapping
        Fields of ``LoraConfig``.
    where : str
        The file, for messages.

    Returns
    -------
    LoraSettings

    Raises
    ------
    AdapterError
        If an entry has another type, or the update is not scale * B A.
    """
    for key, method in OTHER_UPDATES.items():
        if config.get(key):
            raise AdapterError(
                where, f"turns on {method} ({key}), which is not supported", "Use a plain LoRA adapter"
            )
    return LORA.convert(config, where)
