"""What low-rank factors cannot carry: norms, biases, new rows, and how to carry them whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import fuses_experts
from eckart.adapter.statement import rounded
from eckart.checkpoint import to_float
from eckart.checkpoint.kinds import is_head, is_input_embedding, module_name, module_of, tied_head
from eckart.checkpoint.numbers import energy_of, name_non_finite
from eckart.rank import RankPlan
from eckart.store import FactorStore, TensorRecord
from eckart.store.sources import LORA_KINDS, Sources


@dataclass(frozen=True)
class Leftover:
    """A changed tensor that has no factors.

    Parameters
    ----------
    name : str
        The tensor.
    energy : float
        ||tuned - base||_F^2, or ||new rows||_F^2.
    why : str
        Why it has no factors.
    extra : bool
        Whether it exists in the tuned checkpoint alone, so that the store did not count it.
    carried : str
        How it is carried after all: ``"whole"``, ``"bias"``, or "" if it is not.
    """

    name: str
    energy: float
    why: str
    extra: bool = False
    carried: str = ""

    def to_json(self, everything: float) -> dict[str, Any]:
        """Return it as plain data, with its share of the whole change."""
        return {
            "name": self.name,
            "share": self.energy / everything if everything else 0.0,
            "update": float(np.sqrt(self.energy)),
            "why": self.why,
        }


def leftovers(
    store: FactorStore,
    sources: Sources,
    plan: RankPlan,
    modules: Mapping[str, Module],
    unread: Mapping[str, str],
) -> list[Leftover]:
    """List every change that the modules' factors do not carry, the largest first.

    ``unread`` gives the reason for tensors that were planned, and that a consumer does not read.
    """
    items = []
    for record in store:
        carried = module_name(record.name) in modules and record.is_matrix
        if is_input_embedding(record.name) and record.energy:
            head = tied_head(sources.tuned.names(), sources.tuned.config)
            if head is not None and head not in modules:
                items.append(
                    Leftover(
                        f"{head or 'output layer'} (tied)",
                        record.energy,
                        "shares the embedding's weight, and PEFT does not reach it through that",
                        extra=True,
                    )
                )
        if record.energy and not carried:
            items.append(Leftover(record.name, record.energy, unread.get(record.name) or _why(record, plan)))
        if record.new_rows > 0:
            source = next(s for s in sources.tensors if s.name == record.name)
            rows = to_float(sources.tuned.map(source.tuned.name)[source.rows :]).astype(np.float64)
            if not np.isfinite(rows).all():
                name_non_finite(source.tuned)
            items.append(
                Leftover(record.name, float((rows**2).sum()), f"{record.new_rows} new rows", extra=True)
            )
    for name in sources.only_tuned:
        values = sources.tuned.map(name)
        if values.dtype.kind not in "iub":
            energy = energy_of(values)
            if not np.isfinite(energy):
                name_non_finite(sources.tuned.info(name))
            items.append(Leftover(name, energy, "not in the base", extra=True))
    return sorted(items, key=lambda item: -item.energy)


def _why(record: TensorRecord, plan: RankPlan) -> str:
    if record.name in plan.ranks:
        return f"rank 0: {plan.reasons.get(record.name, '')}".rstrip(": ")
    if record.kind in LORA_KINDS:
        return "left out by --include or --exclude"
    if record.kind == "embedding":
        return "embedding table; --embeddings gives it factors"
    if record.kind == "vector":
        return "bias" if record.name.endswith("bias") else "a vector"
    return f"{len(record.shape)} axes"


def carry_dense(
    adapter: Adapter, items: Sequence[Leftover], sources: Sources, dtype: np.dtype[Any]
) -> list[Leftover]:
    """Put into the adapter, whole, what PEFT can carry so; return the list with that marked.

    Notes
    -----
    The bias of a module that has factors goes to ``lora_B.bias`` (PEFT's ``lora_bias``), which needs
    one on every module; PEFT does not take that together with embedding factors. Other tensors go to
    ``modules_to_save``, which replaces whole modules: an unchanged sibling parameter goes along.
    """
    tuned = {s.name: s.tuned for s in sources.tensors}
    stacks = {module_of(name) for name in tuned if name.endswith("]")}
    containers = {path for name in tuned for path in _above(module_of(name))}
    config = (sources.base or sources.tuned).config or sources.tuned.config
    # PEFT has no lora_bias beside factors of a table or of a mixture's fused experts.
    biases_fit = all(m.kind in ("linear", "conv1d") for m in adapter) and not fuses_experts(config)
    result = []
    biased = False
    for item in items:
        module = module_of(item.name)
        if item.name not in tuned:
            continue
        if module in adapter.modules:
            if item.name.endswith(".bias") and biases_fit:
                biased = True
                result.append(replace(item, carried="bias"))
            else:
                result.append(item)
        elif module in stacks or module in containers:
            # Saving the module would save its submodules and its other experts too.
            result.append(item)
        else:
            for sibling in (n for n in tuned if module_of(n) == module and not n.endswith("]")):
                adapter.dense[sibling] = np.asarray(sources.tuned.map(tuned[sibling].name))
            result.append(replace(item, carried="whole"))
    if biased:
        _add_biases(adapter, sources, dtype)
    return result + [_carried_head(adapter, item, sources) for item in items if item.name not in tuned]


def _above(module: str) -> list[str]:
    """Return the modules that contain a module: ``"a.b.c"`` is in ``"a.b"`` and in ``"a"``."""
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _carried_head(adapter: Adapter, item: Leftover, sources: Sources) -> Leftover:
    """Carry a tied head beside its embedding, where that goes whole: PEFT unties them by saving both."""
    head = tied_head(sources.tuned.names(), sources.tuned.config)
    table = next((n for n in adapter.dense if is_input_embedding(n)), None)
    # The decoders of masked models have a bias too, tied to a parameter elsewhere: those are not saved.
    if not is_head(f"{head}.weight") or table is None or item.name != f"{head} (tied)":
        return item
    adapter.dense[f"{head}.weight"] = adapter.dense[table]
    adapter.statement["tied_whole"] = {head: table}
    return replace(item, carried="whole")


def _add_biases(adapter: Adapter, sources: Sources, dtype: np.dtype[Any]) -> None:
    """Give every module a bias update: the change where there is one, zeros elsewhere."""
    by_name = {s.name: s for s in sources.tensors}
    for name, module in adapter.modules.items():
        source = by_name.get(f"{name}.bias")
        out = module.BA[0].shape[0]
        change = np.zeros(out, np.float32)
        if source is not None and source.base is not None and sources.base is not None:
            ours = to_float(sources.tuned.map(source.tuned.name))
            theirs = to_float(sources.base.map(source.base.name))
            change = ours.astype(np.float32) - theirs.astype(np.float32)
        adapter.modules[name] = replace(module, bias=rounded(change, dtype))
