"""Singular values, all of them or the leading ones, and the quantities that follow from them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Bools, Floats
from eckart.errors import UsageError
from eckart.extras import missing_extra
from eckart.linalg.display import html_table
from eckart.linalg.goal import Goal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KNEE_WINDOW = 0.95  # the knee is searched for among the components that hold this share of the energy
MARKED = 64  # up to this many values, a plot marks each one
FAST = 0.1  # decay is fast when a tenth of the components hold nine tenths of the energy

COMPUTE_ALL = "Use eckart.spectrum(A) to compute all of them"


class Spectrum:
    """The singular values of a matrix, with the exact energy of those that are not listed.

    Parameters
    ----------
    values : array_like (k,)
        Singular values, largest first. Held as float64.
    tail : float
        Energy (sum of sigma^2) of the values beyond ``values``; 0 if all values are listed.
    size : int, optional
        min(m, n) of the matrix; ``len(values)`` by default.

    Raises
    ------
    UsageError
        If the values are not one axis of finite numbers of at least 0 in descending order, if ``size`` is
        below their number, or if ``tail`` is not finite.

    Notes
    -----
    *Energy* is the sum of sigma^2, which is the square of the Frobenius norm; ``energy(r)`` is the
    share that the best approximation of rank r keeps (Eckart and Young, 1936). If only leading
    values are known (``complete`` is False), a method that needs more of them raises `UsageError`
    instead of guessing.

    Examples
    --------
    >>> s = Spectrum([3.0, 2.0, 1.0])
    >>> round(s.energy(2), 4), s.rank_at_energy(0.9), s.rank_at_error(0.5)
    (0.9286, 2, 2)
    >>> round(s.stable_rank, 4), round(s.effective_rank, 4)
    (1.5556, 2.7495)
    """

    def __init__(self, values: ArrayLike, tail: float = 0.0, size: int | None = None) -> None:
        self.values: Floats = np.array(values, dtype=np.float64)
        if self.values.ndim != 1:
            raise UsageError("Spectrum(values=...)", f"expected one axis, got shape {self.values.shape}")
        if not np.isfinite(self.values).all() or (self.values < 0).any():
            raise UsageError("Spectrum(values=...)", "expected finite values of at least 0")
        if (np.diff(self.values) > 0).any():
            raise UsageError("Spectrum(values=...)", "expected the largest value first")
        self.size = len(self.values) if size is None else size
        if self.size < len(self.values):
            raise UsageError(
                "Spectrum(size=...)",
                f"expected at least {len(self.values)}, the number of values, got {self.size}",
            )
        if not np.isfinite(tail):
            raise UsageError("Spectrum(tail=...)", f"expected a finite energy, got {tail}")
        self.tail = max(float(tail), 0.0)
        self.values.setflags(write=False)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        known = "all" if self.complete else "leading"
        return f"Spectrum({known} {len(self)} of {self.size}, total={self.total:.6g})"

    def _repr_html_(self) -> str:
        rows = {
            "singular values": f"all {self.size}" if self.complete else f"leading {len(self)} of {self.size}",
            "total energy": f"{self.total:.6g}",
        }
        if len(self):
            rows["largest value"] = f"{self.values[0]:.6g}"
            rows["smallest known value"] = f"{self.values[-1]:.6g}"
            rows["stable rank"] = f"{self.stable_rank:.4g}"
        if self.complete:
            rows["effective rank"] = f"{self.effective_rank:.4g}"
        for energy in (0.5, 0.9, 0.99):
            rank = self.rank_for(Goal("energy", energy))
            rows[f"rank at {energy:.0%} energy"] = "more than known" if rank is None else str(rank)
        return html_table("Spectrum", rows)

    @property
    def complete(self) -> bool:
        """Whether every singular value is listed."""
        return len(self.values) == self.size

    @cached_property
    def captured(self) -> Floats:
        """Energy of the first 1, 2, ... components, ndarray (k,)."""
        return np.cumsum(self.values**2)

    @cached_property
    def tails(self) -> Floats:
        """Energy beyond the first 0, 1, ... components, ndarray (k + 1,), summed from the smallest."""
        squares = np.concatenate([self.values**2, [self.tail]])
        return np.cumsum(squares[::-1])[::-1]

    @property
    def total(self) -> float:
        """Energy of the whole matrix, ||A||_F^2."""
        return (float(self.captured[-1]) if len(self) else 0.0) + self.tail

    def energy(self, rank: int) -> float:
        """Return the share of the energy in the first ``rank`` components.

        Parameters
        ----------
        rank : int
            At least 0.

        Returns
        -------
        float
            From 0 to 1; 1 for a zero matrix.

        Raises
        ------
        UsageError
            If ``rank`` is negative, or exceeds the number of known values.
        """
        self._check_known(rank, f"Spectrum.energy({rank})")
        if self.total == 0:
            return 1.0
        rank = min(rank, len(self))
        return float(self.captured[rank - 1]) / self.total if rank else 0.0

    def error(self, rank: int) -> float:
        """Return the relative Frobenius error of the best approximation of a rank.

        Parameters
        ----------
        rank : int
            At least 0.

        Returns
        -------
        float
            ||A - A_r||_F / ||A||_F; 0 for a zero matrix.

        Raises
        ------
        UsageError
            If ``rank`` is negative, or exceeds the number of known values.
        """
        self._check_known(rank, f"Spectrum.error({rank})")
        return float(np.sqrt(self.tails[min(rank, len(self))] / self.total)) if self.total else 0.0

    def rank_for(self, goal: Goal) -> int | None:
        """Return the least rank that reaches a goal, or None if the known values do not determine it.

        Parameters
        ----------
        goal : Goal
            What must be reached.

        Returns
        -------
        int or None
            At most ``size``.

        Examples
        --------
        >>> Spectrum([3.0, 2.0, 1.0]).rank_for(Goal("ratio", 2.0))
        2
        >>> Spectrum([3.0, 2.0], tail=1.0, size=3).rank_for(Goal("energy", 0.99)) is None
        True
        """
        known = len(self.values)
        match goal.kind:
            case "full":
                return known if self.complete else None
            case "rank":
                rank = min(int(goal.value), self.size)
                return rank if rank <= known else None
            case "energy" | "error":
                allowed = goal.allowed_loss
                assert allowed is not None  # these two kinds have one
                return self._first_reached(self.tails <= allowed * self.tails[0])
            case "ratio":
                largest = float(self.values[0]) if known else 0.0
                return self._number_above(largest / goal.value)
            case "above":
                return self._number_above(goal.value)

    def rank_at(self, goal: Goal) -> int:
        """Return the least rank that reaches a goal.

        Parameters
        ----------
        goal : Goal
            What must be reached.

        Returns
        -------
        int
            At most ``size``.

        Raises
        ------
        UsageError
            If the known values do not determine it. `rank_for` returns None instead.
        """
        rank = self.rank_for(goal)
        if rank is None:
            raise UsageError(
                f"{goal.kind}={goal.value:g}",
                f"the leading {len(self)} of {self.size} singular values do not reach it",
                "Factor the matrix to a higher rank",
            )
        return rank

    def rank_at_energy(self, energy: float) -> int:
        """Return the least r with energy(r) >= ``energy``.

        Parameters
        ----------
        energy : float
            Above 0 and at most 1.

        Returns
        -------
        int
            At most ``size``.

        Raises
        ------
        UsageError
            If ``energy`` is out of range, or the known values do not determine the rank.

        Examples
        --------
        >>> Spectrum([3.0, 2.0, 1.0]).rank_at_energy(13 / 14)
        2
        """
        return self.rank_at(Goal("energy", energy))

    def rank_at_error(self, error: float) -> int:
        """Return the least r whose relative Frobenius error is at most ``error``.

        Parameters
        ----------
        error : float
            At least 0 and below 1.

        Returns
        -------
        int
            At most ``size``.

        Raises
        ------
        UsageError
            If ``error`` is out of range, or the known values do not determine the rank.

        Examples
        --------
        >>> Spectrum([3.0, 2.0, 1.0]).rank_at_error(0.3)
        2
        """
        return self.rank_at(Goal("error", error))

    def knee(self) -> int | None:
        """Return the rank at which the energy curve bends from steep to flat.

        Returns
        -------
        int or None
            None if the curve is straight.

        Raises
        ------
        UsageError
            If the known values hold less than 95 % of the energy.

        Notes
        -----
        The point of the curve (r, energy(r)) that lies farthest above the chord from (0, 0) to
        (R, energy(R)), where R is the least rank that holds 95 % of the energy. This is Kneedle
        (Satopaa et al., 2011) with its window fixed by energy instead of by the length of the
        list: the usual min-max window moves the knee whenever the tail is cut or extended.
        """
        if self.total == 0:
            return None
        end = self.rank_at_energy(KNEE_WINDOW)
        if end == 1:
            return 1  # one component holds all of it, so there is no curve
        ranks = np.arange(1, end + 1)
        above = self.captured[:end] / self.captured[end - 1] - ranks / end
        best = int(np.argmax(above))
        # The curve of a flat spectrum is straight, and its distance to the chord is rounding.
        return best + 1 if above[best] > 1e-9 else None

    @property
    def stable_rank(self) -> float:
        """||A||_F^2 / sigma_1^2 (Rudelson and Vershynin, 2007); 0 for a zero matrix.

        Raises
        ------
        UsageError
            If sigma_1 is not known. `effective_rank`, `entropy` and `condition` also raise where they are not
            determined. Only `rank_for` returns None, because its callers continue with more values.
        """
        if self.total and not len(self):
            raise UsageError("Spectrum.stable_rank", "expected sigma_1 to be known, but no value is")
        return self.total / float(self.values[0]) ** 2 if self.total else 0.0

    @property
    def effective_rank(self) -> float:
        """The exponential of the entropy of sigma_i / sum sigma (Roy and Vetterli, 2007). Not of sigma^2."""
        return float(np.exp(_entropy(self._all("effective_rank")))) if self.total else 0.0

    @property
    def entropy(self) -> float:
        """Entropy of sigma_i^2 / sum sigma^2, in nats: the share of energy of each component."""
        return _entropy(self._all("entropy") ** 2) if self.total else 0.0

    @property
    def condition(self) -> float:
        """Ratio sigma_1 / sigma_min; inf for a singular matrix, as in `numpy.linalg.cond`."""
        values = self._all("condition")
        if not len(values) or values[-1] == 0:
            return float("inf")
        return float(values[0] / values[-1])

    def decay(self) -> str:
        """Return how fast the singular values decay.

        Returns
        -------
        {"fast", "slow", "unknown"}
            "fast" if a tenth of the components hold nine tenths of the energy; "unknown" if fewer than a
            tenth of the values are known and they do not decide it.
        """
        rank = self.rank_for(Goal("energy", 1 - FAST))
        if rank is None:
            return "slow" if len(self) >= FAST * self.size else "unknown"
        return "fast" if rank <= max(1.0, FAST * self.size) else "slow"

    def plot(self, ax: Axes | None = None) -> tuple[Axes, Axes]:
        """Draw a scree plot: singular values on a logarithmic axis, cumulative energy on a second axis.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; those of a new figure by default.

        Returns
        -------
        values_ax, energy_ax : matplotlib.axes.Axes
            The axes of the singular values, and those of the share of the energy in the first 1, 2, ...
            components.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.

        Notes
        -----
        Values that are 0 have no logarithm and are left out of the plot.

        Examples
        --------
        >>> values_ax, energy_ax = Spectrum([3.0, 2.0, 1.0]).plot()
        >>> values_ax.get_yscale(), energy_ax.lines[0].get_ydata().round(2).tolist()
        ('log', [0.64, 0.93, 1.0])
        """
        try:
            import matplotlib.pyplot as plt
            from matplotlib.ticker import MaxNLocator
        except ImportError:
            raise missing_extra("Spectrum.plot", "matplotlib is not installed", "plot") from None
        if ax is None:
            ax = plt.subplots(layout="constrained")[1]
        energy_ax = ax.twinx()
        ranks = np.arange(1, len(self) + 1)
        energies = self.captured / self.total if self.total else np.ones(len(self))
        marker = "o" if len(self) <= MARKED else ""
        (values_line,) = ax.plot(
            ranks, self.values, color="C0", marker=marker, markersize=4, label="singular values"
        )
        (energy_line,) = energy_ax.plot(
            ranks, energies, color="C1", linestyle="--", label="cumulative energy"
        )
        if self.total and len(self):
            ax.set_yscale("log", nonpositive="mask")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        energy_ax.set_ylim(0.0, 1.05)
        ax.set_xlabel("component")
        ax.set_ylabel("singular value", color="C0")
        energy_ax.set_ylabel("cumulative energy", color="C1")
        ax.legend(handles=[values_line, energy_line], loc="center right")
        return ax, energy_ax

    def _first_reached(self, reached: Bools) -> int | None:
        """Return the first rank from 0 at which a goal is reached, shape (k + 1,)."""
        if reached.any():
            return int(np.argmax(reached))
        return len(self) if self.complete else None  # what is missing with all values known is rounding

    def _number_above(self, threshold: float) -> int | None:
        """Return how many values are above a threshold, None if some of those may be unknown."""
        rank = int(np.count_nonzero(self.values > threshold))
        return rank if rank < len(self) or self.complete else None

    def _check_known(self, rank: int, call: str) -> None:
        """Refuse a negative rank, and one beyond the known values."""
        if rank < 0:
            raise UsageError(call, "expected a rank of at least 0")
        if rank > len(self) and not self.complete:
            raise UsageError(
                call, f"only the leading {len(self)} of {self.size} singular values are known", COMPUTE_ALL
            )

    def _all(self, name: str) -> Floats:
        """Return the values; refuse if not all are known."""
        if not self.complete:
            raise UsageError(
                f"Spectrum.{name}",
                f"expected all singular values, but only the leading {len(self)} of {self.size} are known",
                COMPUTE_ALL,
            )
        return self.values


def _entropy(weights: Floats) -> float:
    shares = weights[weights > 0] / weights.sum()
    return float(-(shares * np.log(shares)).sum())
