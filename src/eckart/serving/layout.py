"""Layout: an adapter arranged so that every program it is meant for computes the same update."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import (
    FUSED_ON_LOADING,
    even_scales,
    fuse_experts,
    is_split,
    split_experts,
    zero_module,
)
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.adapter.statement import LayoutStatement
from eckart.adapter.updates import side_by_side
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.kinds import is_head, kind_of, module_of
from eckart.errors import AdapterError, UsageError
from eckart.linalg.routes.product import ProductCore
from eckart.rank import RankRule
from eckart.serving.consumers import CONSUMERS, Consumer, consumers_named
from eckart.text import count

Wish = str | Sequence[str]

_LAYER = re.compile(r"(.*?\.)(\d+)(\..+)")


@dataclass
class Layout:
    """What the named consumers need of an adapter, and what giving it to them costs.

    Parameters
    ----------
    consumers : tuple of Consumer
    dropped : dict of str to Module
        The modules that had to be left out.
    lost : dict of str to float
        Their energy.
    whole : tuple of str
        Whole tensors that had to be left out.
    biases : int
        Biases that had to be left out.
    notes : list of str
        The same, in sentences.
    shapes : dict of str to (int, int)
        Of the base's matrices, where the base was given.
    added : tuple of str
        Modules of zeros that had to be added; known once `applied` was called.
    """

    consumers: tuple[Consumer, ...] = ()
    dropped: dict[str, Module] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    biases: int = 0
    notes: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    added: tuple[str, ...] = ()

    @classmethod
    def prepare(
        cls, adapter: Adapter, wish: Wish = (), base: Checkpoint | None = None
    ) -> tuple[Layout, Adapter]:
        """Arrange an adapter's modules before they are cut.

        Parameters
        ----------
        adapter : Adapter
        wish : str or sequence of str
            Names of consumers.
        base : Checkpoint, optional
            Tells which layers there are, and their shapes; without it they are inferred.

        Returns
        -------
        (Layout, Adapter)
            The second holds what the consumers can load, exactly.
        """
        consumers = tuple(consumers_named(wish))
        if not consumers:
            return cls(), replace(adapter, modules=even_scales(adapter.modules))
        _common_formats(consumers)
        modules = _with_experts_as_read(adapter, consumers, base)
        modules, dropped, notes = _without_what_is_not_read(modules, consumers)
        lost = {name: ProductCore.of(side_by_side([(1.0, m)])).spectrum.total for name, m in dropped.items()}
        whole: tuple[str, ...] = ()
        unread = [n for n in _whole(adapter) if any(c.whole_treatment(n) != "loads" for c in consumers)]
        if unread:
            whole = tuple(unread)
            names = ", ".join(
                c.title for c in consumers if any(c.whole_treatment(n) != "loads" for n in unread)
            )
            notes.append(
                f"{count(whole, 'tensor')} held whole or in rows left out ({names}): {', '.join(whole[:3])}"
            )
        biases = sum(m.bias is not None for m in modules.values())
        if any(c.bias != "loads" for c in consumers) and biases:
            modules = {name: replace(m, bias=None) for name, m in modules.items()}
            notes.append(f"{biases} biases left out")
        else:
            biases = 0
        layout = cls(consumers, dropped, lost, whole, biases, notes, _base_shapes(base))
        return layout, layout.stripped(replace(adapter, modules=modules))

    @property
    def format(self) -> str | None:
        """The format that all consumers read; None if there are no consumers."""
        return self.formats[0] if self.consumers else None

    @property
    def formats(self) -> list[str]:
        """All formats that all consumers read."""
        return _common_formats(self.consumers)

    def bounded(self, rule: RankRule) -> RankRule:
        """Return the rule with no rank over what the consumers take."""
        most = [c.max_rank for c in self.consumers if c.max_rank is not None]
        if rule.max_rank is not None:
            most.append(rule.max_rank)
        if not most:
            return rule
        return replace(rule, max_rank=min(most), min_rank=min(rule.min_rank, min(most)))

    def applied(self, outlines: Mapping[str, Module], like: Mapping[str, Module]) -> dict[str, Module]:
        """Return outlines as the consumers need them: no gaps, and one rank if they need one.

        Parameters
        ----------
        outlines : mapping of str to Module
            What the rule gave.
        like : mapping of str to Module
            All modules there were, those of rank 0 too.
        """
        result = dict(outlines)
        missing = missing_modules(result, self.consumers, self.shapes)
        for name, sibling in missing.items():
            result[name] = self._zeros(name, like.get(name) or sibling, next(iter(outlines.values())))
        self.added = tuple(missing)
        if missing:
            self.notes.append(f"{count(missing, 'module')} of zeros added, so that no layer lacks a type")
        if not self.needs_one_rank(result):
            return result
        rank = self.rank_for(max(m.rank for m in result.values()))
        return {name: replace(m.of_rank(rank, m.dtype), bias=m.bias) for name, m in result.items()}

    def realised(self, modules: Mapping[str, Module]) -> dict[str, Module]:
        """Return modules that are in memory as the consumers need them; see `applied`."""
        outlines = self.applied(modules, modules)
        return {
            name: modules[name].padded(m.rank)
            if name in modules
            else replace(m, left=np.array(m.left), right=np.array(m.right))
            for name, m in outlines.items()
        }

    def _zeros(self, name: str, like: Module | None, first: Module) -> Module:
        shape = self.shapes.get(name) or (like.shape if like is not None else None)
        if shape is None:
            raise AdapterError(
                name, "is needed beside what the adapter has, and its shape is not known", "Give --base MODEL"
            )
        return zero_module(name, shape, first.dtype, "linear" if like is None else like.kind)

    def needs_one_rank(self, modules: Mapping[str, Module]) -> bool:
        """Whether a consumer needs one rank for all, or one of a list."""
        varied = len({m.rank for m in modules.values()}) > 1
        return any(((c.one_rank or c.scale == "tensor") and varied) or c.ranks for c in self.consumers)

    def rank_for(self, rank: int) -> int:
        """Return the least rank that all consumers compute right, and that is not under ``rank``."""
        lists = [set(c.ranks) for c in self.consumers if c.ranks]
        if not lists:
            return rank
        allowed = sorted(set.intersection(*lists))
        found = next((r for r in allowed if r >= rank), None)
        if found is None:
            raise UsageError(f"rank {rank}", f"is over what the consumers take, {allowed[-1]}", "Lower it")
        return found

    def stripped(self, adapter: Adapter) -> Adapter:
        """Return the adapter without what the consumers refuse."""
        dense = {name: array for name, array in adapter.dense.items() if name not in self.whole}
        rows = {name: rows for name, rows in adapter.rows.items() if name not in self.whole}
        config = adapter.config
        if has_expression(config) and any(c.lists_targets for c in self.consumers):
            config = {**config, "target_modules": None}  # a list of paths is written then
        return replace(adapter, dense=dense, rows=rows, config=config)

    def statement(
        self, outlines: Mapping[str, Module], dtype: np.dtype[Any], needed: int
    ) -> LayoutStatement | None:
        """Return the cost of the layout, for the statement; None without consumers."""
        if not self.consumers:
            return None
        rank = max((m.rank for m in outlines.values()), default=0)
        written = sum(m.parameters for m in outlines.values())
        return LayoutStatement(
            consumers=tuple(c.name for c in self.consumers),
            bytes_of_zeros=(written - needed) * dtype.itemsize,
            modules_left_out=tuple(sorted(self.lost)),
            whole_left_out=tuple(self.whole),
            biases_left_out=self.biases,
            modules_added=len(self.added),
            options={c.name: f"{c.option} {c.limit_for(rank) or rank}" for c in self.consumers if c.option},
        )


def has_expression(config: Mapping[str, Any]) -> bool:
    """Whether a PEFT configuration gives its targets by a regular expression."""
    targets = config.get("target_modules")
    return isinstance(targets, str) and targets != "all-linear"


def _whole(adapter: Adapter) -> list[str]:
    """Return what is no factors, but for copies of the base's tables, which all programs pass over."""
    return [*(n for n in adapter.dense if not is_copy_of_base(n, adapter)), *adapter.rows]


