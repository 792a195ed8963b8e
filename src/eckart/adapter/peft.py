"""The PEFT format: adapter_config.json and adapter_model.safetensors, written and read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import TRANSPOSED, Adapter, Array, Module
from eckart.adapter.patterns import rank_pattern, target_modules
from eckart.adapter.statement import check_statement
from eckart.checkpoint import Checkpoint, write_json, write_safetensors
from eckart.checkpoint.kinds import module_of
from eckart.errors import AdapterError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
STATEMENT = "eckart.json"
PREFIX = "base_model.model."


def write_peft(
    folder: Path,
    adapter: Adapter,
    *,
    base_name: str,
    base_modules: Iterable[str],
    base_config: Mapping[str, Any],
) -> None:
    """Write an adapter that ``peft.PeftModel.from_pretrained`` reads.

    Parameters
    ----------
    folder : Path
        An existing folder.
    adapter : Adapter
        With scale 1 everywhere: alpha = r is what every consumer reads right.
    base_name : str
        Written as ``base_model_name_or_path``.
    base_modules : iterable of str
        Paths of all modules of the base that have a two-axis weight, so that no other is wrapped.
    base_config : mapping
        The base's ``config.json``.
    """
    ranks = {m.name: m.rank for m in adapter}
    largest = max(ranks.values(), default=1)
    pattern = rank_pattern(ranks, largest)
    tensors: dict[str, Array] = {}
    for m in adapter:
        key = PREFIX + m.name
        if m.kind == "embedding":
            tensors[f"{key}.lora_embedding_A"] = m.left.T  # (r, vocabulary)
            tensors[f"{key}.lora_embedding_B"] = m.right.T  # (d, r)
        else:
            B, A = (m.right.T, m.left.T) if m.kind in TRANSPOSED else (m.left, m.right)
            tensors[f"{key}.lora_A.weight"] = A  # (r, d_in)
            tensors[f"{key}.lora_B.weight"] = B  # (d_out, r)
        if m.bias is not None:
            tensors[f"{key}.lora_B.bias"] = m.bias
    for name, array in adapter.dense.items():
        tensors[PREFIX + name] = array
    config = {
        "peft_type": "LORA",
        "task_type": task_type(base_config),
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,  # alpha = r for every module: scale 1
        "target_modules": target_modules(ranks, base_modules),
        "modules_to_save": sorted({module_of(name) for name in adapter.dense}) or None,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": any(m.bias is not None for m in adapter),
        "fan_in_fan_out": any(m.kind == "conv1d" for m in adapter),
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }
    adapter.config = config
    write_safetensors(folder / WEIGHTS, tensors, {"format": "pt"})
    write_json(folder / CONFIG, config)
    if adapter.statement:
        write_json(folder / STATEMENT, adapter.statement)


def task_type(config: Mapping[str, Any]) -> str | None:
    """Return PEFT's task type, where setting it does no more than choose a class.

    SEQ_CLS and TOKEN_CLS are left out on purpose: with them PEFT adds the classifier to
    ``modules_to_save`` by itself, beside the factors that the adapter has for it.
    """
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    if name.endswith("ForConditionalGeneration") and config.get("is_encoder_decoder"):
        return "SEQ_2_SEQ_LM"
    return None


def read_peft(path: str | Path) -> Adapter:
    """Read a PEFT LoRA adapter.

    Raises
    ------
    AdapterError
        If it is not LoRA, a module has one factor without the other, shapes do not chain, a rank
        contradicts the configuration, or an entry is NaN.
    """
    folder = Path(path)
    config = _read_config(folder)
    file = Checkpoint.open(folder / WEIGHTS)
    halves: dict[str, dict[str, str]] = {}
    dense: dict[str, Array] = {}
    for key in file.names():
        name = key.removeprefix(PREFIX)
        for mark in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"):
            head, found, rest = name.partition(f".{mark}")
            if found and rest in ("", ".weight", ".bias"):
                halves.setdefault(head, {})[mark + rest.removesuffix(".weight")] = key
                break
        else:
            if "lora_magnitude_vector" in name:
                raise AdapterError(f"{file.path}: {key}", "is DoRA, which is not handled yet")
            dense[name] = np.asarray(file.map(key))
    modules = {name: _module(file, name, keys, config) for name, keys in halves.items()}
    if not modules and not dense:
        raise AdapterError(str(file.path), "holds no LoRA factors")
    statement: dict[str, Any] = {}
    if (folder / STATEMENT).is_file():
        try:
            statement = json.loads((folder / STATEMENT).read_text("utf-8"))
        except (ValueError, RecursionError):
            raise AdapterError(str(folder / STATEMENT), "is not JSON", "Extract again") from None
        statement = check_statement(statement, str(folder / STATEMENT))
    return Adapter(modules, dense, config, statement)


def _read_config(folder: Path) -> dict[str, Any]:
    where = str(folder / CONFIG)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError:
        raise AdapterError(where, "no such file", "Name the folder of a PEFT adapter") from None
    except (OSError, ValueError, RecursionError) as reason:
        raise AdapterError(where, f"cannot be read ({type(reason).__name__})") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(where, f"expected peft_type LORA, found {kind!r}")
    if config.get("use_dora"):
        raise AdapterError(where, "is DoRA, which is not handled yet")
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(name) or {}
        try:
            for key in dict(pattern):
                re.compile(key)
        except (TypeError, ValueError, re.error):
            raise AdapterError(where, f"{name} is not a table of regular expressions") from None
    return config


def _module(file: Checkpoint, name: str, keys: dict[str, str], config: dict[str, Any]) -> Module:
    embedding = "lora_embedding_A" in keys or "lora_embedding_B" in keys
    a, b = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    where = f"{file.path}: {name}"
    if a not in keys or b not in keys:
        raise AdapterError(where, f"has {', '.join(keys)} and lacks {a if a not in keys else b}")
    A, B = np.asarray(file.map(keys[a])), np.asarray(file.map(keys[b]))
    if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
        raise AdapterError(where, f"shapes of B {B.shape} and A {A.shape} do not chain")
    rank = A.shape[0]
    stated = _lookup(config.get("rank_pattern"), name, config.get("r"))
    if stated != rank:
        raise AdapterError(where, f"has rank {rank}, and the configuration says {stated}")
    alpha = _lookup(config.get("alpha_pattern"), name, config.get("lora_alpha"))
    if not isinstance(alpha, (int, float)) or not math.isfinite(alpha) or alpha == 0:
        raise AdapterError(where, f"alpha is {alpha!r}, expected a number other than 0")
    for half, array in ((a, A), (b, B)):
        if not np.isfinite(array.astype(np.float32)).all():
            raise AdapterError(f"{file.path}: {keys[half]}", "holds a NaN or an infinity")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    # Whether a layer is a Conv1D is the base's to say: `Module.transposed` turns it round.
    left, right = (A.T, B.T) if embedding else (B, A)
    bias = np.asarray(file.map(keys["lora_B.bias"])) if "lora_B.bias" in keys else None
    if bias is not None and not np.isfinite(bias.astype(np.float32)).all():
        raise AdapterError(f"{file.path}: {keys['lora_B.bias']}", "holds a NaN or an infinity")
    return Module(name, "embedding" if embedding else "linear", left, right, float(scale), bias)


def _lookup(pattern: Any, name: str, default: Any) -> Any:
    """Return the value of the first key that PEFT would match with a module's name."""

    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default
