"""What a PEFT adapter holds beside factors: whole modules, biases, embedding tables, and rows of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eckart.adapter.adapter import Adapter, Array, Rows
from eckart.adapter.formats.file import AdapterFile
from eckart.checkpoint.kinds import is_head, is_input_embedding, module_of
from eckart.errors import AdapterError

# Entries added to a configuration that was read, and never written.
KEYS = "_keys"  # keys of whole tensors that are not their names
TABLES = "_tables"  # tables that PEFT saved of its own accord, not being among modules_to_save

_ROWS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")


def take_whole(name: str, key: str, file: AdapterFile, adapter: Adapter) -> bool:
    """Put a tensor that is no factor where it belongs; return whether PEFT would load it.

    Notes
    -----
    ``modules_to_save`` and ``bias`` say what is saved whole. Beside that PEFT saves the embedding table and
    the output layer where the vocabulary was resized, and, as ``base_layer.weight``, where they
    have factors (`save_embedding_layers`): a copy of the base's own, unless that was resized too.
    """
    rows = _ROWS.fullmatch(name)
    if rows is not None:
        values = file.array(key)
        adapter.rows[f"{rows[1]}.weight"] = Rows(_indices(rows[1], adapter.config, values, file, key), values)
        return True
    plain = name.replace(".base_layer.", ".")
    table = name.endswith(".weight") and (is_input_embedding(plain) or is_head(plain))
    asked_for = is_saved_whole(name, adapter.config)
    if not (asked_for or table):
        return False
    adapter.dense[plain] = file.array(key)
    if plain != name:
        adapter.config.setdefault(KEYS, {})[plain] = key  # PEFT wants it back as it was
    if not asked_for:
        adapter.config.setdefault(TABLES, []).append(plain)
    return True


def _indices(
    module: str, config: Mapping[str, Any], values: Array, file: AdapterFile, key: str
) -> tuple[int, ...]:
    """Return which rows a table's new rows are, by ``trainable_token_indices``."""
    stated = config.get("trainable_token_indices")
    if isinstance(stated, dict):
        stated = next((rows for name, rows in stated.items() if f".{module}".endswith(f".{name}")), None)
    if (
        not isinstance(stated, list)
        or values.ndim != 2
        or len(stated) != len(values)
        or not all(isinstance(row, int) and row >= 0 for row in stated)
    ):
        raise AdapterError(
            file.where(key),
            f"holds rows of a table, of shape {values.shape}, and trainable_token_indices does not say which",
            "The configuration and the file do not belong together",
        )
    return tuple(stated)


def is_saved_whole(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a tensor that is no factor is among ``modules_to_save``, or a bias that ``bias`` asks for."""
    saved = config.get("modules_to_save") or []
    saved = [saved] if isinstance(saved, str) else list(saved)
    if config.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        saved += ["classifier", "score"]
    path = f".{module_of(name)}."
    if any(f".{part}." in path for part in saved):
        return True
    return config.get("bias") not in (None, "none") and name.endswith(".bias")


def is_copy_of_base(name: str, adapter: Adapter) -> bool:
    """Whether a whole tensor is the table under an adapter's factors, which programs take from the base."""
    config = adapter.config
    saved = name in config.get(TABLES, []) and name in config.get(KEYS, {})
    return saved and module_of(name) in adapter.modules


def keyed(adapter: Adapter, prefix: str) -> dict[str, Array]:
    """Return the whole tensors and the rows by their keys in PEFT's file."""
    keys = adapter.config.get(KEYS, {})
    tensors = {keys.get(name, prefix + name): array for name, array in adapter.dense.items()}
    for name, rows in adapter.rows.items():
        tensors[f"{prefix}{module_of(name)}.token_adapter.trainable_tokens_delta"] = rows.values
    return tensors


def joined_config(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the first of several configurations, with what the others say of what they hold whole."""
    joined = dict(configs[0])
    for config in configs[1:]:
        if "all" in (config.get("bias"), joined.get("bias")):
            joined["bias"] = "all"
        elif config.get("bias") not in (None, "none"):
            joined["bias"] = config["bias"]
        joined[KEYS] = config.get(KEYS, {}) | joined.get(KEYS, {})
        joined[TABLES] = [*joined.get(TABLES, []), *config.get(TABLES, [])]
        if config.get("trainable_token_indices") != joined.get("trainable_token_indices"):
            joined["trainable_token_indices"] = None  # made anew of the rows
    return joined


def settings_of_whole(old: Mapping[str, Any], adapter: Adapter) -> dict[str, Any]:
    """Return the entries of a configuration under which PEFT loads what an adapter holds whole.

    Parameters
    ----------
    old : mapping
        The configuration that was read; kept as far as it still fits.
    adapter : Adapter
    """
    by_bias = old.get("bias") not in (None, "none")  # PEFT loads these biases by that setting alone
    tables = old.get(TABLES, [])
    names = [n for n in adapter.dense if n not in tables and not (by_bias and n.endswith(".bias"))]
    kept = list(old.get("modules_to_save") or []) if names else []
    others = {module_of(n) for n in names if not is_saved_whole(n, {**old, "bias": "none"})}
    saved = kept + sorted(others) or None
    rows: dict[str, Any] = {}
    if adapter.rows:
        by_module = {module_of(name): list(r.indices) for name, r in adapter.rows.items()}
        rows["trainable_token_indices"] = old.get("trainable_token_indices") or by_module
    # Modules that share a weight stay tied, unless both have factors: then each has its own in the file.
    if old.get("ensure_weight_tying") and (saved or rows) and all(m.kind != "embedding" for m in adapter):
        rows["ensure_weight_tying"] = True
    return {"modules_to_save": saved, "bias": old.get("bias", "none") if adapter.dense else "none", **rows}
