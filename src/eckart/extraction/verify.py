"""Verify: recompute an adapter's errors from the files alone, and compare them with its statement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.statement import Statement
from eckart.adapter.targets import experts_as_in
from eckart.checkpoint.kinds import Kind, tensor_of
from eckart.errors import AdapterError
from eckart.extraction.change import Carrier, TensorPart, Tie, find_tie, parts_of_change, source_of
from eckart.extraction.discrepancies import (
    MeasuredModule,
    MeasuredPart,
    Totals,
    find_discrepancies,
    module_holds,
    states_opposite,
)
from eckart.extraction.energies import (
    energy_lost_by_bias,
    energy_lost_by_rows,
    energy_lost_by_whole,
    stored_energy,
)
from eckart.extraction.measure import matrix_shape, measure_update
from eckart.parallel import OnProgress, Progress
from eckart.store.sources import PairedSource, PairSources
from eckart.text import count


@dataclass(frozen=True)
class Verified:
    """One module, as measured from the files and as stated.

    Parameters
    ----------
    name : str
    rank : int
        Rank of the factors in the layout of the base.
    error : float or None
        ||dW - B A||_F / ||dW||_F, measured; 0 if both are zero, None if dW is zero and B A is not.
    stated : float or None
        The same, as stated; None if nothing is stated.
    update : float
        ||dW||_F, measured.
    holds : bool
        Whether everything stated about the module is true, up to rounding.
    """

    name: str
    rank: int
    error: float | None
    stated: float | None
    update: float
    holds: bool


@dataclass(frozen=True, repr=False)
class Verification:
    """The result of `verify`.

    Parameters
    ----------
    modules : tuple of Verified
        One for each module of the adapter.
    error, stated : float
        The error of all modules together: measured, and as stated (None if nothing is stated).
    error_of_whole_change : float
        The measured error relative to the change of all tensors, each counted once.
    problems : tuple of str
        Statements that are false, other than those about single modules.
    is_exchanged : bool
        Whether base and tuned look exchanged: the adapter fits the opposite change, as stated.
    """

    modules: tuple[Verified, ...]
    error: float
    stated: float | None
    error_of_whole_change: float
    problems: tuple[str, ...]
    is_exchanged: bool = False

    @property
    def holds(self) -> bool:
        """Whether every statement holds."""
        return not self.problems and all(m.holds for m in self.modules)

    def __repr__(self) -> str:
        return f"Verification(holds={self.holds}, error={self.error:.4g}, {count(self.modules, 'module')})"


def verify(
    base: str | Path,
    tuned: str | Path,
    adapter: str | Path,
    progress: OnProgress | None = None,
) -> Verification:
    """Measure ||(tuned - base) - B A||_F / ||tuned - base||_F for every module of an adapter.

    Parameters
    ----------
    base, tuned : path
        Checkpoints.
    adapter : path
        A PEFT adapter, made by any program.
    progress : callable, optional
        Called with a `Progress` after each module.

    Returns
    -------
    Verification

    Raises
    ------
    AdapterError
        If a module of the adapter is not in the checkpoints or has another shape, or no layer that the
        adapter updates changed.

    Notes
    -----
    Reads the files block by block and uses nothing that extraction left behind: 2mnr flops per module, in
    float64 if a checkpoint or the adapter is float64, and otherwise in float32 with float64 sums.

    The whole change counts every floating-point tensor that the files store once: tuned - base where both
    hold the tensor, all of it where only the tuned checkpoint does. An output layer that is tied to the
    embedding is not stored and does not count; its factors must still be those of the embedding's change.

    An adapter without a statement is measured too, and holds. So is a resized or combined adapter, whose
    statement is about the adapters that it was made from; use `eckart.compare` to check that one.

    Examples
    --------
    ``eckart.verify("base", "tuned", "adapter").holds``
    """
    sources = PairSources.open(base, tuned)
    loaded = load_adapter(adapter)
    # The statement of a resized or combined adapter is about the adapters that it was made of.
    about_checkpoints = loaded.statement is not None and not loaded.statement.sources
    statement = loaded.statement if about_checkpoints else None
    in_base = replace(loaded, modules=_counted(experts_as_in(loaded.modules, sources.base), statement))
    modules = _measure_modules(in_base, sources, str(adapter), progress)
    totals = _total(_measure_parts(in_base, sources, modules), modules, loaded.parameters, str(adapter))
    problems = () if statement is None else find_discrepancies(loaded, statement, sources, modules, totals)
    verified = tuple(_verified(module, statement) for module in modules.values())
    is_false = bool(problems) or not all(module.holds for module in verified)
    return Verification(
        modules=verified,
        error=totals.error,
        stated=None if statement is None else statement.error,
        error_of_whole_change=totals.error_of_whole_change,
        problems=problems,
        is_exchanged=(is_false or statement is None) and states_opposite(in_base, statement, modules),
    )


def _counted(modules: Mapping[str, Module], statement: Statement | None) -> dict[str, Module]:
    """Return the modules without zeros about which nothing is stated: a consumer needs them as padding."""
    stated = {} if statement is None else statement.modules
    return {
        name: module
        for name, module in modules.items()
        if statement is None or name in stated or module.left.any()
    }


def _measure_modules(
    adapter: Adapter, sources: PairSources, where: str, progress: OnProgress | None
) -> dict[str, MeasuredModule]:
    by_name = {source.name: source for source in sources.tensors}
    tie = find_tie(sources)
    measured: dict[str, MeasuredModule] = {}
    for done, module in enumerate(adapter, 1):
        source = _source(module.name, by_name, tie, where)
        norms = measure_update(source, _oriented(module, source, where))
        is_tied = source.name != tensor_of(module.name)
        measured[module.name] = MeasuredModule(module.name, module.rank, norms, source, is_tied)
        if progress is not None:
            progress(Progress(done, len(adapter), module.name, noun="module"))
    return measured


def _source(module: str, by_name: Mapping[str, PairedSource], tie: Tie | None, where: str) -> PairedSource:
    source = source_of(module, by_name, tie)
    if source is None:
        raise AdapterError(
            f"{where}: {module}",
            "the two checkpoints do not both have this tensor",
            "Use the base that the adapter was made for",
        )
    return source


def _oriented(module: Module, source: PairedSource, where: str) -> Module:
    """Return the module as its weight is stored, its shape checked against the base's."""
    oriented = module
    # A tied head is a linear layer over the embedding's table, the one kind that is not transposed.
    if source.kind in (Kind.CONV1D, Kind.EXPERT_TRANSPOSED) and not module.kind.is_transposed:
        oriented = module.transposed(source.kind)
    # If the vocabulary grew, the factors cover only the rows of the base.
    if oriented.shape != matrix_shape(source.base):
        raise AdapterError(
            f"{where}: {module.name}",
            f"the factors make {oriented.shape[0]} x {oriented.shape[1]}, but the base holds "
            f"{' x '.join(map(str, source.base.shape))}",
            "Use the base that the adapter was made for",
        )
    return oriented


