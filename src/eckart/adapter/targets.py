"""Which tensor of a base model each module of an adapter updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import ExpertsLayout, arrange_experts, is_fused_on_loading, is_split
from eckart.arrays import Array
from eckart.checkpoint import Checkpoint, TensorInfo, to_float
from eckart.checkpoint.kinds import TRANSPOSED_EXPERTS, is_input_embedding, kind_of, tied_head
from eckart.checkpoint.prefix import find_prefix
from eckart.errors import AdapterError

# What transformers 5 calls the parts of a model of several kinds of input, and what files call them
# (conversion_mapping.py): it renames them on loading, and back on saving, so that an adapter has the first.
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
    """The place of one update: a tensor, and the expert of it."""

    tensor: str
    expert: int | None = None


@dataclass
class Targets:
    """An adapter seen from a base: its modules in the base's layout, and where each goes.

    Parameters
    ----------
    adapter : Adapter
        Its modules oriented as the base stores them, experts split or fused as there.
    places : dict of str to Target
        By module name.
    missing : dict of str to str
        Modules that have no place, and why.
    tied : dict of str to str
        Modules whose weight is another's, and whose.
    skipped : tuple of str
        Modules of other models of a pipeline.
    rename : callable
        Gives the base's spelling of a module's name, whether the base has it or not.
    """

    adapter: Adapter
    places: dict[str, Target] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    rename: Callable[[str], str] = str

    def tensor(self, name: str, base: Checkpoint) -> str:
        """Return how the base spells the name of a tensor; the name itself where it does not have it."""
        path, _, leaf = name.rpartition(".")
        other = f"{self.rename(path)}.{leaf}"
        return other if name not in base and other in base else name

    @classmethod
    def find(cls, adapter: Adapter, base: Checkpoint) -> Targets:
        """Match the modules of an adapter with the tensors of a base by name, then check shapes."""
        modules = experts_as_in(adapter.modules, base)
        skipped: tuple[str, ...] = ()
        if adapter.components:
            ours, modules = _one_component(modules, adapter.components, base)
            skipped = tuple(ours)
        rename = _renaming(modules, base)
        found = cls(replace(adapter, modules={}), skipped=skipped, rename=rename)
        head = tied_head(base.names(), base.config)
        for name, module in modules.items():
            path = rename(name)
            target = (
                Target(f"{path}.weight")
                if module.expert is None
                else Target(rename(module.expert[0]), module.expert[1])
            )
            if target.tensor not in base:
                if head is not None and (path == head or name == head):
                    found.tied[name] = "the input embedding"
                    found.adapter.modules[name] = module
                else:
                    found.missing[name] = f"the base has no {target.tensor}"
                continue
            turned = _turned(module, base, target)
            if turned is None:
                shape = " x ".join(map(str, base.info(target.tensor).shape))
                rows, columns = module.shape
                found.missing[name] = f"its factors make {rows} x {columns}, the base holds {shape}"
                continue
            found.adapter.modules[name] = turned
            found.places[name] = target
        return found

    def refuse_missing(self) -> None:
        """Raise if a module has no place in the base."""
        for name, why in self.missing.items():
            parts = self.adapter.components
            whose = f", a part of a pipeline ({', '.join(parts)})" if parts else ""
            raise AdapterError(
                f"{self.adapter.path}: {name}", why, f"Pass the base that the adapter was made for{whose}"
            )


def holds(base: Checkpoint, name: str, array: Array) -> bool:
    """Whether a base holds just this tensor, under this name or as the table that a head is tied to."""
    if name not in base and name == f"{tied_head(base.names(), base.config)}.weight":
        name = next((n for n in base.names() if is_input_embedding(n)), name)
    return name in base and np.array_equal(to_float(base.map(name)), to_float(array))


def experts_as_in(modules: Mapping[str, Module], base: Checkpoint) -> dict[str, Module]:
    """Return the modules with their experts in the layout of the base's files."""
    layout: ExpertsLayout | None = None
    if any(is_split(name.removesuffix(".weight")) for name in base.tensors):
        layout = ExpertsLayout.SPLIT
    elif is_fused_on_loading(base.config):
        layout = ExpertsLayout.FUSED
    return arrange_experts(modules, layout, base.config)


def _one_component(
    modules: Mapping[str, Module], components: tuple[str, ...], base: Checkpoint
) -> tuple[list[str], dict[str, Module]]:
    """Keep the modules of the component that the base is; return the others' names too."""
    hits = {
        part: sum(
            name.startswith(f"{part}.") and f"{name[len(part) + 1 :]}.weight" in base for name in modules
        )
        for part in components
    }
    best = max(hits, key=lambda part: hits[part])
    kept = {name: m for name, m in modules.items() if name.startswith(f"{best}.")}
    return [name for name in modules if name not in kept], kept


def _renaming(modules: Mapping[str, Module], base: Checkpoint) -> Callable[[str], str]:
    """Return how a module's name is spelt in the base: with a prefix more or less, or by FRONTS."""
    names = {(m.expert[0] if m.expert else f"{name}.weight") for name, m in modules.items()}
    ours = {n: _nameless(n) for n in names if n not in base}
    theirs = {n: _nameless(n) for n in base.tensors if n not in names}
    prefix, in_base = find_prefix(theirs, ours)

    def spellings(name: str) -> Iterator[str]:
        yield name
        if prefix:
            yield prefix + name if in_base else name.removeprefix(prefix)
        for here, there in FRONTS:
            for old, new in ((here, there), (there, here)):
                if name.startswith(old):
                    yield new + name.removeprefix(old)

    def rename(name: str) -> str:
        return next((s for s in spellings(name) if s in base or f"{s}.weight" in base), name)

    return rename


def _nameless(name: str) -> TensorInfo:
    """Return an entry that agrees with any other in shape: names alone are compared."""
    return TensorInfo(name, "F32", (), Path(), 0, 0)


def _turned(module: Module, base: Checkpoint, target: Target) -> Module | None:
    """Return the module as its weight is stored; None if the shapes do not fit."""
    info = base.info(target.tensor)
    shape = info.shape[1:] if target.expert is not None else info.shape
    if target.expert is not None and (len(info.shape) != 3 or target.expert >= info.shape[0]):
        return None
    kind = module.kind
    if target.expert is not None:
        transposed = str(base.config.get("model_type")) in TRANSPOSED_EXPERTS
        kind = "expert_transposed" if transposed else "expert"
    elif kind == "linear" and kind_of(target.tensor, info.shape, base.config) == "conv1d":
        kind = "conv1d"
    turned = module.as_kind(kind)
    rows, *rest = shape if shape else (0,)
    columns = 1
    for size in rest:
        columns *= size
    return turned if turned.shape == (rows, columns) else None
