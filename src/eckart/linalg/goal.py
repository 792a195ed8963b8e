"""What a decomposition must reach, as data: a rank, an energy, an error or a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eckart.arguments import argument
from eckart.checks import is_number
from eckart.errors import UsageError

GoalKind = Literal["full", "rank", "energy", "error", "ratio", "above"]


@dataclass(frozen=True)
class Goal:
    """What the factors of one matrix must reach. `Spectrum.rank_for` gives the least rank that does.

    Parameters
    ----------
    kind : {"full", "rank", "energy", "error", "ratio", "above"}
        ``full``: every singular value. ``rank``: the leading ``value`` components. ``energy``: the least r
        with energy(r) >= value. ``error``: the least r with ||A - A_r||_F <= value ||A||_F. ``ratio``:
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
    def required_energy(self) -> float | None:
        """Fraction of the energy that must be kept; None for goals that are not about energy."""
        if self.kind == "energy":
            return self.value
        if self.kind == "error":
            return 1 - self.value**2
        return None


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
