"""The format of diffusers: component, path, lora_A and lora_B; older spellings are read too."""

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
from eckart.errors import AdapterError

ONLY = "transformer"  # the component under which an adapter without components is written

# diffusers' first spelling had one for all models; in a text encoder it stands for CLIP's names.
_IN_TEXT_ENCODER = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_IN_IMAGE_MODEL = {"to_out": "to_out.0"}

_ALPHA = re.compile(
    r"(?P<stem>.+?)(?:(?P<style>\.lora|_lora|\.lora_linear_layer)(?:\.down\.weight)?)?\.alpha"
)
# First parts of FLUX as its authors wrote it, which diffusers knows in kohya's format only.
_FOREIGN = ("double_blocks.", "single_blocks.", "joint_blocks.")


def is_diffusers(keys: Iterable[str]) -> bool:
    """Whether a file with these keys is in a format of diffusers."""
    return has_factors(keys, "diffusers")


def read_diffusers(file: AdapterFile) -> Adapter:
    """Read an adapter in the format of diffusers.

    Raises
    ------
    AdapterError
        If it is not LoRA, a module has one factor without the other, shapes do not chain, alpha is 0, a
        rank contradicts the metadata, or an entry is NaN.

    Notes
    -----
    The scale comes from a tensor ``.alpha`` if there is one, else from ``lora_adapter_metadata``, else it
    is 1. A file of one model, as ``save_lora_adapter`` writes it, has no components.
    """
    check_file(file, "diffusers")
    halves: dict[str, dict[str, str]] = {}
    alphas: dict[str, str] = {}
    comfy = image_model_of(key for key in file.keys if key.startswith(COMFY))
    keys: dict[str, str] = {}
    for key in file.keys:
        found = FACTORS["diffusers"].fullmatch(key)
        alpha = None if found else _ALPHA.fullmatch(key)
        if alpha:
            alphas[_module_name(alpha["stem"], alpha["style"], comfy)] = key
        if not found:
            continue
        name = _module_name(found["stem"] or found["old_stem"], found["style"], comfy)
        part = found["part"] or {"down": "A", "up": "B"}[found["old_part"]]
        part = "bias" if found["leaf"] == "bias" else part
        if part in halves.setdefault(name, {}):
            raise AdapterError(file.where(key), f"is a second {part} of {name}, beside {halves[name][part]}")
        halves[name][part] = key
        if found["stem"]:
            keys[name] = found["stem"]
    alphas = {name: key for name, key in alphas.items() if name in halves}
    return _read(file, halves, alphas, keys if any(key.startswith(COMFY) for key in keys.values()) else {})


def _read(
    file: AdapterFile, halves: dict[str, dict[str, str]], alphas: dict[str, str], keys: dict[str, str]
) -> Adapter:
    stated = read_components(file)
    components = components_of(halves) if stated is None else stated
    configs = read_configs(file, (ONLY,) if stated == () else components)
    adapter = Adapter({}, format="diffusers", path=file.path, files=[file], components=components)
    for name, keys_of in halves.items():
        component, path = split_component(name, (ONLY,) if stated == () else components)
        config = configs.get(component)
        alpha, rslora = None, False
        if name in alphas:
            alpha = file.number(alphas[name])
        elif config is not None:
            alpha, rslora = config.alpha(path), config.rslora
        module = build_module(file, path if stated == () else name, keys_of, alpha, rslora)
        if config is not None and config.rank(path) != module.rank:
            raise AdapterError(
                f"{file.path}: {name}",
                f"has rank {module.rank}, and the file's metadata says {config.rank(path)}",
            )
        put(adapter, module, file, name)
    used = {key for keys_of in halves.values() for key in keys_of.values()} | set(alphas.values())
    adapter.unknown = {key: file.raw(key) for key in file.keys if key not in used}
    adapter.config = {"keys": keys} if keys else {}
    if not alphas and any(configs.values()):
        adapter.config["alpha_in_metadata"] = True
    return finish_reading(adapter, file)


def _module_name(stem: str, style: str | None, comfy: str) -> str:
    """Return the module's name for the stem of a key, and how the word "lora" is joined to it."""
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
        Its modules may be outlines, see `Module.of_rank`.
    **about
        Of use to other formats.

    Raises
    ------
    AdapterError
        If it holds what the format has no place for.

    Notes
    -----
    Scales other than 1 go into the metadata, as diffusers itself writes them: a tensor ``.alpha`` beside
    ``lora_A`` is an error to its pipelines of Stable Diffusion. diffusers before 0.34 does not read
    them. A text encoder is loaded by diffusers only if some of its attention has an update.
    """

    folder = False
    marker = ""

    def __init__(self, adapter: Adapter, **about: Any) -> None:
        refuse_what_has_no_place(adapter, "diffusers", bias=True)
        self.adapter = adapter
        self.paths = {m.name: split_component(m.name, adapter.components) for m in adapter}
        # ComfyUI's names stay as they were: diffusers' own would be lost on it.
        keys = adapter.config.get("keys", {}) if adapter.format == "diffusers" else {}
        self.comfy: dict[str, str] = keys if adapter.modules.keys() <= keys.keys() else {}
        foreign = [name for name, (_, path) in self.paths.items() if path.startswith(_FOREIGN)]
        if foreign and not self.comfy:
            note = (
                f"{foreign[0]} and others have names that diffusers reads in the format of kohya only; "
                "write them in that"
            )
            if note not in adapter.notes:
                adapter.notes.append(note)

    def files(self) -> list[FilePlan]:
        """Return the one file."""
        components: dict[str, dict[str, Module]] = {}
        for name, (component, path) in self.paths.items():
            if name not in self.comfy:
                components.setdefault(component or ONLY, {})[path] = self.adapter.modules[name]
        # ComfyUI's keys tell the components by themselves, as they did when they were read.
        names = {} if self.comfy else names_metadata(self.adapter)
        metadata = {"format": "pt", **metadata_entry(components), **names}
        fixed = kept_unknown(self.adapter, "diffusers")
        return [FilePlan(Path(), [[m.name] for m in self.adapter], fixed, metadata)]

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one module by their keys."""
        (m,) = modules
        B, A = conv_shaped(m)
        component, path = self.paths[m.name]
        stem = self.comfy.get(m.name, f"{component or ONLY}.{path}")
        tensors = {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}
        if m.bias is not None:
            tensors[f"{stem}.lora_B.bias"] = m.bias
        if m.name in self.comfy:
            tensors[f"{stem}.alpha"] = alpha_tensor(alpha_of(m))  # ComfyUI reads no metadata
        return tensors

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Nothing comes beside the tensors."""
