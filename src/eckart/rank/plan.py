"""The plan, a rank for every tensor with the reason, and the candidates that it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from eckart.documents import Document
from eckart.errors import UsageError
from eckart.linalg import Goal, Spectrum
from eckart.text import count, rank_range

FORMAT = 1
MAKE = "Make a plan: eckart plan STORE -o plan.json"


@dataclass(frozen=True)
class Candidate:
    """A tensor that a rule can choose a rank for.

    Parameters
    ----------
    name : str
        The tensor's full name.
    shape : (int, int)
        (d_out, d_in).
    spectrum : Spectrum
        All singular values of its update, or the leading ones.
    noise_floor : float, optional
        Largest singular value that rounding alone could cause; None if it was not computed.
    """

    name: str
    shape: tuple[int, int]
    spectrum: Spectrum
    noise_floor: float | None = None

    @property
    def cost(self) -> int:
        """Parameters per component, d_out + d_in."""
        return sum(self.shape)

    @property
    def break_even(self) -> int:
        """The rank from which B and A together are no smaller than the dense update."""
        m, n = self.shape
        return -(-m * n // (m + n))


@dataclass(frozen=True, repr=False)
class RankPlan:
    """A rank for every tensor, with the reason and the totals.

    Parameters
    ----------
    ranks : dict of str to int
        Rank by tensor name; 0 for a tensor that stays as it is in the base.
    reasons : dict of str to str
        The reason for each rank.
    rule : str
        The rule in words.
    parameters : int
        Number of entries of all B and A together.
    energy : float
        Share of the energy of all planned tensors that is kept.
    dense : tuple of str
        Tensors whose factors are no smaller than a dense update would be.
    undecided : dict of str to Goal
        Tensors whose known singular values do not determine the rank, and the goal to factor them to.
        The plan is final when this is empty.

    Notes
    -----
    The error of the whole is ``sqrt(1 - energy)``, relative to the Frobenius norm of all planned updates
    taken as one vector.
    """

    ranks: dict[str, int]
    reasons: dict[str, str]
    rule: str
    parameters: int
    energy: float
    dense: tuple[str, ...] = ()
    undecided: dict[str, Goal] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Relative Frobenius error of all planned tensors together."""
        return float(np.sqrt(max(1.0 - self.energy, 0.0)))

    def __repr__(self) -> str:
        return f"<RankPlan {self._summary()}>"

    def _summary(self) -> str:
        undecided = f", {count(self.undecided, 'tensor')} undecided" if self.undecided else ""
        return (
            f"{self.rule}: {count(self.ranks, 'tensor')}, {rank_range(self.ranks.values())}, "
            f"{self.parameters:,} parameters, energy {self.energy:.1%}, error {self.error:.4f}{undecided}"
        )

    def _repr_html_(self) -> str:
        """Return the plan as an HTML table, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{rank}</td><td>{escape(self.reasons.get(name, ''))}</td></tr>"
            for name, rank in self.ranks.items()
        )
        return (
            f"<table><caption>{escape(self._summary())}</caption>"
            f"<thead><tr><th>tensor</th><th>rank</th><th>reason</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data, ready for `json.dump`.

        Returns
        -------
        dict
            The fields of the plan, and ``format``, the version of this layout.

        Raises
        ------
        UsageError
            If tensors are still undecided.
        """
        if self.undecided:
            raise UsageError(
                "RankPlan.to_json",
                f"the rank of {count(self.undecided, 'tensor')} is not decided yet",
                "Use eckart.plan(store, ...), which factors them further",
            )
        return {
            "format": FORMAT,
            "ranks": dict(self.ranks),
            "reasons": dict(self.reasons),
            "rule": self.rule,
            "parameters": self.parameters,
            "energy": self.energy,
            "dense": list(self.dense),
        }

    @classmethod
    def from_json(cls, data: object, where: str = "plan") -> RankPlan:
        """Read a plan that `to_json` wrote, and check it.

        Parameters
        ----------
        data : object
            The parsed JSON document.
        where : str
            The file, as error messages show it.

        Returns
        -------
        RankPlan

        Raises
        ------
        UsageError
            If the data is not a plan of this format.
        """
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise UsageError(where, f"expected a plan of format {FORMAT}", MAKE)
        file = PLAN.convert(data, where)
        return cls(
            ranks=dict(file.ranks),
            reasons=dict(file.reasons),
            rule=file.rule,
            parameters=file.parameters,
            energy=file.energy,
            dense=file.dense,
        )

    @classmethod
    def read(cls, path: str | Path) -> RankPlan:
        """Read a plan file.

        Parameters
        ----------
        path : path
            A file that ``eckart plan`` wrote.

        Returns
        -------
        RankPlan

        Raises
        ------
        UsageError
            If the file cannot be read, or is not a plan of this format.
        """
        return cls.from_json(PLAN.load(Path(path)), str(path))


@dataclass(frozen=True)
class PlanFile:
    """A plan, as a file holds it; see `RankPlan`.

    Parameters
    ----------
    format : int
        Version of the layout.
    ranks : dict of str to int
    reasons : dict of str to str
    rule : str
    parameters : int
    energy : float
    dense : tuple of str
    """

    format: int
    ranks: dict[str, int]
    reasons: dict[str, str]
    rule: str
    parameters: int
    energy: float
    dense: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, rank in self.ranks.items():
            if rank < 0:
                raise ValueError(f"expected ranks of at least 0, found {rank} for {name}")
        if self.parameters < 0:
            raise ValueError(f"expected parameters of at least 0, found {self.parameters}")
        if not 0 <= self.energy <= 1 + 1e-6:  # a share of a sum, up to its rounding
            raise ValueError(f"expected an energy from 0 to 1, found {self.energy}")


PLAN = Document(PlanFile, "the plan", UsageError, MAKE, is_ours=True)
