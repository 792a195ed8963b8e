"""Parts of a PEFT adapter that are not factors: whole modules, biases, tables, and rows of tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from eckart.adapter.adapter import Adapter, Rows
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import PEFT_PREFIX
from eckart.adapter.formats.peft.origin import peft_origin
from eckart.arrays import Array
from eckart.checkpoint.kinds import Kind, is_head, is_input_embedding, module_of
from eckart.checks import is_whole_number
from eckart.errors import AdapterError
from eckart.strictjson import JsonObject
from eckart.text import count

MAX_COMPARISONS = 20_000_000  # one second; the product of two numbers that are at most hundreds and thousands

_ROWS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")


class WholeTensors:
    """Collects the whole tensors and the rows of a file while it is read.

    Parameters
    ----------
    file : AdapterFile
        The weights.
    config : dict
        The adapter's configuration.

    Attributes
    ----------
    dense, rows
        As in `Adapter`.
    keys, tables
        As in `PeftOrigin`.
    """

    def __init__(self, file: AdapterFile, config: JsonObject) -> None:
        self.file, self.config = file, config
        for setting in ("modules_to_save", "trainable_token_indices"):
            _check_work(file, config.get(setting), setting)
        self.dense: dict[str, Array] = {}
        self.rows: dict[str, Rows] = {}
        self.keys: dict[str, str] = {}
        self.tables: list[str] = []

    def add(self, name: str, key: str) -> bool:
        """Add a tensor if PEFT would load it, and return whether it was added.

        Parameters
        ----------
        name : str
            Name of a tensor that is not a factor.
        key : str
            Its key in the file.

        Notes
        -----
        ``modules_to_save`` and ``bias`` select the tensors that are saved whole. PEFT also saves the
        embedding table and the output layer if the vocabulary was resized, and, as ``base_layer.weight``, if
        they have factors (`save_embedding_layers`): a copy of the base's own table, unless that was resized
        too.
        """
        rows = _ROWS.fullmatch(name)
        if rows is not None:
            values = self.file.array(key)
            self.rows[f"{rows[1]}.weight"] = Rows(self._indices(rows[1], values, key), values)
            return True
        plain = name.replace(".base_layer.", ".")
        is_table = name.endswith(".weight") and (is_input_embedding(plain) or is_head(plain))
        is_configured = is_saved_whole(name, self.config)
        if not (is_configured or is_table):
            return False
        self.dense[plain] = self.file.array(key)
        if plain != name:
            self.keys[plain] = key  # PEFT expects it back under the same key
        if not is_configured:
            self.tables.append(plain)
        return True

    def _indices(self, module: str, values: Array, key: str) -> tuple[int, ...]:
        """Return the indices of a table's new rows, from ``trainable_token_indices``."""
        stated = self.config.get("trainable_token_indices")
        if isinstance(stated, dict):
            fitting = [rows for name, rows in stated.items() if f".{module}".endswith(f".{name}")]
            stated = fitting[0] if fitting else None
        if (
            not isinstance(stated, list)
            or not all(is_whole_number(row) for row in stated)
            or values.ndim != 2
            or len(stated) != len(values)
        ):
            raise AdapterError(
                self.file.where(key),
                f"holds rows of a table, of shape {values.shape}, but trainable_token_indices does not list "
                f"{len(values)} rows for it",
                "Use the configuration and the weights of the same adapter",
            )
        return tuple(stated)


def _check_work(file: AdapterFile, names: object, setting: str) -> None:
    """Raise if comparing every name of a setting with every key of a file would take too long."""
    number = len(names) if isinstance(names, (list, dict)) else 1
    if number * len(file.keys) > MAX_COMPARISONS:
        raise AdapterError(
            str(file.path),
            f"{setting} of its configuration has {number:,} entries for {count(file.keys, 'tensor')}: "
            f"expected at most {MAX_COMPARISONS:,} pairs of both",
            "Use the configuration and the weights of the same adapter",
        )


