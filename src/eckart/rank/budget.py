"""The budget rule: parameters or bytes distributed over all tensors, so that the most energy is kept."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, final

from eckart.arguments import argument
from eckart.arrays import Floats
from eckart.errors import UsageError
from eckart.linalg import Goal
from eckart.rank.plan import Candidate
from eckart.rank.rule import FIRST_VALUES, Choice, Decision, RankRule, RuleOption
from eckart.text import count

_SUFFIX = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_BYTES = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}

FIRST_RANK = 8
"""Components to compute of each tensor in the first pass, unless the budget allows more.

It is small because every tensor pays for it, and a budget gives most tensors few components. A tensor that
needs more is factored again to at least `eckart.rank.rule.FIRST_VALUES`.
"""


class Unit(Enum):
    """What an `Amount` counts."""

    PARAMETERS = "parameters"
    BYTES = "bytes"
    SHARE = "share of the base"


@dataclass(frozen=True)
class Amount:
    """A number of parameters (``2M``), of bytes (``8MB``), or a share of the base model (``1%``).

    Parameters
    ----------
    number : float
        For a share, a fraction from 0 to 1.
    unit : Unit
        What the number counts.

    Examples
    --------
    >>> Amount.parse("2M").parameters(base_parameters=0, bytes_each=2)
    2000000
    >>> Amount.parse("8MB").parameters(base_parameters=0, bytes_each=2)
    4000000
    >>> Amount.parse("1%").parameters(base_parameters=700, bytes_each=2)
    7
    """

    number: float
    unit: Unit

    @classmethod
    def parse(cls, text: str | int) -> Amount:
        """Read an amount.

        Parameters
        ----------
        text : str or int
            ``500000``, ``"500k"``, ``"2M"``, ``"8MB"``, ``"8MiB"`` or ``"1%"``, in upper or lower case.

        Returns
        -------
        Amount

        Raises
        ------
        UsageError
            If the text does not have one of these forms, the number is not above 0 and finite, or a share
            exceeds 100 %.
        """
        match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][0-9]+)?)\s*(%|[A-Za-z]*)", str(text).strip())
        if match:
            number, unit = float(match[1]), match[2].upper()
            if unit == "%" and 0 < number <= 100:
                return cls(number / 100, Unit.SHARE)
            if unit in _BYTES and 0 < number < float("inf"):
                return cls(number * _BYTES[unit], Unit.BYTES)
            if unit == "" and 0 < number < 1:
                share = f"{float(f'{100 * number:.12g}'):g}%"
                raise UsageError(
                    argument("budget", text),
                    "this is less than one parameter",
                    f"Use {argument('budget', share)} for {share} of the base's parameters",
                )
            if unit in _SUFFIX and 0 < number < float("inf"):
                return cls(number * _SUFFIX[unit], Unit.PARAMETERS)
        raise UsageError(
            argument("budget", text),
            "expected parameters, bytes or a share of the base's parameters",
            "Use for example 2M, 8MB or 1%",
        )

    def parameters(self, base_parameters: int, bytes_each: int) -> int:
        """Return the amount as a number of parameters.

        Parameters
        ----------
        base_parameters : int
            Number of parameters of the base model, for a share of it.
        bytes_each : int
            Bytes per parameter, for an amount in bytes.

        Returns
        -------
        int
            Rounded down.
        """
        match self.unit:
            case Unit.SHARE:
                return int(round(self.number * base_parameters, 6))  # 29 % of 100 is 29, not 28
            case Unit.BYTES:
                return int(self.number / bytes_each)
            case Unit.PARAMETERS:
                return int(self.number)


@final
@dataclass(frozen=True, repr=False)
class Budget(RankRule):
    """Distribute a number of parameters over all tensors, so that the most energy is kept.

    Other keyword arguments are the fields of `Bounds`.

    Parameters
    ----------
    budget : str or int
        Parameters (``"2M"``), bytes (``"8MB"``) or a share of the base model's parameters (``"1%"``).
        With ``uniform``, every tensor gets the largest rank at which all of them fit.

    Raises
    ------
    UsageError
        If the budget does not have one of these forms.

    Notes
    -----
    Energy is not accuracy: a budget favours tensors with large updates. Compare a few plans on held-out data
    before you trust one.

    Examples
    --------
    >>> Budget("1%", min_rank=2).describe()
    'budget 1%, at least rank 2'
    """

    option: ClassVar[RuleOption] = RuleOption(
        "budget",
        str,
        "Distribute this many parameters (2M), bytes (8MB) or this share of the base (1%) over all tensors.",
        metavar="SIZE",
        example="2M",
    )

    budget: str | int

    def __post_init__(self) -> None:
        super().__post_init__()
        Amount.parse(self.budget)  # refuses a budget that cannot be read

    @property
    def amount(self) -> Amount:
        """The budget as a number with its unit."""
        return Amount.parse(self.budget)

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return f"budget {str(self.budget).strip()}"

    @property
    def needs_base_size(self) -> bool:
        """Whether the budget is a share of the base model."""
        return self.amount.unit is Unit.SHARE

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return a first guess, because the rank depends on all tensors together. See `RankRule.goal`."""
        return self._first_goal(size, FIRST_RANK)

    def _first_goal(self, size: int, rank: int) -> Goal:
        return Goal("rank", min(size, max(rank, self.min_rank)))

    def first_goals(
        self, shapes: Mapping[str, Sequence[int]], base_parameters: int, bytes_each: int
    ) -> dict[str, Goal]:
        """Return one and a half times the rank that would spend the budget evenly.

        See `RankRule.first_goals`.
        """
        cost = sum(sum(shape) for shape in shapes.values())
        even = 3 * self.amount.parameters(base_parameters, bytes_each) // (2 * cost) if cost else 0
        rank = max(FIRST_RANK, even)
        return {name: self._first_goal(min(shape), rank) for name, shape in shapes.items()}

    def choose(self, candidate: Candidate) -> Choice:
        """Return no rank: one tensor alone does not determine it. `decide` distributes the budget."""
        return Choice(None, "depends on all tensors")

    def decide(
        self, candidates: Sequence[Candidate], base_parameters: int, bytes_each: int
    ) -> dict[str, Decision]:
        """Distribute the budget over all changed tensors. See `RankRule.decide`.

        Raises
        ------
        UsageError
            If the budget is smaller than one component, or than the minimum ranks.
        """
        parameters = self.amount.parameters(base_parameters, bytes_each)
        changed = [c for c in candidates if c.spectrum.total > 0]
        distribute = self._evenly if self.uniform else self._by_energy
        reason = f"its share of {parameters:,} parameters"
        decisions = {c.name: Decision(0, "unchanged") for c in candidates}
        decisions |= {
            name: Decision(rank, reason, needs)
            for name, (rank, needs) in distribute(changed, parameters).items()
        }
        if changed and not any(d.rank or d.needs for d in decisions.values()):
            raise UsageError(
                self._where,
                f"the budget allows {count(parameters, 'parameter')}, but {self._least_cost(changed)}",
                f"Use a larger {argument('budget')}",
            )
        return decisions

    def _least_cost(self, changed: Sequence[Candidate]) -> str:
        """Return what the smallest possible plan costs, for a message."""
        step = "one component" if self.multiple_of == 1 else f"rank {self.multiple_of}"
        if self.uniform:
            return f"{step} of every tensor costs {self.multiple_of * sum(c.cost for c in changed):,}"
        return f"{step} costs at least {self.multiple_of * min(c.cost for c in changed):,}"

    @property
    def _where(self) -> str:
        """The argument as messages show it."""
        return f"budget={self.budget!r}"

    def _evenly(self, changed: Sequence[Candidate], parameters: int) -> dict[str, tuple[int, Goal | None]]:
        """Give every tensor the largest rank at which all of them fit."""
        shared = _largest_shared_rank(changed, parameters) // self.multiple_of * self.multiple_of
        ranks = {c.name: min(shared, self.largest(c.spectrum.size)) for c in changed}
        least = {c.name: self._least(c) for c in changed}
        if any(ranks[name] < rank for name, rank in least.items()):
            raise UsageError(
                self._where,
                f"the budget allows {count(parameters, 'parameter')}, but the minimum ranks alone cost "
                f"{sum(least[c.name] * c.cost for c in changed):,}",
                f"Use a smaller {argument('min_rank')} or a larger {argument('budget')}",
            )
        return {
            c.name: (
                ranks[c.name],
                Goal("rank", ranks[c.name]) if ranks[c.name] > len(c.spectrum) else None,
            )
            for c in changed
        }

    def _by_energy(self, changed: Sequence[Candidate], parameters: int) -> dict[str, tuple[int, Goal | None]]:
        """Give each tensor the components that keep the most energy per parameter."""
        ranks = allocate([self._share(c) for c in changed], parameters, self.multiple_of)
        result: dict[str, tuple[int, Goal | None]] = {}
        for c, rank in zip(changed, ranks, strict=True):
            known = len(c.spectrum)
            affordable = min(self.largest(c.spectrum.size), parameters // c.cost)
            needs = None
            # Every known component was taken, so the next ones might be worth taking too.
            if rank > known or (rank == known and rank < affordable):
                needs = Goal("rank", min(affordable, max(2 * known, FIRST_VALUES, rank)))
            result[c.name] = (rank, needs)
        return result

    def _least(self, candidate: Candidate) -> int:
        """Return the minimum rank of one tensor."""
        return self.bounded(self.min_rank, candidate.spectrum.size) if self.min_rank else 0

    def _share(self, candidate: Candidate) -> Share:
        """Return one tensor as the distribution sees it, from its known values."""
        most = self.largest(candidate.spectrum.size)
        known = min(most, len(candidate.spectrum))
        least = min(self._least(candidate), most)
        energies = candidate.spectrum.values[:known] ** 2
        return Share(energies, candidate.cost, least, max(known, least))


@dataclass(frozen=True)
class Share:
    """One tensor as the distribution sees it: the energy of each component, and its cost.

    Parameters
    ----------
    energies : ndarray (k,), float64
        sigma^2 of the known components, largest first. Others count as 0.
    cost : int
        Parameters per component, m + n.
    least, most : int
        Bounds on the rank.
    """

    energies: Floats
    cost: int
    least: int
    most: int


def allocate(shares: Sequence[Share], parameters: int, multiple_of: int = 1) -> list[int]:
    """Distribute a budget so that the most energy is kept.

    Parameters
    ----------
    shares : sequence of Share
        One per tensor.
    parameters : int
        The budget.
    multiple_of : int
        Components to add at once.

    Returns
    -------
    list of int
        The rank of each tensor.

    Raises
    ------
    UsageError
        If the minimum ranks alone cost more than the budget.

    Notes
    -----
    The problem is to minimise the energy left out, the sum of all tails, subject to
    sum r (m + n) <= budget. It is separable and convex, because each tensor's next component is worth no more
    than its last. Taking components in the order of sigma^2 / (m + n) is therefore optimal up to the last
    component that fits. What remains goes to the next best components that still fit.

    Examples
    --------
    >>> import numpy as np
    >>> big, small = np.array([9.0, 1.0]), np.array([4.0, 3.0])
    >>> allocate([Share(big, 10, 0, 2), Share(small, 10, 0, 2)], parameters=30)
    [1, 2]
    """
    ranks = [share.least for share in shares]
    left = parameters - sum(r * share.cost for r, share in zip(ranks, shares, strict=True))
    if left < 0:
        raise UsageError(
            f"budget of {count(parameters, 'parameter')}",
            f"the minimum ranks alone cost {parameters - left:,}",
            f"Use a smaller {argument('min_rank')} or a larger {argument('budget')}",
        )
    heap: list[tuple[float, int]] = []

    def offer(i: int) -> None:
        share, rank = shares[i], ranks[i]
        step = min(multiple_of, share.most - rank)
        if step > 0:
            gain = float(share.energies[rank : rank + step].sum()) / (step * share.cost)
            if gain > 0:
                heapq.heappush(heap, (-gain, i))

    for i in range(len(shares)):
        offer(i)
    while heap:
        _, i = heapq.heappop(heap)
        step = min(multiple_of, shares[i].most - ranks[i])
        if step * shares[i].cost <= left:
            left -= step * shares[i].cost
            ranks[i] += step
            offer(i)
    return ranks


def _largest_shared_rank(changed: Sequence[Candidate], parameters: int) -> int:
    """Return the largest rank that fits the budget when every tensor gets it."""
    low, high = 0, max((c.spectrum.size for c in changed), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        cost = sum(min(middle, c.spectrum.size) * c.cost for c in changed)
        if cost <= parameters:
            low = middle
        else:
            high = middle - 1
    return low
