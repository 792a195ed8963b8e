"""The statements of an adapter that differ from what was measured from the files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from eckart.adapter.adapter import Adapter
from eckart.adapter.statement import FLOAT64_FLOOR, FLOOR, ModuleStatement, Statement, TensorStatement, agree
from eckart.checkpoint import to_float
from eckart.extraction.change import Carrier, TensorPart, find_tie
from eckart.extraction.energies import entry_changes
from eckart.extraction.measure import Norms, opposite_norm, relative_norm
from eckart.store.sources import PairedSource, PairSources


@dataclass(frozen=True)
class MeasuredModule:
    """One module of an adapter, and the norms that were measured for it.

    Parameters
    ----------
    name : str
    rank : int
    norms : Norms
    source : PairedSource
        The tensor that it updates.
    is_tied : bool
        Whether it repeats the factors of the embedding that it is tied to.
    """

    name: str
    rank: int
    norms: Norms
    source: PairedSource
    is_tied: bool

    @property
    def error(self) -> float | None:
        """||dW - B A||_F / ||dW||_F; None if nothing changed but B A is not zero."""
        return relative_norm(self.norms.lost, self.norms.update)

    @property
    def floor(self) -> float:
        """The absolute accuracy of its error: that of float64 if a checkpoint is float64, else of float32."""
        wide = "F64" in (self.source.tuned.dtype, self.source.base.dtype)
        return FLOAT64_FLOOR if wide else FLOOR


@dataclass(frozen=True)
class MeasuredPart:
    """One term of the whole change: its norm, and the norm of what the adapter leaves of it."""

    part: TensorPart
    update: float
    lost: float


@dataclass(frozen=True)
class Totals:
    """What was measured over all modules, and over the whole change.

    Parameters
    ----------
    parts : tuple of MeasuredPart
        The terms of the whole change.
    update : float
        The norm of the whole change.
    error : float
        The error of all modules together.
    error_of_whole_change : float
    parameters : int
        The number of entries in all factors of the file.
    """

    parts: tuple[MeasuredPart, ...]
    update: float
    error: float
    error_of_whole_change: float
    parameters: int


def module_holds(stated: ModuleStatement, measured: MeasuredModule) -> bool:
    """Return whether everything that is stated about a module is true, up to rounding.

    Parameters
    ----------
    stated : ModuleStatement
    measured : MeasuredModule
    """
    return (
        stated.rank == measured.rank
        and agree(stated.error, measured.error, measured.floor)
        and agree(stated.update, measured.norms.update, 0.0)
    )


def states_opposite(
    adapter: Adapter, statement: Statement | None, modules: Mapping[str, MeasuredModule]
) -> bool:
    """Return whether the adapter fits the change from tuned to base instead of that from base to tuned.

    Parameters
    ----------
    adapter : Adapter
        Its experts are in the layout of the base.
    statement : Statement, optional
        With a statement, the error against the opposite change must be the stated one. Without one, the
        adapter must enlarge the change and reduce its opposite.
    modules : mapping of str to MeasuredModule
    """
    own = [module for module in modules.values() if not module.is_tied]
    update = math.hypot(*(module.norms.update for module in own))
    if math.hypot(*(module.norms.lost for module in own)) <= update:
        return False
    opposite = math.hypot(*(opposite_norm(module.norms, adapter.modules[module.name]) for module in own))
    return opposite < update if statement is None else agree(statement.error, opposite / update)


def find_discrepancies(
    adapter: Adapter,
    statement: Statement,
    sources: PairSources,
    modules: Mapping[str, MeasuredModule],
    totals: Totals,
) -> tuple[str, ...]:
    """List the false statements of an adapter, other than those about the errors of single modules.

    Parameters
    ----------
    adapter : Adapter
        The adapter as read.
    statement : Statement
    sources : PairSources
    modules : mapping of str to MeasuredModule
    totals : Totals

    Returns
    -------
    tuple of str
        One sentence each.
    """
    return (
        *_missing_modules(statement, modules),
        *_false_totals(statement, modules, totals),
        *_false_tensors(statement, totals),
        *_false_biases(adapter, sources),
        *_false_whole_tensors(adapter, sources),
    )


def _missing_modules(statement: Statement, modules: Mapping[str, MeasuredModule]) -> Iterator[str]:
    for name in statement.modules:
        if name not in modules:
            yield f"the statement lists {name}, which is not in the file"


def _false_totals(
    statement: Statement, modules: Mapping[str, MeasuredModule], totals: Totals
) -> Iterator[str]:
    floor = max((module.floor for module in modules.values()), default=FLOOR)
    if not agree(statement.error, totals.error, floor):
        yield f"error: stated {_digits(statement.error)}, measured {_digits(totals.error)}"
    whole, stated_whole = totals.error_of_whole_change, statement.error_of_whole_change
    if not agree(stated_whole, whole, floor):
        yield f"error_of_whole_change: stated {_digits(stated_whole)}, measured {_digits(whole)}"
    if statement.parameters != totals.parameters:
        yield f"parameters: stated {_digits(statement.parameters)}, measured {totals.parameters}"


def _digits(value: float | None) -> str:
    """Return six digits of a number; all digits of a whole number."""
    if value is None:
        return "nothing"
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _false_tensors(statement: Statement, totals: Totals) -> Iterator[str]:
    """List the false entries about tensors without factors: those left out, and those saved whole."""
    changed = [part for part in totals.parts if part.update and part.part.carrier is not Carrier.FACTORS]
    left_out = [part for part in changed if part.part.carrier is Carrier.NOTHING]
    carried = [part for part in changed if part.part.carrier is not Carrier.NOTHING]
    yield from _false_entries("not_carried", statement.not_carried, left_out, totals.update)
    yield from _false_entries("carried_whole", statement.carried_whole, carried, totals.update)


def _false_entries(
    title: str, stated: Iterable[TensorStatement], measured: Iterable[MeasuredPart], whole: float
) -> Iterator[str]:
    stated_by_name: dict[str, list[TensorStatement]] = {}
    for entry in stated:
        stated_by_name.setdefault(entry.name, []).append(entry)
    measured_by_name: dict[str, list[MeasuredPart]] = {}
    for part in measured:
        measured_by_name.setdefault(part.part.name, []).append(part)
    for name in {**stated_by_name, **measured_by_name}:
        # A grown vocabulary has two entries: its shared rows and its new rows.
        entries = sorted(stated_by_name.get(name, []), key=lambda entry: entry.update)
        parts = sorted(measured_by_name.get(name, []), key=lambda part: part.update)
        if len(entries) != len(parts):
            yield f"{title}: {name} has {len(entries)} entries, but {len(parts)} were measured"
            continue
        for entry, part in zip(entries, parts, strict=True):
            share = (part.update / whole) ** 2
            where = f"{title}: {name}"
            if not agree(entry.update, part.update, 0.0):
                yield f"{where}: update stated {_digits(entry.update)}, measured {_digits(part.update)}"
            elif not agree(entry.share, share):
                yield f"{where}: share stated {_digits(entry.share)}, measured {_digits(share)}"


def _false_biases(adapter: Adapter, sources: PairSources) -> Iterator[str]:
    """List the biases that differ from the change of the checkpoints' biases, rounded to their dtype."""
    by_name = {s.name: s for s in sources.tensors}
    for module in adapter:
        if module.bias is None:
            continue
        source = by_name.get(f"{module.name}.bias")
        stored = (module.bias.astype(np.float64) * module.scale).astype(module.bias.dtype)  # as PEFT adds it
        change = np.zeros(len(module.bias))
        if source is not None and source.shape == module.bias.shape:
            change = entry_changes(source)
        if not np.array_equal(change.astype(module.bias.dtype), stored):
            yield f"{module.name}.bias differs from the change of this bias between the checkpoints"


def _false_whole_tensors(adapter: Adapter, sources: PairSources) -> Iterator[str]:
    """List the whole tensors that differ from those of the tuned checkpoint."""
    tuned = {s.name: s.tuned.name for s in sources.tensors}
    tie = find_tie(sources)
    if tie is not None and tie.head:
        tuned.setdefault(f"{tie.head}.weight", tuned[tie.table])
    for name, array in adapter.dense.items():
        original = tuned.get(name)
        if original is None:
            yield f"{name} is not in the tuned checkpoint"
        elif not np.array_equal(to_float(array), to_float(sources.tuned.map(original))):
            yield f"{name} differs from the same tensor in the tuned checkpoint"
