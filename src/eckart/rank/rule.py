"""A user's wish for ranks: one criterion, and the shape the answer must have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from eckart.checks import is_number
from eckart.errors import UsageError
from eckart.linalg import Goal
from eckart.linalg.spectrum import KNEE_WINDOW
from eckart.rank.budget import Budget


class RuleOptions(TypedDict, total=False):
    """The keyword form of a rank rule."""

    rank: int | None
    energy: float | None
    error: float | None
    ratio: float | None
    knee: bool
    noise_floor: bool
    budget: str | int | None
    min_rank: int
    max_rank: int | None
    multiple_of: int
    uniform: bool
    include: str | Sequence[str]
    exclude: str | Sequence[str]


def rule_from(rule: RankRule | None, options: RuleOptions) -> RankRule:
    """Return the rule, or the one that keywords give; refuse both together."""
    if rule is not None and options:
        raise UsageError(
            "rank rule", f"got a rule together with keywords: {', '.join(options)}", "Pass one of them"
        )
    return rule if rule is not None else RankRule.of(**options)


Criterion = Literal["rank", "energy", "error", "ratio", "knee", "noise-floor", "budget"]


@dataclass(frozen=True)
class RankRule:
    """How ranks are to be chosen. Build it with `RankRule.of`.

    Parameters
    ----------
    criterion : {"rank", "energy", "error", "ratio", "knee", "noise-floor", "budget"}
    value : float
        The criterion's target; unused by ``knee``, ``noise-floor`` and ``budget``.
    budget : Budget, optional
        For the criterion ``budget``.
    min_rank, max_rank : int
        Bounds on every chosen rank; a changed tensor never gets more than min(m, n).
    multiple_of : int
        Ranks are rounded up to a multiple of this, where the tensor is large enough.
    uniform : bool
        One rank for all tensors.
    include, exclude : tuple of str
        Regular expressions searched for in tensor names; a tensor is planned if it matches some
        ``include`` (or there is none) and no ``exclude``.
    """

    criterion: Criterion
    value: float = 0.0
    budget: Budget | None = None
    min_rank: int = 0
    max_rank: int | None = None
    multiple_of: int = 1
    uniform: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        rank: int | None = None,
        energy: float | None = None,
        error: float | None = None,
        ratio: float | None = None,
        knee: bool = False,
        noise_floor: bool = False,
        budget: str | int | None = None,
        min_rank: int = 0,
        max_rank: int | None = None,
        multiple_of: int = 1,
        uniform: bool = False,
        include: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
    ) -> RankRule:
        """Build a rule from the words used on the command line; exactly one criterion.

        Examples
        --------
        >>> RankRule.of(energy=0.9, max_rank=64).describe()
        'energy 0.9, at most rank 64'
        """
        wishes: dict[str, Any] = {
            "rank": rank, "energy": energy, "error": error, "ratio": ratio,
            "knee": knee or None, "noise-floor": noise_floor or None, "budget": budget,
        }  # fmt: skip
        given = [name for name, value in wishes.items() if value is not None]
        if len(given) != 1:
            found = " and ".join(f"--{name}" for name in given) or "none"
            raise UsageError(
                "rank rule",
                f"expected one criterion, got {found}",
                "Give one of --rank N, --energy 0.9, --error 0.05, --ratio 100, --knee, --noise-floor, "
                "--budget 2M",
            )
        criterion = given[0]
        value = wishes[criterion]
        if criterion in ("rank", "energy", "error", "ratio"):
            Goal(criterion, value)  # type: ignore[arg-type]  # checks the range
        for name, number, least in (
            ("min_rank", min_rank, 0),
            ("max_rank", max_rank, 1),
            ("multiple_of", multiple_of, 1),
        ):
            if number is not None and not (is_number(number) and number == int(number) and number >= least):
                raise UsageError(f"{name}={number!r}", f"expected a whole number of at least {least}")
        include = (include,) if isinstance(include, str) else tuple(include)
        exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        if max_rank is not None and max_rank < min_rank:
            raise UsageError(f"max_rank={max_rank}", f"is below min_rank={min_rank}")
        for pattern in (*include, *exclude):
            try:
                re.compile(pattern)
            except re.error as reason:
                raise UsageError(f"pattern {pattern!r}", f"is not a regular expression: {reason}") from None
        return cls(
            criterion=criterion,  # type: ignore[arg-type]
            value=float(value) if criterion in ("rank", "energy", "error", "ratio") else 0.0,
            budget=Budget.parse(value) if criterion == "budget" else None,
            min_rank=int(min_rank),
            max_rank=None if max_rank is None else int(max_rank),
            multiple_of=int(multiple_of),
            uniform=uniform,
            include=include,
            exclude=exclude,
        )

    @property
    def needs_noise(self) -> bool:
        """Whether the rule needs each tensor's noise floor."""
        return self.criterion == "noise-floor"

    def selects(self, name: str) -> bool:
        """Whether a tensor of this name is to be planned."""
        wanted = not self.include or any(re.search(p, name) for p in self.include)
        return wanted and not any(re.search(p, name) for p in self.exclude)

    def goal(self, size: int, noise_floor: float | None = None, guess: int = 8) -> Goal:
        """Return what a tensor with min(m, n) = ``size`` must be factored to for this rule alone.

        For ``budget``, which depends on all tensors together, it is the rank ``guess``, to be widened.
        """
        match self.criterion:
            case "rank":
                return Goal("rank", self.shaped(int(self.value), size))
            case "energy" | "error" | "ratio":
                return Goal(self.criterion, self.value)
            case "knee":
                return Goal("energy", KNEE_WINDOW)
            case "noise-floor":
                return Goal("above", noise_floor) if noise_floor is not None else Goal("full")
            case "budget":
                return Goal("rank", min(size, max(guess, self.min_rank)))

    def shaped(self, rank: int, size: int) -> int:
        """Apply min, max and multiple to a rank; 0 stays 0 unless a minimum is set."""
        rank = max(rank, self.min_rank)
        if rank:
            rank = -(-rank // self.multiple_of) * self.multiple_of
        return min(rank, self.most(size))

    def most(self, size: int) -> int:
        """Return the largest rank allowed to a tensor: a multiple within max_rank, or all of it."""
        if self.max_rank is None or self.max_rank >= size:
            return size
        return self.max_rank // self.multiple_of * self.multiple_of or self.max_rank

    def describe(self) -> str:
        """Say the rule in words."""
        match self.criterion:
            case "budget":
                words = f"budget {self.budget.text if self.budget else ''}"
            case "knee" | "noise-floor":
                words = self.criterion.replace("-", " ")
            case _:
                words = f"{self.criterion} {self.value:g}"
        if self.min_rank:
            words += f", at least rank {self.min_rank}"
        if self.max_rank is not None:
            words += f", at most rank {self.max_rank}"
        if self.multiple_of > 1:
            words += f", multiples of {self.multiple_of}"
        return words + (", one rank for all" if self.uniform else "")
