"""Changed tensors without factors (norms, biases, new rows): listed with their share, or saved whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import fuses_experts
from eckart.adapter.rounding import rounded
from eckart.adapter.statement import TensorStatement
from eckart.arrays import DType
from eckart.checkpoint import to_float
from eckart.checkpoint.kinds import Kind, is_head, is_input_embedding, module_name, module_of, tied_head
from eckart.checkpoint.numbers import energy_of, name_non_finite
from eckart.rank import RankPlan
from eckart.store import FactorStore, TensorRecord
from eckart.store.sources import LORA_KINDS, PairSources
from eckart.text import count


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
        Whether it exists only in the tuned checkpoint; the store does not count such tensors.
    carried : str
        How the adapter saves it without factors: ``"whole"``, ``"bias"``, or ``""`` for not at all.
    """

    name: str
    energy: float
    why: str
    extra: bool = False
    carried: str = ""

    def stated(self, everything: float) -> TensorStatement:
        """Return the entry of the statement, with the share of the whole change's energy."""
        share = self.energy / everything if everything else 0.0
        return TensorStatement(self.name, share, float(np.sqrt(self.energy)), self.why)


@dataclass(frozen=True)
class Carried:
    """An adapter, and the changed tensors without factors, saved whole or not.

    Parameters
    ----------
    adapter : Adapter
    leftovers : sequence of Leftover
    tied : mapping of str to str
        Output layers that are saved whole, each with the embedding table that it shares.
    """

    adapter: Adapter
    leftovers: Sequence[Leftover]
    tied: Mapping[str, str] = field(default_factory=dict)


def leftovers(
    store: FactorStore,
    sources: PairSources,
    plan: RankPlan,
    modules: Mapping[str, Module],
    unread: Mapping[str, str],
) -> list[Leftover]:
    """List every changed tensor that the modules' factors do not cover, the largest first.

    Parameters
    ----------
    store : FactorStore
    sources : PairSources
    plan : RankPlan
    modules : mapping of str to Module
        The modules that have factors.
    unread : mapping of str to str
        The reason for each planned tensor that a consumer cannot read.
    """
    head = tied_head(sources.tuned.names(), sources.tuned.config)
    items: list[Leftover] = []
    for record in store:
        if is_input_embedding(record.name) and record.energy and head is not None and head not in modules:
            items.append(_tied_leftover(record, head))
        if record.energy and not (module_name(record.name) in modules and record.is_matrix):
            why = unread.get(record.name) or _why(record, plan)
            items.append(Leftover(record.name, record.energy, why))
        if record.new_rows > 0:
            items.append(_new_rows(record, sources))
    items += [item for name in sources.only_tuned if (item := _only_tuned(name, sources)) is not None]
    return sorted(items, key=lambda item: -item.energy)


def _tied_leftover(record: TensorRecord, head: str) -> Leftover:
    why = "tied to the embedding, but PEFT does not apply the embedding's update to it"
    return Leftover(f"{head} (tied)", record.energy, why, extra=True)


def _new_rows(record: TensorRecord, sources: PairSources) -> Leftover:
    source = next(s for s in sources.tensors if s.name == record.name)
    rows = to_float(sources.tuned.map(source.tuned.name)[source.rows :]).astype(np.float64)
    if not np.isfinite(rows).all():
        name_non_finite(source.tuned)
    why = count(record.new_rows, "new row")
    return Leftover(record.name, float((rows**2).sum()), why, extra=True)


def _only_tuned(name: str, sources: PairSources) -> Leftover | None:
    """Return the leftover for a tensor that the base does not have; None for a tensor of integers."""
    values = sources.tuned.map(name)
    if values.dtype.kind in "iub":
        return None
    energy = energy_of(values)
    if not np.isfinite(energy):
        name_non_finite(sources.tuned.info(name))
    return Leftover(name, energy, "not in the base", extra=True)