def _common_formats(consumers: Sequence[Consumer]) -> list[str]:
    common = [f for f in consumers[0].formats if all(f in c.formats for c in consumers)]
    if not common:
        said = "; ".join(f"{c.title} reads {' and '.join(c.formats)}" for c in consumers)
        raise UsageError("--for", f"no format is read by all: {said}", "Write one adapter for each")
    return common


def _with_experts_as_read(
    adapter: Adapter, consumers: Sequence[Consumer], base: Checkpoint | None
) -> dict[str, Module]:
    """Split or fuse a mixture's experts, as the consumers read them."""
    fused = any(m.expert is not None for m in adapter)
    split = any(is_split(m.name) for m in adapter)
    wanted = {c.experts for c in consumers} - {"neither"}
    if (fused or split) and len(wanted) > 1:
        raise UsageError("--for", "some of these read experts fused and some by name", "Write one for each")
    config = base.config if base is not None else {}
    if fused and wanted == {"split"}:
        return split_experts(adapter.modules, config)
    if split and wanted == {"fused"} and config.get("model_type") in FUSED_ON_LOADING:
        return fuse_experts(adapter.modules, config)
    return even_scales(adapter.modules)


def treatment(module: Module, consumer: Consumer, as_read: bool = False) -> str:
    """Return what a consumer does with a module's factors: loads, refuses or drops.

    With ``as_read`` a mixture's experts count as laid out the way the consumer reads them, if it does.
    """
    if module.kind == "embedding":
        return consumer.embeddings
    if module.kind == "conv":
        return consumer.conv
    if module.expert is not None and consumer.experts != "fused":
        return "loads" if as_read and consumer.experts == "split" else consumer.other_experts
    if is_split(module.name) and consumer.experts == "neither":
        return consumer.other_experts
    return consumer.heads if is_head(f"{module.name}.weight") else "loads"


