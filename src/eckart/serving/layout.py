"""Layout: what must change in an adapter so that every program it is meant for computes the same update.

`Layout.prepare` decides what the programs can load, before ranks are chosen; `Layout.applied` adds what
they need, after ranks are chosen. A layout is a plan: neither step changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import ExpertsLayout, even_scales
from eckart.adapter.statement import LayoutStatement
from eckart.adapter.updates import side_by_side
from eckart.arrays import DType
from eckart.checkpoint import Checkpoint
from eckart.linalg.routes.product import ProductCore
from eckart.rank import RankRule
from eckart.serving.common_rank import common_rank, needs_one_rank
from eckart.serving.consumer import Consumer
from eckart.serving.consumers import ConsumerNames, common_formats, consumers_named
from eckart.serving.experts_read import arrange_experts_for
from eckart.serving.missing_modules import matrix_shapes, missing_modules, zeros_for
from eckart.serving.treatment import (
    has_expression,
    separate_unread,
    titles_of,
    unread_by,
    unread_whole,
    without_unread_biases,
)
from eckart.text import count, preview


@dataclass(frozen=True)
class Applied:
    """The modules in the form that the consumers need, and what was added and left out for that.

    Parameters
    ----------
    modules : dict of str to Module
        All modules, including those that were added.
    added : tuple of str
        Names of the modules of zeros that were added.
    notes : tuple of str
        What was left out and what was added, in sentences, including the layout's own notes.
    """

    modules: dict[str, Module]
    added: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """What the chosen consumers need of an adapter, and what had to be left out for them.

    Parameters
    ----------
    consumers : tuple of Consumer
        Empty if the adapter is not for any particular program.
    modules_left_out : mapping of str to Module
        Modules that a consumer would not load.
    energy_left_out : mapping of str to float
        The energy (squared Frobenius norm) of each module left out.
    whole_left_out : tuple of str
        Names of tensors, saved whole or by rows, that a consumer would not load.
    biases_left_out : int
        Number of biases that a consumer would not load.
    shapes : mapping of str to (int, int)
        Shapes of the base's matrices by module name; empty if the base is not known.
    """

    consumers: tuple[Consumer, ...] = ()
    modules_left_out: Mapping[str, Module] = field(default_factory=dict)
    energy_left_out: Mapping[str, float] = field(default_factory=dict)
    whole_left_out: tuple[str, ...] = ()
    biases_left_out: int = 0
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        adapter: Adapter,
        consumers: ConsumerNames = (),
        base: Checkpoint | None = None,
        experts: ExpertsLayout | None = None,
    ) -> tuple[Layout, Adapter]:
        """Plan the layout of an adapter, and keep only what the consumers can load.

        Parameters
        ----------
        adapter : Adapter
            The adapter as read; it is not changed.
        consumers : str or sequence of str
            Names of programs, e.g. ``"vllm,llama.cpp"``.
        base : Checkpoint, optional
            The base model: which layers there are, their shapes, and the type of the model. Without it,
            layers and shapes are inferred from the adapter.
        experts : ExpertsLayout, optional
            The layout of experts that the user asked for, as `check_experts` returned it.

        Returns
        -------
        layout : Layout
        adapter : Adapter
            The adapter without the parts that a consumer cannot load; all other updates are exactly the same.

        Raises
        ------
        UsageError
            If the consumers have no format, or no layout of experts, in common.
        AdapterError
            If no module remains.
        """
        programs = tuple(consumers_named(consumers))
        if not programs:
            return cls(), replace(adapter, modules=even_scales(adapter.modules))
        common_formats(programs)
        config = base.config if base is not None else {}
        modules = arrange_experts_for(programs, adapter.modules, config, experts)
        modules, unread_modules = separate_unread(modules, programs)
        modules, unread_biases = without_unread_biases(modules, programs)
        layout = cls(
            consumers=programs,
            modules_left_out=unread_modules,
            energy_left_out={name: _energy(module) for name, module in unread_modules.items()},
            whole_left_out=unread_whole(adapter, programs),
            biases_left_out=unread_biases,
            shapes=matrix_shapes(base),
        )
        return layout, layout.stripped(replace(adapter, modules=modules))

    @classmethod
    def joined(cls, layouts: Sequence[Layout], energy_left_out: Mapping[str, float]) -> Layout:
        """Return one layout for a combination of adapters that were prepared for the same consumers.

        Parameters
        ----------
        layouts : sequence of Layout
            The layout of each adapter; at least one.
        energy_left_out : mapping of str to float
            The energy of the combined update of each module left out. It does not follow from the
            adapters' own energies, because updates may cancel.
        """
        modules_left_out: dict[str, Module] = {}
        for layout in layouts:
            modules_left_out = {**layout.modules_left_out, **modules_left_out}
        return replace(
            layouts[0],
            modules_left_out=modules_left_out,
            energy_left_out=energy_left_out,
            whole_left_out=tuple(dict.fromkeys(n for layout in layouts for n in layout.whole_left_out)),
            biases_left_out=sum(layout.biases_left_out for layout in layouts),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in sentences."""
        notes = []
        if self.modules_left_out:
            left_out = self.modules_left_out.values()
            titles = titles_of(c for c in self.consumers if any(unread_by(m, [c]) for m in left_out))
            modules = count(self.modules_left_out, "module")
            notes.append(f"{modules} left out ({titles}): {preview(self.modules_left_out)}")
        if self.whole_left_out:
            names = self.whole_left_out
            titles = titles_of(
                c for c in self.consumers if not all(c.whole_treatment(name).is_read for name in names)
            )
            tensors = count(names, "tensor saved whole or by rows", "tensors saved whole or by rows")
            notes.append(f"{tensors} left out ({titles}): {preview(names)}")
        if self.biases_left_out:
            notes.append(f"{count(self.biases_left_out, 'bias', 'biases')} left out")
        return tuple(notes)

    @property
    def format(self) -> str | None:
        """The preferred format among those that all consumers read; None without consumers."""
        return self.formats[0] if self.consumers else None

    @property
    def formats(self) -> list[str]:
        """All formats that every consumer reads."""
        return common_formats(self.consumers)

    def bounded(self, rule: RankRule) -> RankRule:
        """Return the rule with its ranks limited to those that every consumer accepts.

        Parameters
        ----------
        rule : RankRule
            The rule that was asked for.
        """
        bounds = [c.max_rank for c in self.consumers if c.max_rank is not None]
        if rule.max_rank is not None:
            bounds.append(rule.max_rank)
        if not bounds:
            return rule
        return replace(rule, max_rank=min(bounds), min_rank=min(rule.min_rank, min(bounds)))

    def applied(self, outlines: Mapping[str, Module], available: Mapping[str, Module]) -> Applied:
        """Add the modules that consumers need, and pad all ranks to one if a consumer needs one.

        Parameters
        ----------
        outlines : mapping of str to Module
            Modules with the ranks that the rule chose; only their shapes and dtypes are used.
        available : mapping of str to Module
            All modules of the adapter, including those for which the rule chose rank 0.

        Returns
        -------
        Applied
            Its modules are outlines, except for the modules of zeros.

        Raises
        ------
        AdapterError
            If the shape of a module that must be added is not known.
        """
        modules = dict(outlines)
        missing = missing_modules(modules, self.consumers, self.shapes)
        dtype = next((m.dtype for m in outlines.values()), np.dtype(np.float32))
        for name, twin in missing.items():
            modules[name] = zeros_for(name, available.get(name) or twin, self.shapes, dtype)
        notes = self.notes
        if missing:
            notes += (f"{count(missing, 'module')} of zeros added, because a program needs them",)
        if needs_one_rank(modules, self.consumers):
            rank = common_rank(max(m.rank for m in modules.values()), self.consumers)
            modules = {name: replace(m.of_rank(rank, m.dtype), bias=m.bias) for name, m in modules.items()}
        return Applied(modules, tuple(missing), notes)

    def realised(self, modules: Mapping[str, Module]) -> Applied:
        """Apply to modules in memory what `applied` plans.

        Parameters
        ----------
        modules : mapping of str to Module
            All modules of the adapter, with their factors.
        """
        plan = self.applied(modules, modules)
        padded = {}
        for name, outline in plan.modules.items():
            if name in modules:
                padded[name] = modules[name].padded(outline.rank)
            else:
                padded[name] = replace(outline, left=np.array(outline.left), right=np.array(outline.right))
        return replace(plan, modules=padded)

    def stripped(self, adapter: Adapter) -> Adapter:
        """Return the adapter without the whole tensors and the settings that a consumer would not load.

        Parameters
        ----------
        adapter : Adapter
            The adapter that `prepare` returned, or a combination of several.
        """
        dense = {name: array for name, array in adapter.dense.items() if name not in self.whole_left_out}
        rows = {name: rows for name, rows in adapter.rows.items() if name not in self.whole_left_out}
        config = adapter.config
        if has_expression(config) and any(c.lists_targets for c in self.consumers):
            config = {**config, "target_modules": None}  # the writer then lists the modules' paths
        return replace(adapter, dense=dense, rows=rows, config=config)

    def statement(self, applied: Applied, dtype: DType, needed: int) -> LayoutStatement | None:
        """Return the layout's part of the adapter's statement; None without consumers.

        Parameters
        ----------
        applied : Applied
            What `applied` or `realised` returned.
        dtype : dtype
            Dtype of the factors.
        needed : int
            Number of parameters in all factors before the layout was applied.
        """
        if not self.consumers:
            return None
        rank = max((m.rank for m in applied.modules.values()), default=0)
        written = sum(m.parameters for m in applied.modules.values())
        return LayoutStatement(
            consumers=tuple(c.name for c in self.consumers),
            bytes_of_zeros=(written - needed) * dtype.itemsize,
            modules_left_out=tuple(sorted(self.energy_left_out)),
            whole_left_out=self.whole_left_out,
            biases_left_out=self.biases_left_out,
            modules_added=len(applied.added),
            options={c.name: c.start_option(rank) for c in self.consumers if c.option},
        )


def _energy(module: Module) -> float:
    """Return ||B A||_F^2."""
    return float(ProductCore.of(side_by_side([(1.0, module)])).spectrum.total)
