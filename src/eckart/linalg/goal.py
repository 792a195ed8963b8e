"""What a decomposition is asked for, as data: a rank, an energy, an error, a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from eckart.errors import UsageError

if TYPE_CHECKING:
    from eckart.linalg.spectrum import Spectrum

Kind = Literal["full", "rank", "energy", "error", "ratio", "above"]

# Two sums of the same squares, added in another order, differ by about n eps: 1e-13 for n = 1000.
# An energy that close to its target counts as reached, so that (3, 2, 1) at 13/14 is rank 2.
SAME_SUM = 1e-13


def is_number(value: object) -> bool:
    """Whether a value is a finite real number, and not a bool."""
    real = isinstance(value, (int, float, np.integer, np.floating))
    return real and not isinstance(value, (bool, np.bool_)) and bool(np.isfinite(value))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Goal:
    """A wish for one matrix, answered by the least rank that fulfils it.

    Parameters
    ----------
    kind : {"full", "rank", "energy", "error", "ratio", "above"}
        ``full``: every singular value. ``rank``: the leading ``value``. ``energy``: the least r with
        energy(r) >= value. ``error``: the least r with ||A - A_r||_F <= value ||A||_F. ``ratio``:
        every sigma > sigma_1 / value. ``above``: every sigma > value, in the matrix's own unit.
    value : float
        The target; unused for ``full``.

    Examples
    --------
    >>> from eckart.linalg.spectrum import Spectrum
    >>> Goal("energy", 13 / 14).rank(Spectrum([3.0, 2.0, 1.0]))
    2
    >>> Goal("energy", 13 / 14 + 1e-9).rank(Spectrum([3.0, 2.0, 1.0]))
    3
    """

    kind: Kind
    value: float = 0.0

    def __post_init__(self) -> None:
        kind, value = self.kind, self.value
        if not is_number(value):
            raise UsageError(f"{kind}={value!r}", "expected a finite number")
        if kind == "rank" and (value != int(value) or value < 1):
            raise UsageError(f"rank={value!r}", "expected a whole number of at least 1")
        if kind == "energy" and not 0 < value <= 1:
            raise UsageError(
                f"energy={value!r}", "expected a fraction above 0 and at most 1", "Write 0.9 for 90 %"
            )
        if kind == "error" and not 0 <= value < 1:
            raise UsageError(
                f"error={value!r}",
                "expected a relative Frobenius error of at least 0 and below 1",
                "Write 0.05 for 5 %",
            )
        if kind == "ratio" and value < 1:
            raise UsageError(f"ratio={value!r}", "expected a number of at least 1")
        if kind == "above" and value < 0:
            raise UsageError(f"above={value!r}", "expected a threshold of at least 0")

    def rank(self, spectrum: Spectrum) -> int | None:
        """Return the least rank that fulfils the goal, or None if the known values cannot tell."""
        values, known = spectrum.values, len(spectrum.values)
        match self.kind:
            case "full":
                return known if spectrum.complete else None
            case "rank":
                wanted = min(int(self.value), spectrum.size)
                return wanted if wanted <= known else None
            case "energy":
                target = (self.value - SAME_SUM) * spectrum.total
                reached = np.concatenate([[0.0], spectrum.captured]) >= target
            case "error":
                allowed = (self.value**2 + SAME_SUM**2) * spectrum.total
                reached = spectrum.left >= 0 if spectrum.total == 0 else spectrum.left <= allowed
            case "ratio" | "above":
                first = float(values[0]) if known else 0.0
                threshold = first / self.value if self.kind == "ratio" else self.value
                rank = int(np.count_nonzero(values > threshold))
                return rank if rank < known or spectrum.complete else None
        if reached.any():
            return int(np.argmax(reached))
        return known if spectrum.complete else None  # what is left beyond all values is rounding

    def energy(self) -> float | None:
        """Return the fraction of the energy that the goal asks for, where it asks for one."""
        match self.kind:
            case "energy":
                return self.value
            case "error":
                return 1 - self.value**2
            case _:
                return None
