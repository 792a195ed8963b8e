"""How far the factors of a store reach: what later rules can be served without the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eckart.linalg import Goal
from eckart.store.files import FACTORS
from eckart.store.store import FactorStore

SHARE = 0.9  # of the energy; `KeptFactors.enough` counts the matrices that reach it


@dataclass(frozen=True)
class KeptFactors:
    """What a store keeps for later rules.

    Parameters
    ----------
    path : Path
        Folder of the store.
    rank : int or None
        Rank up to which it keeps factors of every changed matrix; None if it keeps all components.
    matrices, enough : int
        Number of changed matrices, and of those whose factors hold 90 % of the energy.
    nbytes : int
        Size of the factors on the disk.
    """

    path: Path
    rank: int | None
    matrices: int
    enough: int
    nbytes: int


def kept_factors(store: FactorStore) -> KeptFactors:
    """Measure how far the factors of a store reach.

    Parameters
    ----------
    store : FactorStore
        A store that holds every singular value.

    Returns
    -------
    KeptFactors
    """
    changed = [record for record in store if record.size and record.energy]
    needed = [store.spectrum(record.name).rank_for(Goal("energy", SHARE)) for record in changed]
    enough = sum(
        rank is not None and rank <= record.rank for rank, record in zip(needed, changed, strict=True)
    )
    files = (store.path / FACTORS).iterdir()
    return KeptFactors(
        path=store.path,
        rank=min((record.rank for record in changed if record.rank < record.size), default=None),
        matrices=len(changed),
        enough=enough,
        nbytes=sum(file.stat().st_size for file in files),
    )
