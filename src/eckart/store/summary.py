"""A summary of a store: one row of numbers per layer, and remarks on the pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from eckart.checkpoint.kinds import Kind
from eckart.linalg import Goal, Spectrum
from eckart.store.record import TensorRecord
from eckart.store.sources import LORA_KINDS
from eckart.store.store import FactorStore
from eckart.strictjson import JsonObject
from eckart.text import count, preview

ENERGIES = (0.8, 0.9, 0.95, 0.99)
UNRELATED = 0.9  # median ||dW|| / ||W|| above which the base is probably not that of the fine-tune


@dataclass(frozen=True)
class LayerSummary:
    """One layer's update in numbers. None if the known singular values do not determine a number.

    Parameters
    ----------
    name, kind, shape
        As in `TensorRecord`.
    relative : float or None
        ||dW||_F / ||W||_F; None for a single checkpoint, and if W is zero.
    sigma_1 : float or None
        Largest singular value of the update.
    stable_rank, effective_rank : float or None
        See `Spectrum`.
    ranks : dict of str to int or None
        Least rank at 80, 90, 95 and 99 % of the energy.
    knee : int or None
        See `Spectrum.knee`; None also if the energy curve is straight.
    noise_floor : float or None
        Largest singular value that rounding of the checkpoints is expected to cause.
    above_noise : int or None
        Number of singular values above the noise floor.
    decay : {"fast", "slow", "unknown", "-"}
        See `Spectrum.decay`; "-" for a zero update.
    unchanged : float
        Share of the entries that are equal in both checkpoints.
    energy : float
        ||dW||_F^2.
    """

    name: str
    kind: Kind
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

    def to_json(self) -> JsonObject:
        """Return the row as plain data."""
        return {**asdict(self), "kind": str(self.kind)}


def summarise(store: FactorStore) -> list[LayerSummary]:
    """Return a row for every matrix of a store with known singular values, in the order of the model.

    Parameters
    ----------
    store : FactorStore
        The store.

    Returns
    -------
    list of LayerSummary
    """
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
        stable_rank=spectrum.stable_rank if zero or len(spectrum) else None,
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
    """Return remarks on unusual pairs: nothing changed, a wrong base, a merged LoRA, a rounded update.

    Parameters
    ----------
    store : FactorStore
        The store.
    rows : sequence of LayerSummary
        As `summarise` returns them.

    Returns
    -------
    list of str
        One remark each, with the number that it is based on. Empty if nothing is unusual.

    Notes
    -----
    These are heuristics. Two unrelated models of one architecture have ||dW|| / ||W|| near sqrt(2) and almost
    no equal entries; in the fine-tunes that were examined, the median stays below 0.5. After merging a LoRA,
    nearly all changed layers have the same small number of singular values above the rounding noise.
    """
    if store.single:
        return []
    changed = changed_layers(rows)
    if all(r.energy == 0 for r in store):
        return ["Nothing changed: base and tuned hold the same weights."]
    if not changed:
        return ["No linear layer changed; only norms, biases or embeddings did."]
    remarks = []
    unchanged = median(r.unchanged for r in changed)
    if not has_plausible_base(changed):
        remarks.append(
            "This does not look like a fine-tune of this base: the median update is "
            f"{_median_relative(changed):.2f} times "
            "the size of its weight (unrelated models give 1.41). Check that the base is the right one."
        )
    merged = merged_rank(changed)
    if merged:
        remarks.append(
            f"The tuned model looks like the base with a LoRA of rank {merged} merged into it: almost every "
            f"layer that changed has {count(merged, 'singular value')} above the rounding noise. "
            "The noise-floor rule recovers it."
        )
    elif unchanged > 0.9:
        remarks.append(
            f"In a median layer {unchanged:.0%} of the entries are equal in both checkpoints: most of the "
            "update was lost when the checkpoint was rounded, and its rank is partly an artefact of that."
        )
    measured = [r for r in changed if r.above_noise is not None]
    buried = [r.name for r in measured if r.above_noise == 0]
    if buried:
        remarks.append(
            f"{len(buried)} of {count(measured, 'update')} {'has' if len(buried) == 1 else 'have'} "
            "no singular value above the rounding noise: "
            f"{preview(buried, 1)}"
        )
    return remarks


def remarks_on(store: FactorStore) -> list[str]:
    """Return the remarks of `diagnose` for a store that was filled for a rule.

    Parameters
    ----------
    store : FactorStore
        It may hold singular values of few matrices; sizes are known of all.

    Returns
    -------
    list of str
    """
    return diagnose(store, [_row(r, store.spectrum(r.name), store.single) for r in store if r.is_matrix])


def changed_layers(rows: Sequence[LayerSummary]) -> list[LayerSummary]:
    """Return the linear layers, experts included, that changed."""
    return [r for r in rows if r.energy > 0 and r.kind in LORA_KINDS]


def has_plausible_base(changed: Sequence[LayerSummary]) -> bool:
    """Whether the updates are small enough for a fine-tune of this base; see `diagnose`."""
    return _median_relative(changed) <= UNRELATED


def _median_relative(changed: Sequence[LayerSummary]) -> float:
    return median([r.relative for r in changed if r.relative is not None] or [0.0])


def merged_rank(changed: Sequence[LayerSummary]) -> int | None:
    """Return the number of values above the noise that 90 % of the changed layers share, if it is small."""
    counts = Counter(r.above_noise for r in changed)
    rank, times = counts.most_common(1)[0]
    if not rank or times < 0.9 * len(changed):
        return None
    return rank if all(rank <= min(r.shape) // 4 for r in changed) else None
