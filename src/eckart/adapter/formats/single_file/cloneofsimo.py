"""The format of cloneofsimo's trainer, the first for Stable Diffusion: modules by number. Read only."""

from __future__ import annotations

import re

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.format import Format
from eckart.adapter.formats.pairs import build_module
from eckart.adapter.formats.single_file.common import add_module, build_adapter
from eckart.adapter.formats.single_file.stable_diffusion import Layer, text_encoder_layers, unet_layers
from eckart.arrays import Array
from eckart.checkpoint.kinds import Kind
from eckart.errors import AdapterError
from eckart.text import clip, count, preview

NAME = "cloneofsimo"

_FACTOR = re.compile(r"(?P<component>unet|text_encoder):(?P<number>\d+):(?P<part>up|down)")
_PARTS = {"down": "A", "up": "B"}
_EMBEDDING = "<embed>"  # the metadata's word for a word vector


def read_cloneofsimo(file: AdapterFile) -> Adapter:
    """Read an adapter in cloneofsimo's format.

    Parameters
    ----------
    file : AdapterFile
        The file.

    Raises
    ------
    AdapterError
        If a module has one factor without the other, shapes do not chain, a rank contradicts the
        metadata, or an entry is NaN.

    Notes
    -----
    The format has no alpha: the scale is 1. Numbers become paths if their count and all shapes are those
    of Stable Diffusion 1.x. Otherwise the numbers stay; such an adapter can be inspected but not converted.
    """
    keys_by_component: dict[str, dict[int, dict[str, str]]] = {}
    unknown: dict[str, Array] = {}
    for key in file.keys:
        factor = _FACTOR.fullmatch(key)
        if factor:
            by_number = keys_by_component.setdefault(factor["component"], {})
            by_number.setdefault(int(factor["number"]), {})[_PARTS[factor["part"]]] = key
        else:
            unknown[key] = file.raw(key)
    components = tuple(sorted(keys_by_component, reverse=True))  # unet, text_encoder
    modules: dict[str, Module] = {}
    notes: list[str] = []
    for component in components:
        named, note = _read_component(file, component, keys_by_component[component])
        notes += note
        for module in named:
            add_module(modules, module, file, module.name)
    vectors = [key for key in unknown if file.metadata.get(key) == _EMBEDDING]
    if vectors:
        notes.append(f"Word vectors of a textual inversion: {preview(vectors)}")
    return build_adapter(file, NAME, modules, components, unknown, tuple(notes))


def _read_component(
    file: AdapterFile, component: str, by_number: dict[int, dict[str, str]]
) -> tuple[list[Module], list[str]]:
    """Return the modules of a component, and a note if they keep their numbers."""
    numbers = sorted(by_number)
    modules = [
        _module(file, f"{component}.{number}", by_number[number], f"{component}:{number}:rank")
        for number in numbers
    ]
    layers = unet_layers() if component == "unet" else text_encoder_layers()
    if _fit(numbers, modules, layers):
        named = [
            _module(file, f"{component}.{layer.path}", by_number[number], "")
            for number, layer in enumerate(layers)
        ]
        return named, []
    note = (
        f"{component} does not match Stable Diffusion 1.x: its {count(modules, 'module')} "
        "can be inspected by number, but not converted"
    )
    return modules, [note]


def _module(file: AdapterFile, name: str, keys: dict[str, str], rank_entry: str) -> Module:
    """Build a module and check its rank against an entry of the metadata."""
    module = build_module(file, name, keys, None)
    stated = file.metadata.get(rank_entry)
    if stated is not None and stated != str(module.rank):
        raise AdapterError(
            f"{file.path}: {name}",
            f"has rank {module.rank}, but the metadata states {rank_entry} = {clip(stated, 40)}",
            "Download the file again; its tensors and its metadata do not match",
        )
    return module


def _fit(numbers: list[int], modules: list[Module], layers: list[Layer]) -> bool:
    """Whether modules are the layers of a model: no number is missing, and all shapes match."""
    return numbers == list(range(len(layers))) and all(
        m.kind == Kind.LINEAR and m.shape == (layer.rows, layer.columns)
        for m, layer in zip(modules, layers, strict=True)
    )


CLONEOFSIMO = Format(NAME, _FACTOR, read_cloneofsimo)
