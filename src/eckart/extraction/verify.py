"""Verify: recompute an adapter's errors from the files alone, and compare them with its statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.rounding import relative
from eckart.adapter.statement import ModuleStatement, Statement, agree
from eckart.adapter.targets import experts_as_in
from eckart.checkpoint import is_float, to_float
from eckart.checkpoint.kinds import Kind, module_name, module_of
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.numbers import as_matrix, energy_of, name_non_finite
from eckart.errors import AdapterError
from eckart.parallel import OnProgress, Progress
from eckart.store.sources import PairedSource, PairSources
from eckart.text import count

BLOCK_ENTRIES = 1 << 21  # numbers of an update held at a time


@dataclass(frozen=True)
class Verified:
    """One module, as measured from the files and as stated.

    Parameters
    ----------
    name : str
    rank : int
        Rank of the factors in the layout of the base.
    error : float
        ||dW - B A||_F / ||dW||_F, measured.
    stated : float or None
        The same, as stated; None if nothing is stated.
    update : float
        ||dW||_F, measured.
    holds : bool
        Whether everything stated about the module is true, up to rounding.
    """

    name: str
    rank: int
    error: float
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
        The measured error relative to the change of all tensors.
    problems : tuple of str
        Statements that are false, other than those about single modules.
    """

    modules: tuple[Verified, ...]
    error: float
    stated: float | None
    error_of_whole_change: float
    problems: tuple[str, ...]

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
        If a module of the adapter is not in the checkpoints, or has another shape.

    Notes
    -----
    Reads the files block by block and uses nothing that extraction left behind. The product is
    formed in float32 and the squares are summed in float64: 2mnr flops per module. An adapter without a
    statement is measured too, and holds. So is a resized or combined adapter, whose statement is about the
    adapters that it was made from; use `eckart.compare` to check that one.

    Examples
    --------
    ``eckart.verify("base", "tuned", "adapter").holds``
    """
    sources = PairSources.open(base, tuned)
    loaded = load_adapter(adapter)
    # The statement of a resized or combined adapter is about the adapters that it was made of.
    about_checkpoints = loaded.statement is not None and not loaded.statement.sources
    statement = loaded.statement if about_checkpoints else None
    parameters = loaded.parameters
    loaded = replace(loaded, modules=experts_as_in(loaded.modules, sources.base))
    measured = _measure_modules(loaded, statement, sources, str(adapter), progress)
    lost_energy, energy = measured.lost_energy, measured.energy
    lost_elsewhere, energy_elsewhere = _not_carried(loaded, sources, measured.served)
    totals = {
        "error": relative(lost_energy, energy),
        "error_of_whole_change": relative(lost_energy + lost_elsewhere, energy + energy_elsewhere),
        "parameters": parameters,
    }
    problems = _statement_problems(loaded, statement, totals)
    problems += _bias_problems(loaded, sources)
    problems += _dense_problems(loaded, statement, sources)
    return Verification(
        measured.modules,
        totals["error"],
        None if statement is None else statement.error,
        totals["error_of_whole_change"],
        tuple(problems),
    )


@dataclass(frozen=True)
class _Measured:
    """All measured modules, their total energies, and the tensors that they update."""

    modules: tuple[Verified, ...]
    lost_energy: float
    energy: float
    served: set[str]


def _measure_modules(
    adapter: Adapter,
    statement: Statement | None,
    sources: PairSources,
    where: str,
    progress: OnProgress | None,
) -> _Measured:
    by_module = {module_name(s.name): s for s in sources.tensors if s.name.endswith((".weight", "]"))}
    modules: list[Verified] = []
    served: set[str] = set()
    lost_energy = whole = 0.0
    for done, module in enumerate(adapter, 1):
        stated = statement.modules.get(module.name) if statement is not None else None
        if statement is not None and stated is None and not module.left.any():
            continue  # zeros, which a consumer needs in a layer without an update
        tied = stated.tied if stated is not None else None
        source = _source(tied or module.name, by_module, f"{where}: {module.name}")
        missed, energy = _measure(source, _oriented(module, source, where))
        if tied is None:
            lost_energy, whole = lost_energy + missed, whole + energy
            served.add(source.name)
        error, update = relative(missed, energy), float(np.sqrt(energy))
        holds = statement is None or (stated is not None and _holds(stated, module.rank, error, update))
        stated_error = stated.error if stated is not None else None
        modules.append(Verified(module.name, module.rank, error, stated_error, update, holds))
        if progress is not None:
            progress(Progress(done, len(adapter), module.name, noun="module"))
    return _Measured(tuple(modules), lost_energy, whole, served)


def _holds(stated: ModuleStatement, rank: int, error: float, update: float) -> bool:
    return agree(stated.error, error) and agree(stated.update, update) and stated.rank == rank


def _statement_problems(
    adapter: Adapter, statement: Statement | None, totals: Mapping[str, float]
) -> list[str]:
    """List the totals that are stated incorrectly, and the stated modules that the file does not have."""
    if statement is None:
        return []
    stated = {
        "error": statement.error,
        "error_of_whole_change": statement.error_of_whole_change,
        "parameters": statement.parameters,
    }
    problems = [
        f"the statement lists {name}, which is not in the file"
        for name in statement.modules
        if name not in adapter.modules
    ]
    problems += [
        f"{key}: stated {_digits(stated[key])}, measured {_digits(value)}"
        for key, value in totals.items()
        if not agree(stated[key], value)
    ]
    return problems


def _digits(value: float | None) -> str:
    """Return six digits of a number; all digits of a whole number."""
    if value is None:
        return "nothing"
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _source(name: str, by_module: Mapping[str, PairedSource], where: str) -> PairedSource:
    if name not in by_module:
        raise AdapterError(
            where,
            "the two checkpoints do not both have this tensor",
            "Use the base that the adapter was made for",
        )
    return by_module[name]


def _oriented(module: Module, source: PairedSource, where: str) -> Module:
    """Return the module as its weight is stored, its shape checked against the base's."""
    oriented = module
    # A tied head is a linear layer over the embedding's table, the one kind that is not transposed.
    if source.kind in (Kind.CONV1D, Kind.EXPERT_TRANSPOSED) and not module.kind.is_transposed:
        oriented = module.transposed(source.kind)
    # If the vocabulary grew, the factors cover only the rows of the base.
    if oriented.shape != source.base.shape:
        raise AdapterError(
            f"{where}: {module.name}",
            f"the factors make {oriented.shape[0]} x {oriented.shape[1]}, but the base holds "
            f"{' x '.join(map(str, source.base.shape))}",
            "Use the base that the adapter was made for",
        )
    return oriented


