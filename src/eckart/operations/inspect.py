"""Inspect: the spectra of an adapter's updates, and whether a few singular values dominate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.targets import Target, Targets
from eckart.adapter.updates import WeightedSum
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.dtypes import dtype_name
from eckart.checkpoint.kinds import Kind
from eckart.checkpoint.model import open_model
from eckart.checkpoint.numbers import energy_of
from eckart.linalg import Spectrum
from eckart.parallel import OnProgress, Progress, map_unordered
from eckart.store.summary import ENERGIES
from eckart.text import count, rank_range

# Heuristics for the share of the stored rank that 90 % of the energy needs. The product of two Gaussian
# factors, which prefers no direction, needs 0.81 to 0.93 of it (measured for r = 8 to 64, d = 768).
DOMINATED = 0.25
CROWDED = 0.75


@dataclass(frozen=True)
class ModuleSummary:
    """The update of one module in numbers.

    Parameters
    ----------
    name : str
        The module.
    kind : Kind
        Its kind, as in `Module`.
    shape : (int, int)
        Shape of the update, (m, n).
    rank : int
        Rank of the stored factors.
    size : float
        ||scale B A||_F.
    relative : float or None
        `size` over ||W||_F; None if no base was given.
    sigma_1 : float
        The largest singular value.
    first : float
        Share of the energy in the first component.
    stable_rank, effective_rank : float
        As `Spectrum` defines them.
    ranks : dict of str to int
        The least ranks that keep 80, 90, 95 and 99 % of the energy, by ``"80%"`` and so on.
    knee : int or None
        The rank at the knee of the energy curve; None if there is no knee.
    """

    name: str
    kind: Kind
    shape: tuple[int, int]
    rank: int
    size: float
    relative: float | None
    sigma_1: float
    first: float
    stable_rank: float
    effective_rank: float
    ranks: dict[str, int]
    knee: int | None

    @property
    def share(self) -> float:
        """The share of the stored rank that 90 % of the energy needs."""
        return self.ranks["90%"] / self.rank

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        return {**asdict(self), "kind": str(self.kind)}


@dataclass(frozen=True, repr=False)
class AdapterSummary:
    """The result of `inspect_adapter`.

    Parameters
    ----------
    modules : tuple of ModuleSummary
        One for each module, in the adapter's order.
    parameters : int
        Number of parameters in all factors.
    dtype : str
        The dtype of most of them, as torch names it.
    notes : tuple of str
        Remarks on the adapter's file, in sentences.
    """

    modules: tuple[ModuleSummary, ...]
    parameters: int
    dtype: str
    notes: tuple[str, ...]

    @property
    def diagnosis(self) -> list[str]:
        """What 90 % of the energy needs, and whether a few singular values dominate, in sentences."""
        return diagnose(self.modules)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        return {
            "modules": [module.to_json() for module in self.modules],
            "diagnosis": self.diagnosis,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        modules, parameters = count(self.modules, "module"), count(self.parameters, "parameter")
        return f"AdapterSummary({modules}, {parameters}, {self.dtype})"


def inspect_adapter(
    adapter: Adapter | str | Path,
    base: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> AdapterSummary:
    """Measure the spectrum of every update of an adapter.

    Parameters
    ----------
    adapter : Adapter, str or Path
        An adapter, or the path of one.
    base : str or Path, optional
        The model that it updates. With it, every update is also measured relative to its weight.
    workers : int, optional
        Modules in work at once; one per core by default.
    progress : callable, optional
        Called with a `Progress` after each module.

    Returns
    -------
    AdapterSummary

    Raises
    ------
    InputError
        If the adapter or the base cannot be read, or the base lacks a module or has it in another shape.

    Notes
    -----
    All singular values of scale * B A follow from the factors in float64: (m + n) r^2 flops a module.
    """
    source = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    model = open_model(base) if base is not None else None
    matched, places = source, dict[str, Target]()
    if model is not None:
        targets = Targets.find(source, model)
        targets.refuse_missing()
        matched, places = targets.adapter, targets.places
    updates = WeightedSum([matched])

    def work(name: str) -> ModuleSummary:
        weight = _norm(model, places[name]) if model is not None and name in places else None
        return _summary(matched.modules[name], updates.core(name).spectrum, weight)

    by_name: dict[str, ModuleSummary] = {}
    for summary in map_unordered(work, list(matched.modules), workers):
        by_name[summary.name] = summary
        matched.release()
        if progress is not None:
            progress(Progress(len(by_name), len(matched), summary.name, noun="module"))
    return AdapterSummary(
        modules=tuple(by_name[name] for name in matched.modules),
        parameters=source.parameters,
        dtype=dtype_name(source.dtype),
        notes=tuple(source.notes),
    )


def _summary(module: Module, spectrum: Spectrum, weight: float | None) -> ModuleSummary:
    """Return the summary of one module, given the norm of its weight."""
    size = float(np.sqrt(spectrum.total))
    return ModuleSummary(
        name=module.name,
        kind=module.kind,
        shape=module.shape,
        rank=module.rank,
        size=size,
        relative=size / weight if weight else None,
        sigma_1=float(spectrum.values[0]) if len(spectrum) else 0.0,
        first=spectrum.energy(1) if spectrum.total else 0.0,
        stable_rank=spectrum.stable_rank,
        effective_rank=Spectrum(spectrum.values).effective_rank,
        ranks={f"{e:.0%}": spectrum.rank_at_energy(e) for e in ENERGIES},
        knee=spectrum.knee(),
    )


def _norm(base: Checkpoint, place: Target) -> float:
    """Return ||W||_F of the weight, or of one expert of it."""
    weight = base.map(place.tensor)
    return float(np.sqrt(energy_of(weight if place.expert is None else weight[place.expert])))


def diagnose(modules: Sequence[ModuleSummary]) -> list[str]:
    """Return what 90 % of the energy needs, and whether a few values dominate or the rank is used up.

    Parameters
    ----------
    modules : sequence of ModuleSummary

    Returns
    -------
    list of str
        Sentences.
    """
    live = [module for module in modules if module.size]
    if not live:
        return ["Every B A is zero: the adapter has not learned anything."]
    needed = rank_range(module.ranks["90%"] for module in live)
    smaller = sum(module.ranks["90%"] * sum(module.shape) for module in live)
    stored = sum(module.rank * sum(module.shape) for module in modules)
    sentences = [
        f"Keeping 90% of the energy in every module takes {needed}: {smaller:,} of {stored:,} parameters."
    ]
    dominated = sum(module.rank > 1 and module.share <= DOMINATED for module in live)
    crowded = sum(module.rank > 3 and module.share > CROWDED for module in live)
    if dominated > len(live) / 2:
        sentences.append(
            f"A few singular values dominate: {dominated} of {count(live, 'module')} need at most a quarter "
            "of their rank for that. eckart resize makes the adapter smaller."
        )
    if crowded > len(live) / 2:
        sentences.append(
            f"The energy is spread over many singular values: {crowded} of {count(live, 'module')} need over "
            "three quarters of their rank for that. If the adapter falls short, train again at 1.5 to 2 "
            "times the rank."
        )
    return sentences
