"""A RankPlan: the rank of every tensor, and why; and the candidates it is made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from eckart.errors import UsageError
from eckart.linalg import Goal, Spectrum

FORMAT = 1


@dataclass(frozen=True)
class Candidate:
    """A tensor that may be planned: its name, shape (d_out, d_in), spectrum and noise floor."""

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


@dataclass(frozen=True)
class RankPlan:
    """A rank per tensor, with the reason and the totals.

    Parameters
    ----------
    ranks : dict of str to int
        0 for a tensor that is left as it is in the base.
    reasons : dict of str to str
        Why each rank is what it is.
    rule : str
        The wish, in words.
    parameters : int
        Numbers in all B and A.
    energy : float
        Share kept of the energy of the planned tensors, all together.
    dense : tuple of str
        Tensors whose factors are no smaller than the dense update would be.
    short : dict of str to Goal
        Tensors whose known singular values cannot tell, and what they must be factored to; a plan
        is final when this is empty.

    Notes
    -----
    The error of the whole is ``sqrt(1 - energy)``, relative to the Frobenius norm of all the
    planned updates taken as one vector.
    """

    ranks: dict[str, int]
    reasons: dict[str, str]
    rule: str
    parameters: int
    energy: float
    dense: tuple[str, ...] = ()
    short: dict[str, Goal] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Relative Frobenius error of all planned tensors together."""
        return float(np.sqrt(max(1.0 - self.energy, 0.0)))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        if self.short:
            raise UsageError("RankPlan.to_json", f"{len(self.short)} tensors are not decided yet")
        data = asdict(self)
        del data["short"]
        data["dense"] = list(self.dense)
        return {"format": FORMAT, **data}

    @classmethod
    def from_json(cls, data: Any, where: str = "plan") -> RankPlan:
        """Read a plan back, checking it."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UsageError(where, f"expected a plan of format {FORMAT}")
        try:
            ranks = {str(k): int(v) for k, v in data["ranks"].items()}
            if any(r < 0 or r != data["ranks"][k] for k, r in ranks.items()):
                raise ValueError
            return cls(
                ranks=ranks,
                reasons={str(k): str(v) for k, v in data["reasons"].items()},
                rule=str(data["rule"]),
                parameters=int(data["parameters"]),
                energy=float(data["energy"]),
                dense=tuple(data["dense"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise UsageError(where, "expected ranks, reasons, rule, parameters, energy and dense") from None
