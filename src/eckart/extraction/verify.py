"""Recompute an adapter's errors from three sets of files alone, and compare them with what is stated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import TRANSPOSED, Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.statement import agree, relative
from eckart.adapter.targets import experts_as_in
from eckart.checkpoint import is_float, to_float
from eckart.checkpoint.kinds import module_name, module_of
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.numbers import as_matrix, energy_of, name_non_finite
from eckart.errors import AdapterError
from eckart.parallel import OnProgress, Progress
from eckart.store.sources import Source, Sources

BLOCK = 1 << 21  # numbers of an update held at a time


@dataclass(frozen=True)
class Verified:
    """One module: what the files say of it, and what was stated; None where nothing was.

    Parameters
    ----------
    error : float
        ||dW - B A||_F / ||dW||_F, measured.
    stated : float or None
        The same, as stated.
    update : float
        ||dW||_F, measured.
    holds : bool
        Whether everything stated of the module is so, to rounding.
    """

    name: str
    rank: int
    error: float
    stated: float | None
    update: float
    holds: bool


@dataclass(frozen=True)
class Verification:
    """Every module's error, the errors of all together, and what else is stated and not so."""

    modules: tuple[Verified, ...]
    error: float
    stated: float | None
    error_of_whole_change: float
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every statement holds."""
        return not self.problems and all(m.holds for m in self.modules)


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
        A PEFT adapter, of Eckart or of anyone.
    progress : callable, optional
        Called with (done, total, name).

    Raises
    ------
    AdapterError
        If a module of the adapter is not in the checkpoints, or has another shape.

    Notes
    -----
    Reads the files block by block and uses nothing that extraction left behind. The product is
    formed in float32 and the squares are summed in float64: 2mnr flops a module. An adapter that
    states nothing is measured all the same, and holds.
    """
    sources = Sources.open(base, tuned)
    loaded = load_adapter(adapter)
    # What a resized or combined adapter states is about the adapters it was made of, not about these.
    statement = {} if "of" in loaded.statement else loaded.statement
    stated: dict[str, dict[str, Any]] = statement.get("modules", {})
    by_module = {module_name(s.name): s for s in sources.tensors if s.name.endswith((".weight", "]"))}
    assert sources.base is not None
    parameters = loaded.parameters
    loaded.modules = experts_as_in(loaded.modules, sources.base)
    results, served = [], set()
    left_out = whole = 0.0
    for done, module in enumerate(loaded, 1):
        says = stated.get(module.name, {})
        if statement and not says and not module.left.any():
            continue  # zeros that stand in for what has no update
        source = _source(says.get("tied", module.name), by_module, f"{adapter}: {module.name}")
        missed, energy = _measure(source, _oriented(module, source, str(adapter)))
        if "tied" not in says:
            left_out, whole = left_out + missed, whole + energy
            served.add(source.name)
        results.append(_verified(module, says, missed, energy, bool(statement)))
        if progress is not None:
            progress(Progress(done, len(loaded), module.name))
    lost, everything = _not_carried(loaded, sources, served)
    measured = {
        "error": relative(left_out, whole),
        "error_of_whole_change": relative(left_out + lost, whole + everything),
        "parameters": parameters,
    }
    problems = [f"{name} is stated and not in the file" for name in stated if name not in loaded.modules]
    if statement:
        problems += [
            f"{key}: stated {statement.get(key)}, measured {value}"
            for key, value in measured.items()
            if not agree(statement.get(key), value)
        ]
    problems += _bias_problems(loaded, sources) + _dense_problems(loaded, sources)
    return Verification(
        tuple(results),
        measured["error"],
        statement.get("error"),
        measured["error_of_whole_change"],
        tuple(problems),
    )


def _source(name: str, by_module: dict[str, Source], where: str) -> Source:
    if name not in by_module:
        raise AdapterError(
            where, "is not a tensor of both checkpoints", "Name the base that the adapter was made for"
        )
    return by_module[name]


def _oriented(module: Module, source: Source, where: str) -> Module:
    """Return the module as its weight is stored, its shape checked against the base's."""
    assert source.base is not None
    turned = module
    # A tied head is a linear layer over the embedding's table: the one kind that is not turned.
    if source.kind in ("conv1d", "expert_transposed") and module.kind not in TRANSPOSED:
        turned = module.transposed(source.kind)
    # A vocabulary that grew may be served as far as the base has it.
    if turned.shape != source.base.shape:
        raise AdapterError(
            f"{where}: {module.name}",
            f"factors make {turned.shape[0]} x {turned.shape[1]}, the base holds "
            f"{' x '.join(map(str, source.base.shape))}",
            "Name the base that the adapter was made for",
        )
    return turned


