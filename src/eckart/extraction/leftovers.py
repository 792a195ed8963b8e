"""Changed tensors without factors (norms, biases, new rows): listed with their share, or saved whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import fuses_experts
from eckart.adapter.rounding import rounded
from eckart.adapter.statement import TensorStatement
from eckart.arrays import DType
from eckart.checkpoint.kinds import Kind, is_head, module_of
from eckart.extraction.change import Carrier, Region, TensorPart, find_tie, parts_of_change
from eckart.extraction.energies import energy_lost_by_bias, entry_changes, stored_energy
from eckart.rank import RankPlan
from eckart.store import FactorStore
from eckart.store.sources import LORA_KINDS, PairSources
from eckart.text import count


@dataclass(frozen=True)
class Leftover:
    """A changed tensor, or the new rows of one, that has no factors.

    Parameters
    ----------
    part : TensorPart
        The tensor, and what in the adapter holds its change without factors, if anything does.
    energy : float
        ||tuned - base||_F^2, or ||tuned||_F^2 of what the base does not have.
    lost_energy : float
        The energy that the adapter does not reproduce: all of it, nothing, or the rounding of a bias.
    why : str
        Why it has no factors.
    """

    part: TensorPart
    energy: float
    lost_energy: float
    why: str

    @property
    def name(self) -> str:
        """The tensor."""
        return self.part.name

    @property
    def is_carried(self) -> bool:
        """Whether the adapter holds the change, as a whole tensor or a bias."""
        return self.part.carrier is not Carrier.NOTHING

    def stated(self, everything: float) -> TensorStatement:
        """Return the entry of the statement, with the share of the whole change's energy."""
        share = self.energy / everything if everything else 0.0
        return TensorStatement(self.name, share, float(np.sqrt(self.energy)), self.why)


def leftovers(
    store: FactorStore,
    sources: PairSources,
    plan: RankPlan,
    adapter: Adapter,
    left_out: Mapping[str, str],
) -> list[Leftover]:
    """List every changed tensor that the adapter's factors do not hold, the largest first.

    Parameters
    ----------
    store : FactorStore
    sources : PairSources
    plan : RankPlan
    adapter : Adapter
        Its experts are in the layout of the base.
    left_out : mapping of str to str
        Planned tensors that get no factors after all, each with the reason.
    """
    items: list[Leftover] = []
    for part in parts_of_change(sources, adapter):
        if part.carrier is Carrier.FACTORS:
            continue
        energy = store.record(part.name).energy if part.is_shared else stored_energy(part.tuned, part.start)
        if not energy:
            continue
        lost_energy = energy if part.carrier is Carrier.NOTHING else 0.0
        if part.carrier is Carrier.BIAS and part.source is not None:
            lost_energy = energy_lost_by_bias(part.source, adapter.modules[part.module])
        items.append(Leftover(part, energy, lost_energy, _why(part, plan, left_out)))
    return sorted(items, key=lambda item: -item.energy)


def _why(part: TensorPart, plan: RankPlan, left_out: Mapping[str, str]) -> str:
    name, source = part.name, part.source
    if source is None:
        return "not in the base"
    if part.region is Region.NEW_ROWS:
        return count(source.tuned.shape[0] - part.start, "new row")
    if name in left_out:
        return left_out[name]
    if name in plan.ranks:
        return f"rank 0: {plan.reasons.get(name, '')}".rstrip(": ")
    if source.kind in LORA_KINDS:
        return "left out by --include or --exclude"
    if source.kind == Kind.EMBEDDING:
        return "embedding table; --embeddings gives it factors"
    if source.kind == Kind.VECTOR:
        return "bias" if name.endswith("bias") else "a vector"
    return (
        "a matrix, but not the weight of a layer" if len(source.shape) == 2 else f"{len(source.shape)} axes"
    )


