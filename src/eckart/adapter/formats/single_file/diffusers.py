"""The format of diffusers: component, path, lora_A and lora_B; older spellings are read too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eckart.adapter.adapter import Adapter, Module, Origin
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.format import Format
from eckart.adapter.formats.pairs import NOT_PEFT, alpha_tensor, build_module, check_alpha, conv_shaped
from eckart.adapter.formats.single_file.common import (
    add_module,
    alpha_of,
    build_adapter,
    kept_unknown,
    notes_on_unknown,
    refuse_unstorable,
)
from eckart.adapter.formats.single_file.metadata import metadata_entry, read_configs
from eckart.adapter.formats.single_file.names import (
    COMFY,
    components_of,
    image_model_of,
    names_metadata,
    read_components,
    split_component,
    stem_to_name,
)
from eckart.adapter.formats.writer import FilePlan
from eckart.adapter.statement import Statement
from eckart.arrays import Array
from eckart.errors import AdapterError
from eckart.text import clip

NAME = "diffusers"
ONLY = "transformer"  # the component under which an adapter without components is written

_FACTOR = re.compile(
    NOT_PEFT + r"(?:(?P<stem>.+)\.lora_(?P<part>[AB])(?:\.default)?\.(?P<leaf>weight|bias)"
    r"|(?P<old_stem>.+?)(?P<style>\.lora|_lora|\.lora_linear_layer)\.(?P<old_part>down|up)\.weight)"
)
_OLD_PARTS = {"down": "A", "up": "B"}
_ALPHA = re.compile(
    r"(?P<stem>.+?)(?:(?P<style>\.lora|_lora|\.lora_linear_layer)(?:\.down\.weight)?)?\.alpha"
)

# diffusers' first spelling used the same names for all models; in a text encoder they stand for CLIP's.
_IN_TEXT_ENCODER = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_IN_IMAGE_MODEL = {"to_out": "to_out.0"}

# First parts of FLUX's original names, which diffusers reads in kohya's format only.
_FOREIGN = ("double_blocks.", "single_blocks.", "joint_blocks.")


@dataclass(frozen=True)
class DiffusersOrigin(Origin):
    """What is remembered of a file in the format of diffusers.

    Parameters
    ----------
    comfy_stems : mapping of str to str
        For a file with ComfyUI's names, the start of each module's keys; else empty.
    alpha_in_metadata : bool
        Whether alphas are in the metadata only, where some programs do not read them.
    """

    comfy_stems: Mapping[str, str] = field(default_factory=dict)
    alpha_in_metadata: bool = False


def read_diffusers(file: AdapterFile) -> Adapter:
    """Read an adapter in the format of diffusers.

    Parameters
    ----------
    file : AdapterFile
        The file.

    Raises
    ------
    AdapterError
        If a module has one factor without the other, shapes do not chain, alpha is 0, a rank contradicts
        the metadata, or an entry is NaN.

    Notes
    -----
    The scale comes from a tensor ``.alpha`` if there is one, else from ``lora_adapter_metadata``, else it
    is 1. A file of one model, as ``save_lora_adapter`` writes it, has no components.
    """
    image_model = image_model_of(key for key in file.keys if key.startswith(COMFY))
    keys_by_name: dict[str, dict[str, str]] = {}
    alphas: dict[str, str] = {}
    stems: dict[str, str] = {}
    for key in file.keys:
        factor = _FACTOR.fullmatch(key)
        if factor is None:
            alpha = _ALPHA.fullmatch(key)
            if alpha is not None:
                alphas[_module_name(alpha["stem"], alpha["style"], image_model)] = key
            continue
        name = _module_name(factor["stem"] or factor["old_stem"], factor["style"], image_model)
        part = factor["part"] or _OLD_PARTS[factor["old_part"]]
        part = "bias" if factor["leaf"] == "bias" else part
        keys = keys_by_name.setdefault(name, {})
        if part in keys:
            raise AdapterError(
                file.where(key),
                f"is a second {part} of {name}, in addition to {keys[part]}",
                "Remove one of the two from the file",
            )
        keys[part] = key
        if factor["stem"]:
            stems[name] = factor["stem"]
    alphas = {name: key for name, key in alphas.items() if name in keys_by_name}
    is_comfy = any(stem.startswith(COMFY) for stem in stems.values())
    return _read(file, keys_by_name, alphas, stems if is_comfy else {})


def _read(
    file: AdapterFile,
    keys_by_name: dict[str, dict[str, str]],
    alphas: dict[str, str],
    comfy_stems: dict[str, str],
) -> Adapter:
    """Build the adapter from the keys of its factors and alphas by module name."""
    stated = read_components(file)
    components = components_of(keys_by_name) if stated is None else stated
    has_none = stated == ()  # Eckart wrote it, under one component that is not part of the names
    prefixes = (ONLY,) if has_none else components
    configs = read_configs(file, prefixes)
    modules: dict[str, Module] = {}
    for name, keys in keys_by_name.items():
        component, path = split_component(name, prefixes, file)
        config = configs.get(component)
        alpha, rslora = None, False
        if name in alphas:
            alpha = file.number(alphas[name])
        elif config is not None:
            alpha, rslora = check_alpha(config.alpha(path), f"{file.path}: {name}"), config.rslora
        module = build_module(file, path if has_none else name, keys, alpha, rslora)
        if config is not None and config.rank(path) != module.rank:
            raise AdapterError(
                f"{file.path}: {name}",
                f"has rank {module.rank}, but the file's metadata states {clip(str(config.rank(path)), 40)}",
                "Use a file that was saved in one piece; this one mixes two adapters",
            )
        add_module(modules, module, file, name)
    used = {key for keys in keys_by_name.values() for key in keys.values()} | set(alphas.values())
    return build_adapter(
        file,
        NAME,
        modules,
        components,
        unknown={key: file.raw(key) for key in file.keys if key not in used},
        origin=DiffusersOrigin(comfy_stems, alpha_in_metadata=bool(configs) and not alphas),
    )


def _module_name(stem: str, style: str | None, comfy: str) -> str:
    """Return the module's name for the stem of a key and the style in which "lora" is joined to it."""
    if style is None:
        return stem_to_name(stem, comfy)[0] if stem.startswith(COMFY) else stem
    stem = stem.replace(".processor.", ".")
    if style == "_lora":
        before, _, leaf = stem.rpartition(".")
        renamed = _IN_TEXT_ENCODER if stem.startswith("text_encoder") else _IN_IMAGE_MODEL
        return f"{before}.{renamed.get(leaf, leaf)}"
    return stem


