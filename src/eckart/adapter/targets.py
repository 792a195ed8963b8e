"""Which tensor of a base model each module of an adapter updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import ExpertsLayout, arrange_experts, is_fused_on_loading, is_split
from eckart.arrays import Array
from eckart.checkpoint import Checkpoint, TensorInfo, to_float
from eckart.checkpoint.kinds import TRANSPOSED_EXPERTS, Kind, is_input_embedding, kind_of, tied_head
from eckart.checkpoint.prefix import find_prefix
from eckart.errors import AdapterError

# First parts of module names in multimodal models: transformers 5 renames those in files (second) to its own
# (first) on loading, and back on saving (conversion_mapping.py). An adapter has transformers' names.
FRONTS = (
    ("model.language_model.", "language_model.model."),
    ("model.language_model.", "language_model."),
    ("model.language_model.", "model.llm."),
    ("model.language_model.", "model."),
    ("model.visual.", "visual."),
    ("model.vision_tower.", "vision_tower."),
    ("model.vision_tower.", "model.visual."),
    ("model.audio_tower.", "audio_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("lm_head", "language_model.lm_head"),
)


@dataclass(frozen=True)
class Target:
    """The place of one update in a base.

    Parameters
    ----------
    tensor : str
        Name of the tensor.
    expert : int, optional
        Number of the expert within it, for a fused parameter.
    """

    tensor: str
    expert: int | None = None


@dataclass(frozen=True)
class Targets:
    """An adapter matched with a base: its modules in the base's layout, and the place of each.

    Parameters
    ----------
    adapter : Adapter
        The modules in ``places`` and ``tied``, oriented as the base stores them, with experts split or
        fused as in the base.
    places : dict of str to Target
        Places by module name.
    missing : dict of str to str
        For each module without a place, the reason.
    tied : dict of str to str
        For each module whose weight is shared with another, a description of the other.
    skipped : tuple of str
        Modules of the pipeline's other models.
    rename : callable
        Returns the base's spelling of a module name; the name itself if the base has no such module.
    """

    adapter: Adapter
    places: dict[str, Target] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    rename: Callable[[str], str] = str

    def tensor(self, name: str, base: Checkpoint) -> str:
        """Return the base's spelling of a tensor name; the name itself if the base has no such tensor.

        Parameters
        ----------
        name : str
            Name of a tensor in the adapter.
        base : Checkpoint
            The base.
        """
        path, _, leaf = name.rpartition(".")
        renamed = f"{self.rename(path)}.{leaf}"
        return renamed if name not in base and renamed in base else name

    @classmethod
    def find(cls, adapter: Adapter, base: Checkpoint) -> Targets:
        """Match the modules of an adapter with the tensors of a base by name, then check shapes.

        Parameters
        ----------
        adapter : Adapter
            The adapter.
        base : Checkpoint
            The base; for an adapter of a pipeline, one of its models.

        Returns
        -------
        Targets
            Modules that do not fit are listed as ``missing``; see `refuse_missing`.
        """
        modules = experts_as_in(adapter.modules, base)
        skipped: tuple[str, ...] = ()
        if adapter.components:
            skipped, modules = _one_component(modules, adapter.components, base)
        rename = _renaming(modules, base)
        head = tied_head(base.names(), base.config)
        matched: dict[str, Module] = {}
        places: dict[str, Target] = {}
        missing: dict[str, str] = {}
        tied: dict[str, str] = {}
        for name, module in modules.items():
            target = _target_of(module, rename)
            if target.tensor not in base:
                if head is not None and head in (name, rename(name)):
                    tied[name] = "the input embedding"
                    matched[name] = module
                else:
                    missing[name] = f"the base has no {target.tensor}"
                continue
            oriented = _oriented(module, base, target)
            if oriented is None:
                shape = " x ".join(map(str, base.info(target.tensor).shape))
                rows, columns = module.shape
                missing[name] = f"its factors make {rows} x {columns}, but the base holds {shape}"
                continue
            matched[name] = oriented
            places[name] = target
        return cls(replace(adapter, modules=matched), places, missing, tied, skipped, rename)

    def refuse_missing(self) -> None:
        """Raise if a module has no place in the base.

        Raises
        ------
        AdapterError
            Names the first such module and the reason.
        """
        for name, reason in self.missing.items():
            parts = self.adapter.components
            model = f"one model of the pipeline ({', '.join(parts)}) " if parts else "the base "
            raise AdapterError(
                f"{self.adapter.path}: {name}", reason, f"Pass {model}that the adapter was trained on"
            )


def holds(base: Checkpoint, name: str, array: Array) -> bool:
    """Whether a base holds exactly this tensor, under its name or as the table that a tied head shares.

    Parameters
    ----------
    base : Checkpoint
        The base.
    name : str
        Name of the tensor.
    array : ndarray
        The tensor.
    """
    if name not in base and name == f"{tied_head(base.names(), base.config)}.weight":
        name = next((n for n in base.names() if is_input_embedding(n)), name)
    return name in base and np.array_equal(to_float(base.map(name)), to_float(array))


def experts_as_in(modules: Mapping[str, Module], base: Checkpoint) -> dict[str, Module]:
    """Return the modules with their experts in the layout of the base's files.

    Parameters
    ----------
    modules : mapping of str to Module
        Modules by name.
    base : Checkpoint
        The base.
    """
    layout: ExpertsLayout | None = None
    if any(is_split(name.removesuffix(".weight")) for name in base.tensors):
        layout = ExpertsLayout.SPLIT
    elif is_fused_on_loading(base.config) or _holds_stacks(base):
        layout = ExpertsLayout.FUSED
    return arrange_experts(modules, layout, base.config)


def _holds_stacks(base: Checkpoint) -> bool:
    """Return whether a base stores all experts of a layer in one tensor."""
    return any(kind_of(name, info.shape, base.config) == Kind.EXPERTS for name, info in base.tensors.items())


def _one_component(
    modules: Mapping[str, Module], components: tuple[str, ...], base: Checkpoint
) -> tuple[tuple[str, ...], dict[str, Module]]:
    """Return the names of modules that belong to other components than the base, and the modules that fit."""
    matches = {
        part: sum(
            name.startswith(f"{part}.") and f"{name[len(part) + 1 :]}.weight" in base for name in modules
        )
        for part in components
    }
    best = max(matches, key=lambda part: matches[part])
    kept = {name: m for name, m in modules.items() if name.startswith(f"{best}.")}
    return tuple(name for name in modules if name not in kept), kept


def _renaming(modules: Mapping[str, Module], base: Checkpoint) -> Callable[[str], str]:
    """Return a function that spells a module name as the base does: by a prefix, or by FRONTS."""
    names = {(m.expert[0] if m.expert else f"{name}.weight") for name, m in modules.items()}
    adapter_only = {n: _shapeless(n) for n in names if n not in base}
    base_only = {n: _shapeless(n) for n in base.tensors if n not in names}
    prefix, is_in_base = find_prefix(base_only, adapter_only)

    def spellings(name: str) -> Iterator[str]:
        yield name
        if prefix:
            yield prefix + name if is_in_base else name.removeprefix(prefix)
        for here, there in FRONTS:
            for old, new in ((here, there), (there, here)):
                if name.startswith(old):
                    yield new + name.removeprefix(old)

    def rename(name: str) -> str:
        return next((s for s in spellings(name) if s in base or f"{s}.weight" in base), name)

    return rename


def _shapeless(name: str) -> TensorInfo:
    """Return an entry that has the same shape as any other, so that names alone are compared."""
    return TensorInfo(name, "F32", (), Path(), 0, 0)


def _target_of(module: Module, rename: Callable[[str], str]) -> Target:
    """Return the place that a module's name describes, in the base's spelling."""
    if module.expert is None:
        return Target(f"{rename(module.name)}.weight")
    parameter, number = module.expert
    return Target(rename(parameter), number)


def _oriented(module: Module, base: Checkpoint, target: Target) -> Module | None:
    """Return the module in the orientation of the stored weight; None if the shapes do not fit."""
    info = base.info(target.tensor)
    shape = info.shape[1:] if target.expert is not None else info.shape
    if target.expert is not None and (len(info.shape) != 3 or target.expert >= info.shape[0]):
        return None
    kind = module.kind
    if target.expert is not None:
        is_transposed = str(base.config.get("model_type")) in TRANSPOSED_EXPERTS
        kind = Kind.EXPERT_TRANSPOSED if is_transposed else Kind.EXPERT
    elif kind == Kind.LINEAR and kind_of(target.tensor, info.shape, base.config) == Kind.CONV1D:
        kind = Kind.CONV1D
    oriented = module.as_kind(kind)
    rows, *columns = shape if shape else (0,)
    return oriented if oriented.shape == (rows, math.prod(columns)) else None
