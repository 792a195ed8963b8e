"""Module names in formats of one file: the component, the path, and kohya's flat spelling of both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.single_file.sgm import from_sgm, is_sgm
from eckart.adapter.formats.single_file.vocabulary import TRANSFORMER_FRONTS, split_flat
from eckart.errors import AdapterError

# Entries of a file's metadata, so that the way back is exact: flat name to module name, and the
# components, without which "transformer.h.0" could be a component or GPT-2.
NAMES = "eckart.names"
COMPONENTS = "eckart.components"

COMFY = "diffusion_model."  # ComfyUI's prefix, before a path with its dots
COMFY_TEXT = "text_encoders"  # and that before its text encoders, each by a name of its own

KNOWN_COMPONENTS = (
    "unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3",
    "text_encoder_4", "prior", "decoder", "controlnet", "vae", "image_encoder", COMFY_TEXT,
)  # fmt: skip

# kohya's prefixes. That of the model which makes the image does not say which of the two it is.
IMAGE_MODEL = "lora_unet_"
_TEXT_PREFIXES = {
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_te4_": "text_encoder_4",
}
_IMAGE_PREFIXES = (IMAGE_MODEL, "lora_transformer_", "lycoris_")


def stem_to_name(stem: str, image_model: str) -> tuple[str, bool]:
    """Return the module name for what comes before ``.lora_down.weight``, and whether it is certain.

    Parameters
    ----------
    stem : str
        ``lora_unet_down_blocks_0_...``, ``diffusion_model.double_blocks.0...``, ``unet.down_blocks...``.
    image_model : str
        The component that ``lora_unet_`` stands for in this file.

    Notes
    -----
    A flat path with an unknown word is kept as one part.
    """
    if stem.startswith(COMFY):
        path = stem.removeprefix(COMFY)
        return f"{image_model}.{_by_diffusers(path) or path}", True
    for prefix, component in _TEXT_PREFIXES.items():
        if stem.startswith(prefix):
            return _restored(component, stem.removeprefix(prefix))
    for prefix in _IMAGE_PREFIXES:
        if stem.startswith(prefix):
            return _restored(image_model, stem.removeprefix(prefix))
    return stem, True


def _restored(component: str, flat: str) -> tuple[str, bool]:
    path = split_flat(flat)
    path = _by_diffusers(path) if path is not None else None
    return f"{component}.{flat if path is None else path}", path is not None


def _by_diffusers(path: str) -> str | None:
    """Return a path as diffusers has it: the U-Net of Stable Diffusion renamed, others as they are."""
    return from_sgm(path) if is_sgm(path) else path


def image_model_of(stems: Iterable[str]) -> str:
    """Say whether the image model of a file is a ``unet`` or a ``transformer``, by its first parts."""
    for stem in stems:
        if stem.startswith("lora_transformer_"):
            return "transformer"
        path = stem.removeprefix(COMFY) if stem.startswith(COMFY) else None
        for prefix in _IMAGE_PREFIXES:
            if stem.startswith(prefix):
                path = split_flat(stem.removeprefix(prefix))
        if path is not None and path.partition(".")[0] in TRANSFORMER_FRONTS:
            return "transformer"
    return "unet"


def flat_stem(name: str, components: tuple[str, ...]) -> str:
    """Return kohya's spelling of a module name.

    Examples
    --------
    >>> flat_stem("text_encoder.text_model.encoder.layers.0.mlp.fc1", ("unet", "text_encoder"))
    'lora_te_text_model_encoder_layers_0_mlp_fc1'
    """
    component, path = split_component(name, components)
    if component == COMFY_TEXT:
        raise AdapterError(
            name,
            "is named as ComfyUI names it, for which kohya's format has no prefix",
            "Write it as diffusers",
        )
    prefix = IMAGE_MODEL
    if component in _TEXT_PREFIXES.values():
        several = "text_encoder_2" in components or "transformer" in components
        prefix = {"text_encoder": "lora_te1_" if several else "lora_te_"}.get(
            component, f"lora_te{component[-1]}_"
        )
        if re.match(r"encoder\.layers\.\d+\.(self_attn|mlp)\.", path):
            path = f"text_model.{path}"  # transformers 5 left the part out of CLIP's names; readers want it
    return prefix + path.replace(".", "_")


def split_component(name: str, components: Iterable[str]) -> tuple[str, str]:
    """Return the component and the path within it; an adapter without components has ``""``.

    Raises
    ------
    AdapterError
        If the adapter has components, and the name is in none of them.
    """
    components = tuple(components)
    if not components:
        return "", name
    component, _, path = name.partition(".")
    if component not in components or not path:
        raise AdapterError(
            name,
            f"belongs to none of the components {', '.join(components)}",
            "Begin its name with one of them",
        )
    return component, path


def components_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the components that names begin with, if all begin with one that is known."""
    firsts = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return tuple(firsts) if all(first in KNOWN_COMPONENTS for first in firsts) else ()


def names_metadata(adapter: Adapter, stems: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the entries that make the way back exact.

    Parameters
    ----------
    adapter : Adapter
    stems : mapping of str to str, optional
        Flat names by module name.
    """
    entries = {COMPONENTS: json.dumps(list(adapter.components))}
    if stems is not None:
        entries[NAMES] = json.dumps({stem: name for name, stem in stems.items()}, ensure_ascii=False)
    return entries


def read_names(file: AdapterFile) -> dict[str, str]:
    """Return the module names by flat names that a file's metadata gives; none if it has none."""
    names = read_json(file, NAMES, {})
    if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
        raise AdapterError(file.where(NAMES), "expected a table of flat names and module names")
    return names


def read_components(file: AdapterFile) -> tuple[str, ...] | None:
    """Return the components that a file's metadata lists; None if it does not say."""
    listed = read_json(file, COMPONENTS, None)
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(is_component(entry) for entry in listed):
        raise AdapterError(file.where(COMPONENTS), "expected a list of components")
    return tuple(listed)


def is_component(name: object) -> bool:
    """Whether a name is one that a folder of a pipeline may have, and no way out of it."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w{0,63}", name, re.ASCII) is not None


def read_json(file: AdapterFile, entry: str, otherwise: object) -> object:
    """Parse an entry of a file's metadata."""
    if entry not in file.metadata:
        return otherwise
    try:
        return json.loads(file.metadata[entry])
    except (ValueError, RecursionError):
        raise AdapterError(file.where(entry), "is not JSON", "Make the adapter again") from None