def is_saved_whole(name: str, config: Mapping[str, object]) -> bool:
    """Whether ``modules_to_save`` or ``bias`` says that PEFT saves a tensor whole.

    Parameters
    ----------
    name : str
        Name of a tensor that is not a factor.
    config : mapping
        PEFT's configuration.
    """
    saved = _modules_to_save(config)
    if config.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        saved += ["classifier", "score"]
    path = f".{module_of(name)}."
    if any(f".{part}." in path for part in saved):
        return True
    return config.get("bias") not in (None, "none") and name.endswith(".bias")


def is_copy_of_base(name: str, adapter: Adapter) -> bool:
    """Whether a whole tensor is the table under an adapter's factors, which programs take from the base.

    Parameters
    ----------
    name : str
        A name in `Adapter.dense`.
    adapter : Adapter
        The adapter.
    """
    origin = peft_origin(adapter.origin)
    return name in origin.tables and name in origin.keys and module_of(name) in adapter.modules


def keyed(adapter: Adapter) -> dict[str, Array]:
    """Return the whole tensors and the rows of an adapter by their keys in PEFT's file."""
    keys = peft_origin(adapter.origin).keys
    tensors = {keys.get(name, PEFT_PREFIX + name): array for name, array in adapter.dense.items()}
    for name, rows in adapter.rows.items():
        tensors[f"{PEFT_PREFIX}{module_of(name)}.token_adapter.trainable_tokens_delta"] = rows.values
    return tensors


def joined_config(configs: Sequence[JsonObject]) -> JsonObject:
    """Return the configuration of the sum of several adapters.

    Parameters
    ----------
    configs : sequence of dict
        `Adapter.config` of each, in order.

    Returns
    -------
    dict
        The first, with the settings that the others need for their whole tensors and rows.
    """
    joined = dict(configs[0])
    for config in configs[1:]:
        if "all" in (config.get("bias"), joined.get("bias")):
            joined["bias"] = "all"
        elif config.get("bias") not in (None, "none"):
            joined["bias"] = config["bias"]
        if config.get("trainable_token_indices") != joined.get("trainable_token_indices"):
            joined["trainable_token_indices"] = None  # the writer lists the rows again
    return joined


def settings_of_whole(old: Mapping[str, object], adapter: Adapter) -> JsonObject:
    """Return the settings with which PEFT loads an adapter's whole tensors and rows.

    Parameters
    ----------
    old : mapping
        The configuration that was read; kept as far as it still fits.
    adapter : Adapter
        The adapter to write.

    Returns
    -------
    dict
        ``modules_to_save``, ``bias``, and if needed ``trainable_token_indices`` and
        ``ensure_weight_tying``.
    """
    bias = old.get("bias", "none")
    loads_biases = bias not in (None, "none")  # PEFT loads these biases with that setting alone
    tables = peft_origin(adapter.origin).tables
    names = [n for n in adapter.dense if n not in tables and not (loads_biases and n.endswith(".bias"))]
    kept = _modules_to_save(old) if names else []
    others = {module_of(n) for n in names if not is_saved_whole(n, {**old, "bias": "none"})}
    settings: JsonObject = {
        "modules_to_save": kept + sorted(others) or None,
        "bias": bias if adapter.dense else "none",
    }
    if adapter.rows:
        by_module = {module_of(name): list(r.indices) for name, r in adapter.rows.items()}
        settings["trainable_token_indices"] = old.get("trainable_token_indices") or by_module
    # Modules that share a weight stay tied, unless both have factors: then each has its own in the file.
    has_whole = bool(settings["modules_to_save"]) or bool(adapter.rows)
    if old.get("ensure_weight_tying") and has_whole and all(m.kind != Kind.EMBEDDING for m in adapter):
        settings["ensure_weight_tying"] = True
    return settings


def _modules_to_save(config: Mapping[str, object]) -> list[str]:
    """Return the entry as a list; PEFT also accepts a single name."""
    entry = config.get("modules_to_save")
    if isinstance(entry, str):
        return [entry]
    return [str(name) for name in entry] if isinstance(entry, list) else []
