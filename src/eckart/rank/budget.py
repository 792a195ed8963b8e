"""A budget of parameters or bytes, and how it is shared among tensors."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eckart.errors import UsageError

_SUFFIX = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_BYTES = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}


@dataclass(frozen=True)
class Budget:
    """An amount with its unit: parameters (``2M``), bytes (``8MB``) or a share of the base (``1%``).

    Examples
    --------
    >>> Budget.parse("2M").parameters(base_parameters=0, bytes_each=2)
    2000000
    >>> Budget.parse("8MB").parameters(base_parameters=0, bytes_each=2)
    4000000
    >>> Budget.parse("1%").parameters(base_parameters=700, bytes_each=2)
    7
    """

    text: str
    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str | int) -> Budget:
        """Read ``"500000"``, ``"500k"``, ``"2M"``, ``"8MB"``, ``"8MiB"`` or ``"1%"``."""
        words = str(text).strip()
        match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][0-9]+)?)\s*(%|[A-Za-z]*)", words)
        unit = match[2].upper() if match else ""
        amount = float(match[1]) if match else 0.0
        if amount == float("inf"):
            match = None
        if match and unit == "%" and 0 < amount <= 100:
            return cls(words, amount / 100, "share")
        if match and unit in _BYTES and amount > 0:
            return cls(words, amount * _BYTES[unit], "bytes")
        if match and unit in _SUFFIX and amount > 0:
            return cls(words, amount * _SUFFIX[unit], "parameters")
        raise UsageError(
            f"budget={text!r}",
            "expected parameters, bytes or a share of the base's parameters",
            "Write for example 2M, 8MB or 1%",
        )

    def parameters(self, base_parameters: int, bytes_each: int) -> int:
        """Return the budget as a number of parameters of ``bytes_each`` bytes."""
        match self.unit:
            case "share":
                return int(round(self.amount * base_parameters, 6))  # 29 % of 100 is 29, not 28
            case "bytes":
                return int(self.amount / bytes_each)
            case _:
                return int(self.amount)


@dataclass(frozen=True)
class Share:
    """What one tensor brings to the division: the energy of each component, and what one costs.

    Parameters
    ----------
    energies : ndarray (k,)
        sigma^2 of the components known, largest first.
    cost : int
        Parameters a component takes, m + n.
    least, most : int
        Bounds on the rank.
    """

    energies: NDArray[np.float64]
    cost: int
    least: int
    most: int


def allocate(shares: Sequence[Share], parameters: int, multiple_of: int = 1) -> list[int]:
    """Divide a budget so that the most energy is kept.

    Returns
    -------
    list of int
        A rank per share.

    Raises
    ------
    UsageError
        If the least ranks alone cost more than the budget.

    Notes
    -----
    Minimising the energy left out, sum over tensors of the tail, under sum r (m + n) <= budget is
    separable and convex: each tensor's next component is worth no more than its last. Taking
    components in the order of sigma^2 / (m + n) is therefore optimal up to the last component that
    fits. What is left over goes to the next best components that still fit. With ``multiple_of``
    a step is that many components at once.

    Energy is not accuracy: a budget measured in energy favours tensors with large updates. Compare
    a few plans on held-out data before trusting one.

    Examples
    --------
    >>> big, small = np.array([9.0, 1.0]), np.array([4.0, 3.0])
    >>> allocate([Share(big, 10, 0, 2), Share(small, 10, 0, 2)], parameters=30)
    [1, 2]
    """
    ranks = [share.least for share in shares]
    left = parameters - sum(r * share.cost for r, share in zip(ranks, shares, strict=True))
    if left < 0:
        raise UsageError(
            f"budget of {parameters:,} parameters",
            f"the least ranks alone take {parameters - left:,}",
            "Lower --min-rank or raise --budget",
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