def carry_whole(
    adapter: Adapter, items: Sequence[Leftover], sources: PairSources, dtype: DType
) -> tuple[Adapter, dict[str, str]]:
    """Save whole, in the adapter, every leftover that PEFT can hold that way.

    Parameters
    ----------
    adapter : Adapter
    items : sequence of Leftover
        The changed tensors that have no factors in the adapter.
    sources : PairSources
    dtype : numpy dtype
        Dtype of bias updates.

    Returns
    -------
    adapter : Adapter
    tied : dict of str to str
        Output layers that are saved whole, each with the embedding table that it shares.

    Notes
    -----
    The bias of a module that has factors goes to ``lora_B.bias`` (PEFT's ``lora_bias``), which needs a bias
    on every module and cannot be combined with embedding factors. Other tensors go to ``modules_to_save``,
    which replaces whole modules, so an unchanged sibling parameter is saved too.
    """
    tuned = {source.name: source.tuned for source in sources.tensors}
    # PEFT does not support lora_bias together with factors of embedding tables or fused experts.
    biases_fit = all(m.kind.is_linear for m in adapter) and not fuses_experts(sources.config)
    savable = _savable_modules(list(tuned))
    dense = dict(adapter.dense)
    has_biases = False
    for item in items:
        module = module_of(item.name)
        if item.part.region is Region.TUNED_ONLY:
            continue
        if module in adapter.modules:
            fits = biases_fit and _is_bias_of(adapter.modules[module], item.part)
            has_biases = has_biases or fits
        elif module in savable:
            for sibling in savable[module]:
                dense[sibling] = np.asarray(sources.tuned.map(tuned[sibling].name))
    modules = _with_biases(adapter.modules, sources, dtype) if has_biases else adapter.modules
    return _with_tied_head(replace(adapter, modules=modules, dense=dense), sources)


def _is_bias_of(module: Module, part: TensorPart) -> bool:
    """Return whether a tensor is the bias vector of a layer; other tensors can have its name."""
    is_vector = part.source is not None and part.source.shape == (module.BA[0].shape[0],)
    return is_vector and part.name == f"{module.name}.bias"


def _savable_modules(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the modules that PEFT can save whole, each with its tensors.

    A module is left out if it contains other modules, or experts, which PEFT would save with it. A tensor
    outside all modules cannot be saved, nor can one that PEFT would take for a factor, by its name.
    """
    containers = {path for name in names for path in _above(module_of(name))}
    containers |= {module_of(name) for name in names if name.endswith("]")}
    savable: dict[str, list[str]] = {}
    for name in names:
        module = module_of(name)
        if module and module not in containers:
            savable.setdefault(module, []).append(name)
    return {module: own for module, own in savable.items() if not any("lora_" in name for name in own)}


def _above(module: str) -> list[str]:
    """Return the modules that contain a module: ``"a.b.c"`` is in ``"a.b"`` and in ``"a"``."""
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _with_tied_head(adapter: Adapter, sources: PairSources) -> tuple[Adapter, dict[str, str]]:
    """Save a tied head too where its embedding is saved whole: PEFT unties them by saving both."""
    tie = find_tie(sources)
    # The decoder of a masked model also has a bias, tied to a parameter elsewhere, so it is not saved.
    if tie is None or not is_head(f"{tie.head}.weight") or tie.table not in adapter.dense:
        return adapter, {}
    if tie.head in adapter.modules:
        return adapter, {}
    dense = {**adapter.dense, f"{tie.head}.weight": adapter.dense[tie.table]}
    return replace(adapter, dense=dense), {tie.head: tie.table}


def tie_notes(sources: PairSources, adapter: Adapter) -> tuple[str, ...]:
    """Return a note if PEFT applies the change of an embedding to its tied head not at all, or twice.

    Parameters
    ----------
    sources : PairSources
    adapter : Adapter
        The adapter as written.
    """
    tie = find_tie(sources)
    if tie is None or not (tie.table in adapter.dense or module_of(tie.table) in adapter.modules):
        return ()
    if f"{tie.head}.weight" in adapter.dense:
        return ()
    if tie.head in adapter.modules:
        return (
            f"{tie.head} has the factors of {tie.table}, whose weight it shares. PEFT computes both right, "
            "but its merge_and_unload adds the update to that weight twice: merge with eckart merge.",
        )
    head = tie.head or "the output layer"
    return (
        f"{tie.table} is tied to {head}, but PEFT applies an update of the table to the table alone. "
        "The stated errors do not include that difference.",
    )


def _with_biases(modules: Mapping[str, Module], sources: PairSources, dtype: DType) -> dict[str, Module]:
    """Give every module a bias update: the change where there is one, zeros elsewhere."""
    by_name = {source.name: source for source in sources.tensors}
    result = {}
    for name, module in modules.items():
        source = by_name.get(f"{name}.bias")
        width = module.BA[0].shape[0]
        fits = source is not None and source.shape == (width,)
        change = entry_changes(source) if source is not None and fits else np.zeros(width)
        result[name] = replace(module, bias=rounded(change, dtype))
    return result
