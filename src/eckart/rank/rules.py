"""The rules that choose each tensor's rank from its own singular values.

A rule is a frozen dataclass derived from `RankRule`. It declares its ``option`` and defines ``target`` (the
rule in words), ``goal`` (what a tensor must be factored to) and ``choose`` (the rank, and the reason).
CONTRIBUTING.md, under "Where to add things", lists the edits that a new rule needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from eckart.linalg import Goal, Spectrum
from eckart.linalg.spectrum import KNEE_WINDOW
from eckart.rank.plan import Candidate
from eckart.rank.rule import Choice, RankRule, RuleOption
from eckart.text import decimals

LEAST_SHOWN = 5e-5  # below this, four decimals would show 0 or 1

_UNDETERMINED = Choice(None, "not enough singular values known")


@final
@dataclass(frozen=True, repr=False)
class Rank(RankRule):
    """The same rank for every tensor, or ``min(m, n)`` where that is smaller.

    Other keyword arguments are the fields of `Bounds`.

    Parameters
    ----------
    rank : int
        At least 1.

    Raises
    ------
    UsageError
        If the rank is not a whole number of at least 1.

    Examples
    --------
    >>> Rank(16, exclude=["lm_head"])
    Rank(16, exclude=('lm_head',))
    """

    option: ClassVar[RuleOption] = RuleOption(
        "rank", int, "Use this rank for every tensor.", metavar="N", example="16"
    )

    rank: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("rank", int(Goal("rank", self.rank).value))

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return f"rank {self.rank}"

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return the rank itself, bounds included. See `RankRule.goal`."""
        return Goal("rank", self.bounded(self.rank, size))

    def choose(self, candidate: Candidate) -> Choice:
        """Return the rank itself, whatever the singular values are."""
        return Choice(min(self.rank, candidate.spectrum.size), f"rank {self.rank} was given")


def _share(spectrum: Spectrum, rank: int) -> str:
    """Return the share of the energy that a rank keeps, and what is missing if that is almost nothing."""
    missing = float(spectrum.tails[rank] / spectrum.tails[0])
    if missing >= LEAST_SHOWN:
        return f"{spectrum.energy(rank):.4f}"
    return f"1 - {missing:.1e}" if missing else "1"


@final
@dataclass(frozen=True, repr=False)
class Energy(RankRule):
    """The smallest rank that keeps a share of the energy, the sum of squared singular values.

    Other keyword arguments are the fields of `Bounds`.

    Parameters
    ----------
    energy : float
        Share to keep, above 0 and at most 1. With ``uniform``, all tensors together must keep it.
        A share of 1 keeps everything but a relative error of 1e-13, which is rounding in float64; float32
        data then keep nearly every component, and 1 - 1e-12 drops those of rounding.

    Raises
    ------
    UsageError
        If the share is out of range.

    Examples
    --------
    >>> from eckart import Spectrum
    >>> Energy(0.9).choose(Candidate("a", (3, 3), Spectrum([3.0, 2.0, 1.0])))
    Choice(rank=2, reason='energy 0.9286')
    """

    option: ClassVar[RuleOption] = RuleOption(
        "energy",
        float,
        "Use the smallest rank that keeps this share of the energy (sum of sigma^2), e.g. 0.9.",
        metavar="SHARE",
        example="0.9",
        is_share=True,
    )

    energy: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("energy", float(Goal("energy", self.energy).value))

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return f"energy {self.energy:g}"

    @property
    def pooled_goal(self) -> Goal:
        """The same share of the energy of all tensors together."""
        return Goal("energy", self.energy)

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return the share of the energy. See `RankRule.goal`."""
        return Goal("energy", self.energy)

    def choose(self, candidate: Candidate) -> Choice:
        """Return the smallest rank that keeps the share."""
        rank = candidate.spectrum.rank_for(Goal("energy", self.energy))
        if rank is None:
            return _UNDETERMINED
        return Choice(rank, f"energy {_share(candidate.spectrum, rank)}")


@final
@dataclass(frozen=True, repr=False)
class Error(RankRule):
    """The smallest rank whose relative Frobenius error is at most a given number.

    Other keyword arguments are the fields of `Bounds`.

    Parameters
    ----------
    error : float
        Largest error, at least 0 and below 1. Error 0.05 is energy 0.9975: the energy kept is 1 - error^2.
        Error 0 allows 1e-13, and gives the same ranks as energy 1.
        With ``uniform``, it is the error of all tensors together.

    Raises
    ------
    UsageError
        If the error is out of range.

    Examples
    --------
    >>> from eckart import Spectrum
    >>> Error(0.3).choose(Candidate("a", (3, 3), Spectrum([3.0, 2.0, 1.0])))
    Choice(rank=2, reason='error 0.2673')
    """

    option: ClassVar[RuleOption] = RuleOption(
        "error",
        float,
        "Use the smallest rank with at most this relative Frobenius error, e.g. 0.05.",
        metavar="ERROR",
        example="0.05",
        is_share=True,
    )

    error: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("error", float(Goal("error", self.error).value))

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return f"error {self.error:g}"

    @property
    def pooled_goal(self) -> Goal:
        """The same relative error of all tensors together."""
        return Goal("error", self.error)

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return the relative error. See `RankRule.goal`."""
        return Goal("error", self.error)

    def choose(self, candidate: Candidate) -> Choice:
        """Return the smallest rank within the error."""
        rank = candidate.spectrum.rank_for(Goal("error", self.error))
        if rank is None:
            return _UNDETERMINED
        return Choice(rank, f"error {decimals(candidate.spectrum.error(rank))}")


