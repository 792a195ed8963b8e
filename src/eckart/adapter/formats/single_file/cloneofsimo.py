"""The format of cloneofsimo's trainer, the first for Stable Diffusion: modules by number. Read only."""

from __future__ import annotations

from collections.abc import Iterable

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import build_module
from eckart.adapter.formats.single_file.common import FACTORS, check_file, finish_reading, has_factors, put
from eckart.adapter.formats.single_file.stable_diffusion import Layer, text_encoder_layers, unet_layers
from eckart.errors import AdapterError

_PARTS = {"down": "A", "up": "B"}
_EMBEDDING = "<embed>"  # what the metadata says of a word vector


def is_cloneofsimo(keys: Iterable[str]) -> bool:
    """Whether a file with these keys is in cloneofsimo's format."""
    return has_factors(keys, "cloneofsimo")


def read_cloneofsimo(file: AdapterFile) -> Adapter:
    """Read an adapter in cloneofsimo's format.

    Raises
    ------
    AdapterError
        If a module has one factor without the other, shapes do not chain, a rank contradicts the
        metadata, or an entry is NaN.

    Notes
    -----
    The format has no alpha: the scale is 1. Numbers become paths if their count and all shapes are those
    of Stable Diffusion 1.x; otherwise they stay, and the adapter can be looked at and not converted.
    """
    check_file(file, "cloneofsimo")
    halves: dict[str, dict[int, dict[str, str]]] = {}
    adapter = Adapter({}, format="cloneofsimo", path=file.path, files=[file])
    for key in file.keys:
        found = FACTORS["cloneofsimo"].fullmatch(key)
        if found:
            numbered = halves.setdefault(found["component"], {})
            numbered.setdefault(int(found["number"]), {})[_PARTS[found["part"]]] = key
        else:
            adapter.unknown[key] = file.raw(key)
    adapter.components = tuple(sorted(halves, reverse=True))  # unet, text_encoder
    for component in adapter.components:
        numbered = halves[component]
        modules = [
            _module(file, f"{component}.{number}", numbered[number], f"{component}:{number}:rank")
            for number in sorted(numbered)
        ]
        layers = unet_layers() if component == "unet" else text_encoder_layers()
        if _fit(sorted(numbered), modules, layers):
            modules = [
                _module(file, f"{component}.{layer.path}", numbered[number], "")
                for number, layer in enumerate(layers)
            ]
        else:
            adapter.notes.append(
                f"the {len(modules)} modules of {component} are not those of Stable Diffusion 1.x: they are "
                "known by number only, and cannot be converted"
            )
        for module in modules:
            put(adapter, module, file, module.name)
    vectors = [key for key in adapter.unknown if file.metadata.get(key) == _EMBEDDING]
    if vectors:
        adapter.notes.append(f"{', '.join(vectors[:4])}: word vectors of a textual inversion")
    return finish_reading(adapter, file)


def _module(file: AdapterFile, name: str, keys: dict[str, str], rank_entry: str) -> Module:
    module = build_module(file, name, keys, None)
    stated = file.metadata.get(rank_entry)
    if stated is not None and stated != str(module.rank):
        raise AdapterError(
            f"{file.path}: {name}", f"has rank {module.rank}, and the metadata says {rank_entry} = {stated}"
        )
    return module


def _fit(numbers: list[int], modules: list[Module], layers: list[Layer]) -> bool:
    """Whether modules are the layers of a model: all numbers there, and all shapes right."""
    return numbers == list(range(len(layers))) and all(
        m.kind == "linear" and m.shape == (layer.rows, layer.columns)
        for m, layer in zip(modules, layers, strict=True)
    )
