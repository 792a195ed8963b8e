"""The format of kohya's trainer, which A1111 and ComfyUI read: flat names, down, up and alpha."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eckart.adapter.adapter import Adapter, Array, Module
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import alpha_tensor, build_module, conv_shaped
from eckart.adapter.formats.single_file.common import (
    FACTORS,
    alpha_of,
    check_file,
    finish_reading,
    has_factors,
    kept_unknown,
    put,
    refuse_what_has_no_place,
)
from eckart.adapter.formats.single_file.names import (
    components_of,
    flat_stem,
    image_model_of,
    names_metadata,
    read_components,
    read_names,
    stem_to_name,
)
from eckart.adapter.formats.writer import FilePlan
from eckart.adapter.statement import Statement
from eckart.errors import AdapterError

_PARTS = {"down": "A", "up": "B", "mid": "mid"}
_PREFIX = re.compile(r"lora_(unet|transformer|te[1-4]?)_")

# Entries of the metadata that change with the tensors, or are written anew; others are kept.
_REPLACED = re.compile(r"ss_network_(module|dim|alpha)|sshs_.*|format|lora_adapter_metadata|eckart\..*")


def is_kohya(keys: Iterable[str]) -> bool:
    """Whether a file with these keys is in kohya's format, or in that of LyCORIS, which is like it."""
    keys = list(keys)
    return has_factors(keys, "kohya") or any(_PREFIX.match(key) for key in keys)


def read_kohya(file: AdapterFile) -> Adapter:
    """Read an adapter in kohya's format.

    Raises
    ------
    AdapterError
        If it is not LoRA, a module has one factor without the other, shapes do not chain, alpha is 0 or
        not one number, or an entry is NaN.

    Notes
    -----
    A flat name has lost its dots. They come from the file's own metadata if eckart wrote it, else from
    the words that are known (see `vocabulary.py`); a name with another word is kept as one part, which is
    noted. The names in the file are kept for the way back.
    """
    check_file(file, "kohya")
    stems: dict[str, dict[str, str]] = {}
    for key in file.keys:
        found = FACTORS["kohya"].fullmatch(key)
        if found:
            stems.setdefault(found["stem"], {})[_PARTS[found["part"]]] = key
    given, image_model = read_names(file), image_model_of(stems)
    adapter = Adapter({}, format="kohya", path=file.path, files=[file])
    alphas = {f"{stem}.alpha" for stem in stems} & set(file.keys)
    uncertain: list[str] = []
    for stem, keys in stems.items():
        name, certain = (given[stem], True) if stem in given else stem_to_name(stem, image_model)
        if not certain:
            uncertain.append(name)
        alpha = file.number(f"{stem}.alpha") if f"{stem}.alpha" in alphas else None
        put(adapter, build_module(file, name, keys, alpha), file, stem)
    used = alphas.union(*(keys.values() for keys in stems.values()))
    adapter.unknown = {key: file.raw(key) for key in file.keys if key not in used}
    stated = read_components(file)
    adapter.components = components_of(adapter.modules) if stated is None else stated
    adapter.config = {
        "keys": dict(zip(adapter.modules, stems, strict=True)),
        "metadata": {k: v for k, v in file.metadata.items() if not _REPLACED.fullmatch(k)},
    }
    if uncertain:
        adapter.notes.append(
            f"{len(uncertain)} flat names hold a word that is not known, and keep their underscores: "
            + ", ".join(uncertain[:3])
        )
    return finish_reading(adapter, file)


class KohyaWriter:
    """Lays an adapter out as kohya's trainer does.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines, see `Module.of_rank`.
    **about
        Of use to other formats.

    Raises
    ------
    AdapterError
        If it holds what the format has no place for, or two names become one.

    Notes
    -----
    Each module has its alpha, which kohya's tools, A1111 and ComfyUI divide by its rank. diffusers (0.42)
    takes one alpha for all attention of a U-Net from such a file, and is right only where alphas and
    ranks are the same throughout: for it, write its own format.
    """

    folder = False
    marker = ""

    def __init__(self, adapter: Adapter, **about: Any) -> None:
        refuse_what_has_no_place(adapter, "kohya")
        self.adapter = adapter
        read = adapter.config if adapter.format == "kohya" else {}
        keys: dict[str, str] = read.get("keys", {})
        # All names as they were, or none: diffusers drops one sort of a file that mixes two of a U-Net.
        if not adapter.modules.keys() <= keys.keys():
            keys = {m.name: flat_stem(m.name, adapter.components) for m in adapter}
        self.stems = {m.name: keys[m.name] for m in adapter}
        self.metadata: dict[str, str] = read.get("metadata", {})
        names: dict[str, str] = {}
        for name, stem in self.stems.items():
            if stem in names:
                raise AdapterError(
                    name, f"and {names[stem]} both become {stem} in the format of kohya", "Write it as peft"
                )
            names[stem] = name

    def files(self) -> list[FilePlan]:
        """Return the one file."""
        modules = list(self.adapter)
        metadata = {
            **self.metadata,
            "format": "pt",
            "ss_network_module": "networks.lora",
            "ss_network_dim": _one_or_dynamic({m.rank for m in modules}),
            "ss_network_alpha": _one_or_dynamic({alpha_of(m) for m in modules}),
            **names_metadata(self.adapter, self.stems),
        }
        return [FilePlan(Path(), [[m.name] for m in modules], kept_unknown(self.adapter, "kohya"), metadata)]

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one module by their keys."""
        (m,) = modules
        B, A = conv_shaped(m)
        stem = self.stems[m.name]
        return {
            f"{stem}.lora_down.weight": A,
            f"{stem}.lora_up.weight": B,
            f"{stem}.alpha": alpha_tensor(alpha_of(m)),
        }

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Nothing comes beside the tensors."""


def _one_or_dynamic(numbers: set[Any]) -> str:
    """Return the number that all modules have, or kohya's word for numbers that differ."""
    return str(numbers.pop()) if len(numbers) == 1 else "Dynamic"