def _without_what_is_not_read(
    modules: Mapping[str, Module], consumers: Sequence[Consumer]
) -> tuple[dict[str, Module], dict[str, Module], list[str]]:
    kept, lost, notes = {}, {}, []
    for name, module in modules.items():
        if all(treatment(module, c) == "loads" for c in consumers):
            kept[name] = module
        else:
            lost[name] = module
    if lost:
        names = ", ".join(
            c.title for c in consumers if any(treatment(modules[n], c) != "loads" for n in lost)
        )
        notes.append(f"{count(lost, 'module')} left out ({names}): {', '.join(list(lost)[:3])}")
    if not kept:
        raise AdapterError("--for", f"leaves no module: {', '.join(list(lost)[:3])}", "Choose other programs")
    return kept, lost, notes


def missing_modules(
    modules: Mapping[str, Module],
    consumers: Sequence[Consumer],
    shapes: Mapping[str, tuple[int, int]],
) -> dict[str, Module | None]:
    """Return the modules that must be there too, each with one like it where there is one.

    Parameters
    ----------
    modules : mapping of str to Module
    consumers : sequence of Consumer
    shapes : mapping of str to (int, int)
        Of all matrices of the base; may be empty.
    """
    found: dict[str, Module | None] = {}
    waiting = list(modules) if any(c.needs for c in consumers) else []
    while waiting:
        name = waiting.pop(0)
        path, leaf = module_of(name), name.rpartition(".")[2]
        for other in dict.fromkeys(needed for c in consumers for needed in c.needs.get(leaf, ())):
            full = f"{path}.{other}"
            if full not in modules and full not in found and (not shapes or full in shapes):
                found[full] = _sibling(full, modules)
                waiting.append(full)
    if any(c.all_experts for c in consumers):
        found |= _missing_experts(modules)
    if any(c.every_layer for c in consumers):
        types: dict[tuple[str, str], Module] = {}
        layers: dict[str, set[int]] = {}
        for name in [*modules, *found, *shapes]:
            match = _LAYER.fullmatch(name)
            if match:
                layers.setdefault(match[1], set()).add(int(match[2]))
                module = modules.get(name) or found.get(name)
                if module is not None:
                    types.setdefault((match[1], match[3]), module)
        for (before, after), like in types.items():
            for layer in range(max(layers[before]) + 1):
                full = f"{before}{layer}{after}"
                if full not in modules and (not shapes or full in shapes):
                    found.setdefault(full, like)
    return found


def _missing_experts(modules: Mapping[str, Module]) -> dict[str, Module | None]:
    """Return the experts' matrices that are lacking in layers where some expert has one."""
    parts = {name: name.rsplit(".", 2) for name in modules if is_split(name)}
    paths = dict.fromkeys(path for path, _, _ in parts.values())
    leaves = {leaf: modules[name] for name, (_, _, leaf) in parts.items()}
    count = 1 + max((int(number) for _, number, _ in parts.values()), default=-1)
    return {
        f"{path}.{number}.{leaf}": like
        for path in paths
        for number in range(count)
        for leaf, like in leaves.items()
        if f"{path}.{number}.{leaf}" not in modules
    }


def _sibling(name: str, modules: Mapping[str, Module]) -> Module | None:
    """Return the module of the same type in another layer, if there is one."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return None
    same = (
        m for n, m in modules.items() if (f := _LAYER.fullmatch(n)) and (f[1], f[3]) == (match[1], match[3])
    )
    return next(same, None)


def _base_shapes(base: Checkpoint | None) -> dict[str, tuple[int, int]]:
    if base is None:
        return {}
    return {
        module_of(name): (info.shape[0], info.shape[1])
        for name, info in base.tensors.items()
        if len(info.shape) == 2 and kind_of(name, info.shape, base.config) in ("linear", "conv1d")
    }


__all__ = ["CONSUMERS", "Layout", "Wish", "missing_modules", "treatment"]
