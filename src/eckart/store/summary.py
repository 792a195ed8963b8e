"""What a store says of each layer, a row each, and what that says of the pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from eckart.linalg import Goal, Spectrum
from eckart.store.record import TensorRecord
from eckart.store.store import FactorStore

ENERGIES = (0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class LayerSummary:
    """One layer's update in numbers; None where the known singular values cannot tell.

    Parameters
    ----------
    relative : float or None
        ||dW||_F / ||W||_F.
    sigma_1 : float
        Largest singular value of the update.
    stable_rank, effective_rank : float or None
        As `Spectrum` defines them.
    ranks : dict
        Least rank at 80, 90, 95 and 99 % of the energy.
    knee : int or None
    noise_floor : float or None
        Largest sigma that the checkpoints' rounding can make.
    above_noise : int or None
        Singular values above it.
    decay : str
        ``fast`` or ``slow``.
    unchanged : float
        Share of the entries that are equal in both checkpoints.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    relative: float | None
    sigma_1: float | None
    stable_rank: float | None
    effective_rank: float | None
    ranks: dict[str, int | None]
    knee: int | None
    noise_floor: float | None
    above_noise: int | None
    decay: str
    unchanged: float
    energy: float

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


def summarise(store: FactorStore) -> list[LayerSummary]:
    """Return a row for every matrix of a store whose spectrum is known, in the model's order."""
    return [_row(r, store.spectrum(r.name), store.single) for r in store if r.known]


def _row(record: TensorRecord, spectrum: Spectrum, single: bool) -> LayerSummary:
    zero = spectrum.total == 0
    knee = None
    if not zero and spectrum.rank_for(Goal("energy", 0.95)) is not None:
        knee = spectrum.knee()
    above = None
    if record.noise_floor is not None:
        above = spectrum.rank_for(Goal("above", record.noise_floor))
    return LayerSummary(
        name=record.name,
        kind=record.kind,
        shape=record.shape,
        relative=None if single or not np.isfinite(record.relative) else record.relative,
        sigma_1=float(spectrum.values[0]) if len(spectrum) else None,
        stable_rank=spectrum.stable_rank,
        effective_rank=spectrum.effective_rank if spectrum.complete else None,
        ranks={f"{e:.0%}": 0 if zero else spectrum.rank_for(Goal("energy", e)) for e in ENERGIES},
        knee=knee,
        noise_floor=record.noise_floor,
        above_noise=above,
        decay="-" if zero else spectrum.decay(),
        unchanged=record.unchanged,
        energy=record.energy,
    )


def diagnose(store: FactorStore, rows: Sequence[LayerSummary]) -> list[str]:
    """Say what stands out: nothing changed, a wrong base, a merged LoRA, an update lost in rounding.

    Notes
    -----
    Heuristics, each with its number. Two independent models of one shape have ||dW|| / ||W|| near
    sqrt(2) and almost no equal entries; fine-tunes seen so far stay under 0.5 in the median. A
    merged LoRA leaves the same small number of singular values above the rounding in nearly all
    layers that changed.
    """
    if store.single:
        return []
    changed = [r for r in rows if r.energy > 0 and r.kind in ("linear", "conv1d")]
    if all(r.energy == 0 for r in store):
        return ["Nothing changed: base and tuned hold the same weights."]
    if not changed:
        return ["No linear layer changed; only norms, biases or embeddings did."]
    found = []
    relative = median([r.relative for r in changed if r.relative is not None] or [0.0])
    unchanged = median(r.unchanged for r in changed)
    if relative > 0.9:
        found.append(
            f"This does not look like a fine-tune of this base: the median update is {relative:.2f} times "
            "the size of its weight (unrelated models give 1.41). Check that the base is the right one."
        )
    merged = _merged_rank(changed)
    if merged:
        found.append(
            f"The tuned model looks like the base with a LoRA of rank {merged} merged into it: "
            f"{merged} singular values stand above the rounding in almost every layer that changed. "
            f"--noise-floor recovers it."
        )
    elif unchanged > 0.9:
        found.append(
            f"{unchanged:.0%} of the entries of a median layer are equal in both: most of the update was "
            "lost in the checkpoint's rounding, and its rank is partly an artefact of that."
        )
    buried = [r for r in changed if r.above_noise == 0]
    if buried:
        found.append(
            f"{len(buried)} of {len(changed)} updates have no singular value above the rounding noise: "
            f"{buried[0].name}" + (", ..." if len(buried) > 1 else ".")
        )
    return found


def _merged_rank(changed: Sequence[LayerSummary]) -> int | None:
    """Return the rank that nine of ten changed layers share, if it is small and the cut is clean."""
    counts = Counter(r.above_noise for r in changed)
    rank, times = counts.most_common(1)[0]
    if not rank or times < 0.9 * len(changed):
        return None
    return rank if all(rank <= min(r.shape) // 4 for r in changed) else None