def _measure_parts(
    adapter: Adapter, sources: PairSources, modules: Mapping[str, MeasuredModule]
) -> list[MeasuredPart]:
    """Measure every term of the whole change, and what the adapter leaves of it."""
    return [_measure_part(part, adapter, modules) for part in parts_of_change(sources, adapter)]


def _measure_part(part: TensorPart, adapter: Adapter, modules: Mapping[str, MeasuredModule]) -> MeasuredPart:
    if part.carrier is Carrier.FACTORS:
        norms = modules[part.module].norms
        return MeasuredPart(part, norms.update, norms.lost)
    if part.is_shared and part.source is not None:
        update = measure_update(part.source).update
    else:
        update = math.sqrt(stored_energy(part.tuned, part.start))
    lost = update
    if part.carrier is Carrier.BIAS and part.source is not None:
        lost = math.sqrt(energy_lost_by_bias(part.source, adapter.modules[part.module]))
    elif part.carrier is Carrier.WHOLE:
        lost = math.sqrt(energy_lost_by_whole(part, adapter.dense[part.name]))
    elif part.carrier is Carrier.ROWS:
        lost = math.sqrt(energy_lost_by_rows(part, adapter.rows[part.name], update**2))
    return MeasuredPart(part, update, lost)


def _total(
    parts: list[MeasuredPart], modules: Mapping[str, MeasuredModule], parameters: int, where: str
) -> Totals:
    own = [module.norms for module in modules.values() if not module.is_tied]
    update = math.hypot(*(norms.update for norms in own))
    if update == 0:
        raise AdapterError(
            where,
            "no layer that this adapter updates differs between the two checkpoints",
            "Check that the second one is the fine-tuned checkpoint",
        )
    whole = math.hypot(*(part.update for part in parts))
    return Totals(
        parts=tuple(parts),
        update=whole,
        error=math.hypot(*(norms.lost for norms in own)) / update,
        error_of_whole_change=math.hypot(*(part.lost for part in parts)) / whole,
        parameters=parameters,
    )


def _verified(module: MeasuredModule, statement: Statement | None) -> Verified:
    stated = None if statement is None else statement.modules.get(module.name)
    return Verified(
        name=module.name,
        rank=module.rank,
        error=module.error,
        stated=None if stated is None else stated.error,
        update=module.norms.update,
        holds=statement is None or (stated is not None and module_holds(stated, module)),
    )
