"""Spectra of an adapter's own updates: whether a few singular values dominate what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median_high
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.targets import Target, Targets
from eckart.adapter.updates import WeightedSum
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.numbers import energy_of
from eckart.linalg import Spectrum
from eckart.parallel import OnProgress, Progress, map_unordered
from eckart.store.summary import ENERGIES

# Heuristics, on the part of the stored rank that 90 % of the energy takes. The product of two Gaussian
# factors, which prefers no direction, takes 0.81 to 0.93 of it (measured; r = 8 to 64, d = 768).
DOMINATED = 0.25
CROWDED = 0.75


@dataclass(frozen=True)
class ModuleSummary:
    """The update of one module in numbers.

    Parameters
    ----------
    rank : int
        Of the factors as stored.
    size : float
        ||scale B A||_F.
    relative : float or None
        The same over ||W||_F; None where no base is given.
    sigma_1 : float
    first : float
        Share of the energy in the first component.
    stable_rank, effective_rank : float
        As `Spectrum` defines them.
    ranks : dict
        Least rank at 80, 90, 95 and 99 % of the energy.
    knee : int or None
    """

    name: str
    kind: str
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
        """The part of the stored rank that 90 % of the energy needs."""
        return self.ranks["90%"] / self.rank

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


def summarise_adapter(
    adapter: Adapter,
    base: Checkpoint | None = None,
    *,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> list[ModuleSummary]:
    """Return a row for every module of an adapter, in its own order.

    Parameters
    ----------
    adapter : Adapter
    base : Checkpoint, optional
        The model it updates, for the size of every update beside its weight's.

    Raises
    ------
    AdapterError
        If the base has no place for a module, or one of another shape.

    Notes
    -----
    Every singular value of scale B A, from the factors (QR, QR, an r x r SVD, in float64).
    """
    places: dict[str, Target] = {}
    if base is not None:
        targets = Targets.find(adapter, base)
        targets.refuse_missing()
        adapter, places = targets.adapter, targets.places
    updates = WeightedSum([adapter])

    def row(name: str) -> ModuleSummary:
        weight = _norm(base, places[name]) if base is not None and name in places else None
        return _row(adapter.modules[name], updates.core(name).spectrum, weight)

    rows: dict[str, ModuleSummary] = {}
    for found in map_unordered(row, list(adapter.modules), workers):
        rows[found.name] = found
        adapter.release()
        if progress is not None:
            progress(Progress(len(rows), len(adapter), found.name))
    return [rows[name] for name in adapter.modules]


def _row(module: Module, spectrum: Spectrum, weight: float | None) -> ModuleSummary:
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


def remarks(rows: Sequence[ModuleSummary]) -> list[str]:
    """Say what 90 % of the energy takes, and whether a few values dominate or the rank is used up."""
    live = [r for r in rows if r.size]
    if not live:
        return ["Every B A is zero: nothing was learned."]
    needed = sorted(r.ranks["90%"] for r in live)
    smaller = sum(r.ranks["90%"] * sum(r.shape) for r in live)
    stored = sum(r.rank * sum(r.shape) for r in rows)
    said = [
        f"90% of the energy in every module takes ranks {needed[0]} to {needed[-1]} (median "
        f"{median_high(needed)}): {smaller:,} of {stored:,} parameters."
    ]
    dominated = sum(r.rank > 1 and r.share <= DOMINATED for r in live)
    crowded = sum(r.rank > 3 and r.share > CROWDED for r in live)
    if dominated > len(live) / 2:
        said.append(
            f"A few singular values dominate: in {dominated} of {len(live)} modules a quarter of the rank or "
            "less holds that much. eckart resize cuts them."
        )
    if crowded > len(live) / 2:
        said.append(
            f"No few singular values dominate: {crowded} of {len(live)} modules need over three quarters "
            "of their rank for it. If the adapter falls short, train again at 1.5 to 2 times the rank."
        )
    return said
