"""What low-rank factors cannot carry: norms, biases, new rows, and how to carry them whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter
from eckart.adapter.statement import rounded
from eckart.checkpoint import to_float
from eckart.checkpoint.kinds import module_of
from eckart.rank import RankPlan
from eckart.store import FactorStore, TensorRecord
from eckart.store.delta import name_non_finite
from eckart.store.fill import Sources


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


def leftovers(store: FactorStore, sources: Sources, plan: RankPlan) -> list[Leftover]:
    """List every change that the plan's factors do not carry, the largest first."""
    items = []
    for record in store:
        if record.energy and not plan.ranks.get(record.name):
            items.append(Leftover(record.name, record.energy, _why(record, plan)))
        if record.new_rows:
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
            energy = float((to_float(values).astype(np.float64) ** 2).sum())
            if not np.isfinite(energy):
                name_non_finite(sources.tuned.info(name))
            items.append(Leftover(name, energy, "not in the base", extra=True))
    return sorted(items, key=lambda item: -item.energy)


def _why(record: TensorRecord, plan: RankPlan) -> str:
    if record.name in plan.ranks:
        return f"rank 0: {plan.reasons.get(record.name, '')}".rstrip(": ")
    if record.kind in ("linear", "conv1d"):
        return "left out by --include or --exclude"
    if record.kind == "embedding":
        return "embedding table; --embeddings gives it factors"
    if record.kind == "vector":
        return "bias" if record.name.endswith("bias") else "a vector"
    return f"{len(record.shape)} axes" if record.kind != "experts" else "fused experts"


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
    biases_fit = all(m.kind != "embedding" for m in adapter)
    result = []
    biased = False
    for item in items:
        module = module_of(item.name)
        if item.extra and item.name not in tuned:
            result.append(item)
        elif module in adapter.modules:
            if item.name.endswith(".bias") and biases_fit:
                biased = True
                result.append(replace(item, carried="bias"))
            else:
                result.append(item)
        else:
            for sibling in (n for n in tuned if module_of(n) == module):
                adapter.dense[sibling] = np.asarray(sources.tuned.map(tuned[sibling].name))
            result.append(replace(item, carried="whole"))
    if biased:
        _add_biases(adapter, sources, dtype)
    return result


def _add_biases(adapter: Adapter, sources: Sources, dtype: np.dtype[Any]) -> None:
    """Give every module a bias update: the change where there is one, zeros elsewhere."""
    by_name = {s.name: s for s in sources.tensors}
    for name, module in adapter.modules.items():
        source = by_name.get(f"{name}.bias")
        out = module.left.shape[0] if module.kind == "linear" else module.right.shape[1]
        change = np.zeros(out, np.float32)
        if source is not None and source.base is not None and sources.base is not None:
            ours = to_float(sources.tuned.map(source.tuned.name))
            theirs = to_float(sources.base.map(source.base.name))
            change = ours.astype(np.float32) - theirs.astype(np.float32)
        adapter.modules[name] = replace(module, bias=rounded(change, dtype))