def _verified(module: Module, says: dict[str, Any], missed: float, energy: float, must_say: bool) -> Verified:
    error, update = relative(missed, energy), float(np.sqrt(energy))
    holds = not must_say or (
        agree(says.get("error"), error)
        and agree(says.get("update"), update)
        and says.get("rank") == module.rank
    )
    return Verified(module.name, module.rank, error, says.get("error"), update, holds)


def _measure(source: Source, module: Module | None) -> tuple[float, float]:
    """Return ||dW - left right||_F^2 and ||dW||_F^2, a block of rows at a time."""
    assert source.base is not None
    ours = as_matrix(map_tensor(source.tuned), source.rows)
    theirs = as_matrix(map_tensor(source.base), source.rows)
    rows, columns = ours.shape
    left, right = module.float_factors() if module else (None, None)
    step = max(1, BLOCK // max(columns, 1))
    missed = energy = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows, step):
            part = slice(start, start + step)
            update = np.array(to_float(ours[part])) - to_float(theirs[part])
            energy += energy_of(update)
            if left is not None:
                update = update - left[part][: len(update)] @ right
                missed += energy_of(update)
        if left is not None and len(left) > rows:  # where only the base has rows, there is nothing to add
            missed += energy_of(left[rows:] @ right)
    if not np.isfinite(missed + energy):
        name_non_finite(source.tuned, source.rows)
        name_non_finite(source.base, source.rows)
        raise AdapterError(source.name, "the update or its factors overflow float32")
    return (missed if module else energy), energy


def _not_carried(adapter: Adapter, sources: Sources, served: set[str]) -> tuple[float, float]:
    """Return the energy of the changes without factors: what is lost, and all of it."""
    lost = everything = 0.0
    for s in sources.tensors:
        if s.name in served:
            pieces = []
        else:
            module = adapter.modules.get(module_of(s.name))
            biased = module is not None and module.bias is not None and s.name.endswith(".bias")
            pieces = [(_measure(s, None)[1], biased or s.name in adapter.dense)]
        if s.rows is not None and s.base is not None and s.tuned.shape[0] > s.base.shape[0]:
            pieces.append((energy_of(map_tensor(s.tuned)[s.rows :]), s.name in adapter.dense))
        for energy, carried in pieces:
            everything += energy
            lost += 0.0 if carried else energy
    for name in sources.only_tuned:
        array = map_tensor(sources.tuned.info(name))
        if is_float(array.dtype):
            everything, lost = everything + energy_of(array), lost + energy_of(array)
    return lost, everything


def _bias_problems(adapter: Adapter, sources: Sources) -> list[str]:
    """Say which biases are not the change of the checkpoints' biases, to the rounding of their dtype."""
    by_name = {s.name: s for s in sources.tensors}
    problems = []
    for module in adapter:
        if module.bias is None:
            continue
        source = by_name.get(f"{module.name}.bias")
        scaled = module.bias.astype(np.float64) * module.scale  # as PEFT adds it
        change = np.zeros(len(module.bias), np.float32)
        if source is not None and source.base is not None:
            change = np.array(to_float(map_tensor(source.tuned))) - to_float(map_tensor(source.base))
        if not np.array_equal(change.astype(module.bias.dtype), scaled.astype(module.bias.dtype)):
            problems.append(f"{module.name}.bias is not the change of that bias")
    return problems


def _dense_problems(adapter: Adapter, sources: Sources) -> list[str]:
    """Say which whole tensors are not those of the tuned checkpoint."""
    tuned = {s.name: s.tuned.name for s in sources.tensors}
    tied = {f"{k}.weight": v for k, v in adapter.statement.get("tied_whole", {}).items()}
    problems = []
    for name, array in adapter.dense.items():
        original = tuned.get(tied.get(name, name))
        if original is None:
            problems.append(f"{name} is not a tensor of the tuned checkpoint")
        elif not np.array_equal(to_float(array), to_float(sources.tuned.map(original))):
            problems.append(f"{name} is not what the tuned checkpoint holds")
    return problems
