"""Module names in formats of one file: component, path, and kohya's flat spelling of both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.single_file.sgm import from_sgm, is_sgm
from eckart.adapter.formats.single_file.vocabulary import TRANSFORMER_FRONTS, split_flat
from eckart.checkpoint.tensorinfo import defect_of_name
from eckart.documents import Document
from eckart.errors import AdapterError
from eckart.text import clip, count

# Entries of a file's metadata that make the way back exact: the module name of each flat name, and the
# components, without which "transformer" in "transformer.h.0" could be a component or a part of GPT-2.
NAMES = "eckart.names"
COMPONENTS = "eckart.components"
MAX_COMPONENTS = 16

T = TypeVar("T")

_FIX = "Correct the entry in the file's metadata, or remove it"
_NAMES = Document(dict[str, str], "the entry", AdapterError, _FIX)
_COMPONENTS = Document(tuple[str, ...], "the entry", AdapterError, _FIX)

COMFY = "diffusion_model."  # ComfyUI's prefix, before a path with its dots
COMFY_TEXT = "text_encoders"  # ComfyUI's prefix of its text encoders, each of which has its own name

KNOWN_COMPONENTS = (
    *("unet", "transformer", "transformer_2", "prior", "decoder", "controlnet", "vae", "image_encoder"),
    *("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4", COMFY_TEXT),
)

# kohya's prefixes. The prefix of the image model is the same for a U-Net and a transformer.
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
    """Return the module name for the part of a key before ``.lora_down.weight``, and whether it is certain.

    Parameters
    ----------
    stem : str
        ``lora_unet_down_blocks_0_...``, ``diffusion_model.double_blocks.0...``, ``unet.down_blocks...``.
    image_model : str
        The component that ``lora_unet_`` stands for in this file; see `image_model_of`.

    Returns
    -------
    name : str
        A flat path with an unknown word is kept as one part.
    is_certain : bool
        Whether all words are known.
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
    """Return the name of a flat path in a component, and whether it is certain."""
    path = split_flat(flat)
    path = _by_diffusers(path) if path is not None else None
    return f"{component}.{flat if path is None else path}", path is not None


def _by_diffusers(path: str) -> str | None:
    """Return a path in the names of diffusers: those of Stable Diffusion's U-Net change, others do not."""
    return from_sgm(path) if is_sgm(path) else path


def image_model_of(stems: Iterable[str]) -> str:
    """Return whether the image model of a file is a ``unet`` or a ``transformer``.

    Parameters
    ----------
    stems : iterable of str
        Keys, or their parts before ``.lora_down.weight``; the first parts of the paths decide.
    """
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

    Parameters
    ----------
    name : str
        The module name.
    components : tuple of str
        All components of its adapter; they decide how the text encoder's prefix is written.

    Raises
    ------
    AdapterError
        If kohya's format has no prefix for its component.

    Examples
    --------
    >>> flat_stem("text_encoder.text_model.encoder.layers.0.mlp.fc1", ("unet", "text_encoder"))
    'lora_te_text_model_encoder_layers_0_mlp_fc1'
    """
    component, path = split_component(name, components)
    if component == COMFY_TEXT:
        raise AdapterError(
            name,
            "has a ComfyUI name, for which the kohya format has no prefix",
            "Use the format diffusers",
        )
    prefix = IMAGE_MODEL
    if component in _TEXT_PREFIXES.values():
        several = "text_encoder_2" in components or "transformer" in components
        prefix = {"text_encoder": "lora_te1_" if several else "lora_te_"}.get(
            component, f"lora_te{component[-1]}_"
        )
        if re.match(r"encoder\.layers\.\d+\.(self_attn|mlp)\.", path):
            path = f"text_model.{path}"  # transformers 5 dropped this part of CLIP's names; readers need it
    return prefix + path.replace(".", "_")


def split_component(name: str, components: Iterable[str], file: AdapterFile | None = None) -> tuple[str, str]:
    """Return the component of a module and its path within it.

    Parameters
    ----------
    name : str
        The module name.
    components : iterable of str
        The components of its adapter. If there are none, the component is ``""``.
    file : AdapterFile, optional
        The file that is read, for the message.

    Raises
    ------
    AdapterError
        If the adapter has components, and the name begins with none of them.
    """
    components = tuple(components)
    if not components:
        return "", name
    component, _, path = name.partition(".")
    if component not in components or not path:
        raise AdapterError(
            file.where(clip(name)) if file else name,
            f"expected a name that begins with a component: {', '.join(components)}",
            "Rename the module, or correct the components in the file's metadata",
        )
    return component, path


def components_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the components that names begin with; none if a name begins with no known component."""
    firsts = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return tuple(firsts) if all(first in KNOWN_COMPONENTS for first in firsts) else ()


def names_metadata(adapter: Adapter, stems: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the entries of the metadata that make the way back exact.

    Parameters
    ----------
    adapter : Adapter
        The adapter to write.
    stems : mapping of str to str, optional
        Flat names by module name.
    """
    entries = {COMPONENTS: json.dumps(list(adapter.components))}
    if stems is not None:
        entries[NAMES] = json.dumps({stem: name for name, stem in stems.items()}, ensure_ascii=False)
    return entries


def read_names(file: AdapterFile) -> dict[str, str]:
    """Return the module names by flat names that a file's metadata states; empty if it states none."""
    names = read_entry(file, NAMES, _NAMES) or {}
    for name in names.values():
        defect = "expected the name of a module, found an empty string" if not name else defect_of_name(name)
        if defect:
            raise AdapterError(file.where(NAMES), defect, _FIX)
    return names


def read_components(file: AdapterFile) -> tuple[str, ...] | None:
    """Return the components that a file's metadata lists; None if it has no such list."""
    listed = read_entry(file, COMPONENTS, _COMPONENTS)
    if listed is not None and len(listed) > MAX_COMPONENTS:
        raise AdapterError(
            file.where(COMPONENTS),
            f"expected at most {MAX_COMPONENTS} components, found {count(listed, 'component')}",
            _FIX,
        )
    for entry in listed or ():
        if not is_component(entry):
            raise AdapterError(file.where(COMPONENTS), f"expected a component, found {clip(entry, 60)}", _FIX)
    return listed


def is_component(name: str) -> bool:
    """Whether a name is safe as the name of a component's folder: letters, digits and underscores only."""
    return re.fullmatch(r"[A-Za-z]\w{0,63}", name, re.ASCII) is not None


def read_entry(file: AdapterFile, entry: str, document: Document[T]) -> T | None:
    """Return an entry of a file's metadata that holds JSON; None if there is none.

    Parameters
    ----------
    file : AdapterFile
        The file.
    entry : str
        Key of the metadata.
    document : Document
        What the entry holds.

    Raises
    ------
    AdapterError
        If it is not such a document.
    """
    if entry not in file.metadata:
        return None
    return document.parse(file.metadata[entry].encode(), file.where(entry))
