"""What a pass must learn about one tensor (`Demand`), and what a store holds of it (`TensorRecord`)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from eckart.checkpoint.kinds import Kind
from eckart.checkpoint.tensorinfo import MAX_DIM
from eckart.linalg import Goal, Spectrum
from eckart.rank.bounds import Bounds
from eckart.store.files import factor_file
from eckart.strictjson import JsonObject

NOISE_FLOOR = Goal("above", 0.0)


@dataclass(frozen=True)
class Demand:
    """What a pass must learn about one tensor.

    Parameters
    ----------
    goal : Goal or None
        What the stored factors must reach; None for no factors. `NOISE_FLOOR` stands for the noise floor of
        the tensor.
    whole : bool
        Whether every singular value is needed, and not only the leading ones.
    noise : bool
        Whether the noise floor is needed.
    hold : int
        Minimum number of components to store, whatever the goal: as many as the store held before.
    bounds : Bounds or None
        The bounds of a rule, if it has some: the components that they add to the goal are needed too.
    """

    goal: Goal | None = None
    whole: bool = False
    noise: bool = False
    hold: int = 0
    bounds: Bounds | None = None

    def rank_for(self, found: int, size: int) -> int:
        """Return the number of components to store.

        Parameters
        ----------
        found : int
            The least number that reaches the goal.
        size : int
            ``min(m, n)`` of the tensor.

        Returns
        -------
        int
            At least `found`.
        """
        bounded = found if self.bounds is None else self.bounds.bounded(found, size)
        return min(max(found, self.hold, bounded), size)


@dataclass(frozen=True)
class TensorRecord:
    """What a store holds of one tensor: its measures, and what its factors reach.

    Parameters
    ----------
    name : str
        The longer of its names in both checkpoints.
    kind : Kind
        Its kind of layer.
    shape : tuple of int
        The shape that is compared. If the vocabulary was resized, it counts the rows that both have.
    base_dtype, tuned_dtype : str
        Dtypes as safetensors names; ``base_dtype`` is empty for a single checkpoint.
    new_rows : int
        Number of rows that the tuned tensor has more than the base (a resized vocabulary); may be negative.
    energy, base_energy : float
        ||tuned - base||_F^2 and ||base||_F^2.
    unchanged : float
        Share of the entries that are equal.
    noise_floor : float or None
        Largest singular value that rounding of the checkpoints is expected to cause; None if not computed.
    known, size : int
        Number of singular values in the store, and min(m, n).
    tail : float
        Energy beyond the known values.
    rank : int
        Number of components whose factors are in the store.
    method : str
        Route that computed the factors; empty if there are none.
    rank_bounds : (int, int) or None
        Bounds on the least rank that reaches ``goal``.
    goal : Goal or None
        The goal of the pass that wrote the factors.
    values_checksum, factors_checksum : str
        Checksums of the known singular values and of the factors, as `checksum_of` returns them. Empty if the
        store holds none.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    base_dtype: str
    tuned_dtype: str
    new_rows: int
    energy: float
    base_energy: float
    unchanged: float
    noise_floor: float | None = None
    known: int = 0
    size: int = 0
    tail: float = 0.0
    rank: int = 0
    method: str = ""
    rank_bounds: tuple[int, int] | None = None
    goal: Goal | None = None
    values_checksum: str = ""
    factors_checksum: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError if a number contradicts another one, as only a damaged file can do."""
        counts = (
            *self.shape,
            abs(self.new_rows),
            self.known,
            self.size,
            self.rank,
            *(self.rank_bounds or ()),
        )
        if any(not 0 <= number <= MAX_DIM for number in counts):
            raise ValueError("expected counts from 0 to 2**63 - 1")
        size = min(self.shape) if self.is_matrix else 0
        if not self.rank <= self.known <= self.size == size:
            raise ValueError(
                f"expected rank <= known <= size = {size} for the shape {list(self.shape)}, "
                f"found rank {self.rank}, known {self.known} and size {self.size}"
            )
        numbers = (self.energy, self.base_energy, self.unchanged, self.tail, self.noise_floor or 0.0)
        if any(not 0 <= number < math.inf for number in numbers) or self.unchanged > 1:
            raise ValueError("expected energies and a noise floor of at least 0, and a share from 0 to 1")

    @property
    def file(self) -> str:
        """Path of the tensor's values and factors inside the store; empty if the store holds none."""
        if not self.values_checksum:
            return ""
        return factor_file(self.name, self.values_checksum, self.factors_checksum)

    @property
    def is_matrix(self) -> bool:
        """Whether the tensor has two axes."""
        return len(self.shape) == 2

    @property
    def relative(self) -> float:
        """Ratio ||tuned - base||_F / ||base||_F; inf if the base is zero and the update is not."""
        if self.base_energy == 0:
            return float("inf") if self.energy else 0.0
        return float((self.energy / self.base_energy) ** 0.5)

    def meets(self, demand: Demand, spectrum: Spectrum | None = None) -> bool:
        """Return whether the store already holds what a demand asks for.

        Parameters
        ----------
        demand : Demand
            The demand.
        spectrum : Spectrum, optional
            The known singular values. They tell how many components reach another goal than that of the pass.

        Returns
        -------
        bool
        """
        if demand.noise and self.noise_floor is None:
            return False
        if demand.whole and self.known < self.size:
            return False
        goal = demand.goal
        if goal is None or self.energy == 0:
            return True
        if goal.kind == "rank":
            return self.rank >= demand.rank_for(min(int(goal.value), self.size), self.size)
        if spectrum is None:
            return self.goal == goal and self.rank >= demand.hold and demand.bounds is None
        if goal == NOISE_FLOOR:
            goal = Goal("above", self.noise_floor or 0.0)
        needed = spectrum.rank_for(goal)
        return needed is not None and self.rank >= demand.rank_for(needed, self.size)

    @property
    def first_demand(self) -> Demand:
        """The demand that gives the stored factors again, with the same bytes."""
        is_complete = self.size > 0 and self.known == self.size
        return Demand(self.goal, whole=is_complete, noise=self.noise_floor is not None, hold=self.rank)

    def to_json(self) -> JsonObject:
        """Return the record as plain data."""
        return {**asdict(self), "kind": str(self.kind)}