def _why(record: TensorRecord, plan: RankPlan) -> str:
    if record.name in plan.ranks:
        return f"rank 0: {plan.reasons.get(record.name, '')}".rstrip(": ")
    if record.kind in LORA_KINDS:
        return "left out by --include or --exclude"
    if record.kind == Kind.EMBEDDING:
        return "embedding table; --embeddings gives it factors"
    if record.kind == Kind.VECTOR:
        return "bias" if record.name.endswith("bias") else "a vector"
    return f"{len(record.shape)} axes"


def carry_whole(carried: Carried, sources: PairSources, dtype: DType) -> Carried:
    """Save whole, in the adapter, every leftover that PEFT can hold that way.

    Parameters
    ----------
    carried : Carried
        The adapter and its leftovers.
    sources : PairSources
    dtype : numpy dtype
        Dtype of bias updates.

    Notes
    -----
    The bias of a module that has factors goes to ``lora_B.bias`` (PEFT's ``lora_bias``), which needs a bias
    on every module and cannot be combined with embedding factors. Other tensors go to ``modules_to_save``,
    which replaces whole modules, so an unchanged sibling parameter is saved too.
    """
    adapter = carried.adapter
    tuned = {source.name: source.tuned for source in sources.tensors}
    stacks = {module_of(name) for name in tuned if name.endswith("]")}
    containers = {path for name in tuned for path in _above(module_of(name))}
    # PEFT does not support lora_bias together with factors of embedding tables or fused experts.
    biases_fit = all(m.kind.is_linear for m in adapter) and not fuses_experts(sources.config)
    dense = dict(adapter.dense)
    in_both, others = [], []
    for item in carried.leftovers:
        module = module_of(item.name)
        if item.name not in tuned:
            others.append(item)
        elif module in adapter.modules:
            is_bias = item.name.endswith(".bias") and biases_fit
            in_both.append(replace(item, carried="bias") if is_bias else item)
        elif module in stacks or module in containers:
            # Saving the module would save its submodules and its other experts too.
            in_both.append(item)
        else:
            for sibling in (n for n in tuned if module_of(n) == module and not n.endswith("]")):
                dense[sibling] = np.asarray(sources.tuned.map(tuned[sibling].name))
            in_both.append(replace(item, carried="whole"))
    modules = dict(adapter.modules)
    if any(item.carried == "bias" for item in in_both):
        modules = _with_biases(modules, sources, dtype)
    result = Carried(replace(adapter, modules=modules, dense=dense), [*in_both, *others])
    return _with_tied_head(result, sources)


def _above(module: str) -> list[str]:
    """Return the modules that contain a module: ``"a.b.c"`` is in ``"a.b"`` and in ``"a"``."""
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _with_tied_head(carried: Carried, sources: PairSources) -> Carried:
    """Save a tied head too where its embedding is saved whole: PEFT unties them by saving both."""
    head = tied_head(sources.tuned.names(), sources.tuned.config)
    dense = carried.adapter.dense
    table = next((name for name in dense if is_input_embedding(name)), None)
    tied_name = f"{head} (tied)"
    is_listed = any(item.name == tied_name for item in carried.leftovers)
    # The decoder of a masked model also has a bias, tied to a parameter elsewhere, so it is not saved.
    if head is None or not is_head(f"{head}.weight") or table is None or not is_listed:
        return carried
    adapter = replace(carried.adapter, dense={**dense, f"{head}.weight": dense[table]})
    items = [replace(item, carried="whole") if item.name == tied_name else item for item in carried.leftovers]
    return Carried(adapter, items, {head: table})


def _with_biases(modules: Mapping[str, Module], sources: PairSources, dtype: DType) -> dict[str, Module]:
    """Give every module a bias update: the change where there is one, zeros elsewhere."""
    by_name = {source.name: source for source in sources.tensors}
    result = {}
    for name, module in modules.items():
        source = by_name.get(f"{name}.bias")
        change = np.zeros(module.BA[0].shape[0], np.float32)
        if source is not None:
            tuned = to_float(sources.tuned.map(source.tuned.name))
            base = to_float(sources.base.map(source.base.name))
            change = tuned.astype(np.float32) - base.astype(np.float32)
        result[name] = replace(module, bias=rounded(change, dtype))
    return result