class DiffusersWriter:
    """Lays an adapter out as diffusers does.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines; see `Module.of_rank`.

    Raises
    ------
    AdapterError
        If it holds something that the format cannot store.

    Notes
    -----
    Scales other than 1 go into the metadata, as diffusers itself writes them: its Stable Diffusion
    pipelines raise on a tensor ``.alpha`` next to ``lora_A``. diffusers before 0.34 does not read that
    metadata. diffusers loads a text encoder only if some of its attention has an update.
    """

    is_folder = False
    marker = ""

    def __init__(self, adapter: Adapter) -> None:
        refuse_unstorable(adapter, NAME, bias=True)
        self.adapter = adapter
        self.paths = {m.name: split_component(m.name, adapter.components) for m in adapter}
        # ComfyUI's names are kept: diffusers' own could not be turned back into them.
        origin = adapter.origin if isinstance(adapter.origin, DiffusersOrigin) else DiffusersOrigin()
        has_stems = adapter.modules.keys() <= origin.comfy_stems.keys()
        self.comfy_stems: Mapping[str, str] = origin.comfy_stems if has_stems else {}
        self.notes = (*self._notes_on_names(), *notes_on_unknown(adapter, NAME))

    def _notes_on_names(self) -> tuple[str, ...]:
        """Return a note about names that diffusers cannot read in this format; none if there are none."""
        foreign = [name for name, (_, path) in self.paths.items() if path.startswith(_FOREIGN)]
        if not foreign or self.comfy_stems:
            return ()
        return (
            f"diffusers reads names such as {clip(foreign[0])} in the kohya format only; "
            "use the format kohya for it",
        )

    def files(self) -> list[FilePlan]:
        """Return the one file."""
        components: dict[str, dict[str, Module]] = {}
        for name, (component, path) in self.paths.items():
            if name not in self.comfy_stems:
                components.setdefault(component or ONLY, {})[path] = self.adapter.modules[name]
        # ComfyUI's keys show the components; they are read without the entry.
        names = {} if self.comfy_stems else names_metadata(self.adapter)
        metadata = {"format": "pt", **metadata_entry(components), **names}
        fixed = kept_unknown(self.adapter, NAME)
        return [FilePlan(Path(), [[m.name] for m in self.adapter], fixed, metadata)]

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one module by their keys."""
        (m,) = modules
        B, A = conv_shaped(m)
        component, path = self.paths[m.name]
        stem = self.comfy_stems.get(m.name, f"{component or ONLY}.{path}")
        tensors = {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}
        if m.bias is not None:
            tensors[f"{stem}.lora_B.bias"] = m.bias
        if m.name in self.comfy_stems:
            tensors[f"{stem}.alpha"] = alpha_tensor(alpha_of(m))  # ComfyUI reads no metadata
        return tensors

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Do nothing: the format has no other files."""


DIFFUSERS = Format(NAME, _FACTOR, read_diffusers, DiffusersWriter)
