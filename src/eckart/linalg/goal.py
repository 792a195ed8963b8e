"""What a decomposition must reach, as data: a rank, an energy, an error or a threshold."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from eckart.arguments import argument
from eckart.checks import is_number
from eckart.errors import UsageError

GoalKind = Literal["full", "rank", "energy", "error", "ratio", "above"]


# Two sums of the same squares, added in a different order, differ by about n eps: 1e-13 for n = 1000.
# An energy that close to its target counts as reached, so that (3, 2, 1) at 13/14 is rank 2.
SAME_SUM = 1e-13


@dataclass(frozen=True)
class Goal:
    """What the factors of one matrix must reach. `Spectrum.rank_for` gives the least rank that does.

    Parameters
    ----------
    kind : {"full", "rank", "energy", "error", "ratio", "above"}
        ``full``: every singular value. ``rank``: the leading ``value`` components. ``energy``: the least r
        with energy(r) >= value. ``error``: the least r with ||A - A_r||_F <= value ||A||_F. Both allow for
        rounding: see `allowed_loss`. ``ratio``:
        every sigma > sigma_1 / value. ``above``: every sigma > value, in the units of the matrix.
    value : float
        The target; unused for ``full``.

    Raises
    ------
    UsageError
        If the value is not a finite number in the range of its kind.

    Examples
    --------
    >>> from eckart.linalg.spectrum import Spectrum
    >>> Spectrum([3.0, 2.0, 1.0]).rank_for(Goal("energy", 13 / 14))
    2
    >>> Spectrum([3.0, 2.0, 1.0]).rank_for(Goal("energy", 13 / 14 + 1e-9))
    3
    """

    kind: GoalKind
    value: int | float = 0.0  # a rank stays an int when it is read back, so a store keeps its bytes

    def __post_init__(self) -> None:
        kind, value = self.kind, self.value
        if not is_number(value):
            raise UsageError(f"{kind}={value!r}", "expected a finite number")
        if kind == "rank" and (value != int(value) or value < 1):
            raise UsageError(f"rank={value!r}", "expected a whole number of at least 1")
        if kind == "energy" and not 0 < value <= 1:
            raise UsageError(
                argument("energy", value),
                "expected a share above 0 and at most 1",
                _as_share("energy", value),
            )
        if kind == "error" and not 0 <= value < 1:
            raise UsageError(
                f"error={value!r}",
                "expected a relative Frobenius error of at least 0 and below 1",
                _as_share("error", value),
            )
        if kind == "ratio" and value < 1:
            raise UsageError(f"ratio={value!r}", "expected a number of at least 1")
        if kind == "above" and value < 0:
            raise UsageError(f"above={value!r}", "expected a threshold of at least 0")

    @property
    def allowed_loss(self) -> float | None:
        """Share of the energy that may be left out, rounding included; None for other goals.

        Notes
        -----
        In exact arithmetic this is 1 - energy, or error^2. Two sums of the same squares differ by rounding,
        so one part in 1e13 more is allowed; so is 2e-16 for an energy below 1, which is itself rounded to
        float64. Energy 1 and error 0 allow a loss of 1e-26, which is a relative error of 1e-13.
        """
        if self.kind == "energy":
            loss, doubt = 1 - self.value, 0.0 if self.value == 1 else sys.float_info.epsilon
        elif self.kind == "error":
            loss, doubt = self.value**2, 0.0
        else:
            return None
        return loss * (1 + SAME_SUM) + SAME_SUM**2 + doubt


def _as_share(keyword: str, value: float) -> str:
    """Return the fix for a share that is out of range; a number above 1 was meant as a percentage."""
    is_percentage = 2 <= value < 100 or (value == 100 and keyword == "energy")
    example = value / 100 if is_percentage else {"energy": 0.9, "error": 0.05}[keyword]
    return f"Use {argument(keyword, float(f'{example:.12g}'))} for {100 * example:.12g} %"


def one_goal(
    call: str, *, rank: int | None = None, energy: float | None = None, error: float | None = None
) -> Goal:
    """Return the goal that a call was given; ``full`` if it was given none.

    Parameters
    ----------
    call : str
        The call as messages show it, for example ``"eckart.svd"``.
    rank, energy, error : optional
        At most one of the three.

    Returns
    -------
    Goal

    Raises
    ------
    UsageError
        If more than one is given, or one is out of range.
    """
    values: dict[GoalKind, float | None] = {"rank": rank, "energy": energy, "error": error}
    given = [(kind, value) for kind, value in values.items() if value is not None]
    if len(given) > 1:
        names = " and ".join(kind for kind, _ in given)
        raise UsageError(call, f"expected at most one of rank, energy and error, got {names}")
    return Goal(*given[0]) if given else Goal("full")