@final
@dataclass(frozen=True, repr=False)
class Ratio(RankRule):
    """Keep every singular value above the largest divided by a number.

    Other keyword arguments are the fields of `Bounds`.

    Parameters
    ----------
    ratio : float
        At least 1. ``Ratio(100)`` keeps every sigma > sigma_1 / 100.

    Raises
    ------
    UsageError
        If the ratio is below 1.

    Examples
    --------
    >>> from eckart import Spectrum
    >>> Ratio(2).choose(Candidate("a", (3, 3), Spectrum([3.0, 2.0, 1.0])))
    Choice(rank=2, reason='2 sigma above sigma_1 / 2')
    """

    option: ClassVar[RuleOption] = RuleOption(
        "ratio",
        float,
        "Keep every singular value above the largest divided by this number, e.g. 100.",
        metavar="RATIO",
        example="100",
    )

    ratio: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("ratio", float(Goal("ratio", self.ratio).value))

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return f"ratio {self.ratio:g}"

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return the ratio. See `RankRule.goal`."""
        return Goal("ratio", self.ratio)

    def choose(self, candidate: Candidate) -> Choice:
        """Return the number of singular values above sigma_1 / ratio."""
        rank = candidate.spectrum.rank_for(Goal("ratio", self.ratio))
        if rank is None:
            return _UNDETERMINED
        return Choice(rank, f"{rank} sigma above sigma_1 / {self.ratio:g}")


@final
@dataclass(frozen=True, repr=False)
class Knee(RankRule):
    """The rank after which the energy curve of each tensor flattens.

    Its keyword arguments are the fields of `Bounds`.

    Notes
    -----
    A curve without a bend, that of equal singular values, has no knee; such a tensor gets the rank that keeps
    95 % of its energy. See `Spectrum.knee`.

    Examples
    --------
    >>> from eckart import Spectrum
    >>> Knee().choose(Candidate("a", (4, 4), Spectrum([9.0, 2.0, 2.0, 1.0])))
    Choice(rank=1, reason='knee of the energy curve, 90.0%')
    """

    option: ClassVar[RuleOption] = RuleOption("knee", bool, "Use the knee of each tensor's energy curve.")

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return "knee"

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return the part of the energy curve in which the knee is searched for. See `RankRule.goal`."""
        return Goal("energy", KNEE_WINDOW)

    def choose(self, candidate: Candidate) -> Choice:
        """Return the knee, or the rank that keeps 95 % of the energy if there is none."""
        spectrum = candidate.spectrum
        end = spectrum.rank_for(Goal("energy", KNEE_WINDOW))
        if end is None:
            return _UNDETERMINED
        knee = spectrum.knee()
        if knee is None:
            return Choice(end, f"no knee: rank {end} holds {KNEE_WINDOW:.0%}")
        return Choice(knee, f"knee of the energy curve, {spectrum.energy(knee):.1%}")


@final
@dataclass(frozen=True, repr=False)
class NoiseFloor(RankRule):
    """Keep every singular value that rounding of the two checkpoints cannot explain.

    Its keyword arguments are the fields of `Bounds`.

    Notes
    -----
    See `noise_edge` for the floor. It needs the two checkpoints, so an adapter alone cannot be resized by it.

    Examples
    --------
    >>> from eckart import Spectrum
    >>> NoiseFloor().choose(Candidate("a", (3, 3), Spectrum([3.0, 2.0, 1.0]), noise_floor=1.5))
    Choice(rank=2, reason='2 sigma above the noise floor 1.5')
    """

    option: ClassVar[RuleOption] = RuleOption(
        "noise_floor", bool, "Keep every singular value above the rounding noise of the checkpoints."
    )
    needs_noise_floor: ClassVar[bool] = True

    @property
    def target(self) -> str:
        """The rule in words, without its bounds."""
        return "noise floor"

    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return the noise floor, or every singular value if it is not known. See `RankRule.goal`."""
        return Goal("full") if noise_floor is None else Goal("above", noise_floor)

    def choose(self, candidate: Candidate) -> Choice:
        """Return the number of singular values above the tensor's noise floor."""
        if candidate.noise_floor is None:
            return Choice(None, "noise floor not computed")
        rank = candidate.spectrum.rank_for(Goal("above", candidate.noise_floor))
        if rank is None:
            return _UNDETERMINED
        return Choice(rank, f"{rank} sigma above the noise floor {candidate.noise_floor:.3g}")
