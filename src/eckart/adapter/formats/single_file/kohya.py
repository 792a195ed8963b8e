"""The format of kohya's trainer, which A1111 and ComfyUI read: flat names, down, up and alpha."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eckart.adapter.adapter import Adapter, Module, Origin
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.format import Format
from eckart.adapter.formats.pairs import NOT_PEFT, alpha_tensor, build_module, conv_shaped
from eckart.adapter.formats.single_file.common import (
    add_module,
    alpha_of,
    build_adapter,
    kept_unknown,
    notes_on_unknown,
    refuse_unstorable,
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
from eckart.arrays import Array
from eckart.errors import AdapterError
from eckart.text import count, preview

NAME = "kohya"

_FACTOR = re.compile(NOT_PEFT + r"(?P<stem>.+)\.lora_(?P<part>down|up|mid)\.weight")
_PARTS = {"down": "A", "up": "B", "mid": "mid"}
_PREFIX = re.compile(r"lora_(unet|transformer|te[1-4]?)_")

# Entries of the metadata that change with the tensors or are written by Eckart; others are kept.
_REPLACED = re.compile(r"ss_network_(module|dim|alpha)|sshs_.*|format|lora_adapter_metadata|eckart\..*")


@dataclass(frozen=True)
class KohyaOrigin(Origin):
    """What is remembered of a file in kohya's format.

    Parameters
    ----------
    stems : mapping of str to str
        The flat name of each module.
    metadata : mapping of str to str
        Entries of the file's metadata that do not change with its tensors.
    """

    stems: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_kohya(file: AdapterFile) -> Adapter:
    """Read an adapter in kohya's format, or in that of LyCORIS, which has the same keys.

    Parameters
    ----------
    file : AdapterFile
        The file.

    Raises
    ------
    AdapterError
        If a module has one factor without the other, shapes do not chain, alpha is 0 or not one number, or
        an entry is NaN.

    Notes
    -----
    A flat name has lost its dots. They come from the file's own metadata if Eckart wrote it, else from
    the known words (see `vocabulary.py`). A name with an unknown word is kept as one part, with a note.
    The flat names are remembered for the way back.
    """
    keys_by_stem: dict[str, dict[str, str]] = {}
    for key in file.keys:
        factor = _FACTOR.fullmatch(key)
        if factor:
            keys_by_stem.setdefault(factor["stem"], {})[_PARTS[factor["part"]]] = key
    stated_names, image_model = read_names(file), image_model_of(keys_by_stem)
    alphas = {f"{stem}.alpha" for stem in keys_by_stem} & set(file.keys)
    modules: dict[str, Module] = {}
    uncertain: list[str] = []
    for stem, keys in keys_by_stem.items():
        if stem in stated_names:
            name = stated_names[stem]
        else:
            name, is_certain = stem_to_name(stem, image_model)
            if not is_certain:
                uncertain.append(name)
        alpha = file.number(f"{stem}.alpha") if f"{stem}.alpha" in alphas else None
        add_module(modules, build_module(file, name, keys, alpha), file, stem)
    used = alphas.union(*(keys.values() for keys in keys_by_stem.values()))
    stated_components = read_components(file)
    return build_adapter(
        file,
        NAME,
        modules,
        components_of(modules) if stated_components is None else stated_components,
        unknown={key: file.raw(key) for key in file.keys if key not in used},
        notes=_notes_on_names(uncertain),
        origin=KohyaOrigin(
            stems=dict(zip(modules, keys_by_stem, strict=True)),
            metadata={k: v for k, v in file.metadata.items() if not _REPLACED.fullmatch(k)},
        ),
    )


def _notes_on_names(uncertain: list[str]) -> tuple[str, ...]:
    """Return a note about names that could not be split; none if there are none."""
    if not uncertain:
        return ()
    names = count(uncertain, "flat name")
    return (f"Unknown words in {names}, which therefore keep their underscores: {preview(uncertain)}",)


class KohyaWriter:
    """Lays an adapter out as kohya's trainer does.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines; see `Module.of_rank`.

    Raises
    ------
    AdapterError
        If it holds something that the format cannot store, or two names become one.

    Notes
    -----
    Each module has its alpha, which kohya's tools, A1111 and ComfyUI divide by its rank. diffusers (0.42)
    reads one alpha for all attention layers of a U-Net from such a file, which is correct only if all alphas
    and ranks are the same. Write the diffusers format for it.
    """

    is_folder = False
    marker = ""

    def __init__(self, adapter: Adapter) -> None:
        refuse_unstorable(adapter, NAME)
        self.adapter = adapter
        self.notes = notes_on_unknown(adapter, NAME)
        origin = adapter.origin if isinstance(adapter.origin, KohyaOrigin) else KohyaOrigin()
        self.metadata = origin.metadata
        # Keep all original names or none: diffusers drops one kind of name from a file that mixes two.
        if adapter.modules.keys() <= origin.stems.keys():
            self.stems = {m.name: origin.stems[m.name] for m in adapter}
        else:
            self.stems = {m.name: flat_stem(m.name, adapter.components) for m in adapter}
        names: dict[str, str] = {}
        for name, stem in self.stems.items():
            if stem in names:
                raise AdapterError(
                    name,
                    f"this name and {names[stem]} both become {stem} in the kohya format",
                    "Use the format peft",
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
        return [FilePlan(Path(), [[m.name] for m in modules], kept_unknown(self.adapter, NAME), metadata)]

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
        """Do nothing: the format has no other files."""


def _one_or_dynamic(numbers: set[int] | set[float]) -> str:
    """Return the number that all modules share, or kohya's word for numbers that differ."""
    return str(numbers.pop()) if len(numbers) == 1 else "Dynamic"


# LoHa and LoKr files have kohya's prefixes and no factors of a LoRA; they are recognised and then refused.
KOHYA = Format(NAME, _FACTOR, read_kohya, KohyaWriter, other_key=_PREFIX)