def _measure(source: PairedSource, module: Module | None) -> tuple[float, float]:
    """Return ||dW - left right||_F^2 and ||dW||_F^2, a block of rows at a time."""
    tuned = as_matrix(map_tensor(source.tuned), source.rows)
    base = as_matrix(map_tensor(source.base), source.rows)
    rows, columns = tuned.shape
    left, right = module.float_factors() if module else (None, None)
    step = max(1, BLOCK_ENTRIES // max(columns, 1))
    missed = energy = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows, step):
            part = slice(start, start + step)
            update = np.array(to_float(tuned[part])) - to_float(base[part])
            energy += energy_of(update)
            if left is not None:
                update = update - left[part][: len(update)] @ right
                missed += energy_of(update)
        if left is not None and len(left) > rows:  # rows of the base alone: the intended update is zero
            missed += energy_of(left[rows:] @ right)
    if not np.isfinite(missed + energy):
        name_non_finite(source.tuned, source.rows)
        name_non_finite(source.base, source.rows)
        raise AdapterError(source.name, "the update or its factors overflow float32")
    return (missed if module else energy), energy


def _not_carried(adapter: Adapter, sources: PairSources, served: set[str]) -> tuple[float, float]:
    """Return the energy of all changes without factors: the lost part, and the total."""
    lost = everything = 0.0
    for s in sources.tensors:
        if s.name in served:
            pieces = []
        else:
            module = adapter.modules.get(module_of(s.name))
            biased = module is not None and module.bias is not None and s.name.endswith(".bias")
            pieces = [(_measure(s, None)[1], biased or s.name in adapter.dense)]
        if s.rows is not None and s.tuned.shape[0] > s.base.shape[0]:
            pieces.append((energy_of(map_tensor(s.tuned)[s.rows :]), s.name in adapter.dense))
        for energy, carried in pieces:
            everything += energy
            lost += 0.0 if carried else energy
    for name in sources.only_tuned:
        array = map_tensor(sources.tuned.info(name))
        if is_float(array.dtype):
            everything, lost = everything + energy_of(array), lost + energy_of(array)
    return lost, everything


def _bias_problems(adapter: Adapter, sources: PairSources) -> list[str]:
    """List the biases that differ from the change of the checkpoints' biases, rounded to their dtype."""
    by_name = {s.name: s for s in sources.tensors}
    problems = []
    for module in adapter:
        if module.bias is None:
            continue
        source = by_name.get(f"{module.name}.bias")
        scaled = module.bias.astype(np.float64) * module.scale  # as PEFT adds it
        change = np.zeros(len(module.bias), np.float32)
        if source is not None:
            change = np.array(to_float(map_tensor(source.tuned))) - to_float(map_tensor(source.base))
        if not np.array_equal(change.astype(module.bias.dtype), scaled.astype(module.bias.dtype)):
            problems.append(
                f"{module.name}.bias differs from the change of this bias between the checkpoints"
            )
    return problems


def _dense_problems(adapter: Adapter, statement: Statement | None, sources: PairSources) -> list[str]:
    """List the whole tensors that differ from those of the tuned checkpoint."""
    tuned = {s.name: s.tuned.name for s in sources.tensors}
    tied_whole = statement.tied_whole if statement is not None else {}
    tied = {f"{head}.weight": table for head, table in tied_whole.items()}
    problems = []
    for name, array in adapter.dense.items():
        original = tuned.get(tied.get(name, name))
        if original is None:
            problems.append(f"{name} is not in the tuned checkpoint")
        elif not np.array_equal(to_float(array), to_float(sources.tuned.map(original))):
            problems.append(f"{name} differs from the same tensor in the tuned checkpoint")
    return problems
