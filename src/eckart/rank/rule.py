"""The base class of rank rules, and how a rule and its bounds become one rank per tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import ClassVar

import numpy as np

from eckart.linalg import Goal, Spectrum
from eckart.rank.bounds import Bounds
from eckart.rank.plan import Candidate

FIRST_VALUES = 16
"""Singular values to compute when a first pass gave fewer than a rule needs. Later requests double them.

It is twice `eckart.rank.budget.FIRST_RANK`, so a budget's second request doubles its first, too.
"""


@dataclass(frozen=True)
class RuleOption:
    """How a rule, or one of its bounds, is written as a keyword argument and on the command line.

    Parameters
    ----------
    keyword : str
        The keyword argument, for example ``"noise_floor"``. The command line spells it ``--noise-floor``.
    type : {int, float, str, bool, list}
        Type of the value; ``bool`` for a switch, ``list[str]`` for an option that can be repeated.
    help : str
        Help text of the command line.
    metavar : str
        Stands for the value in the help. Empty for a switch.
    example : str
        A value for error messages. Empty for a switch.
    is_share : bool
        Whether the command line also accepts the value as a percentage, ``90%``.
    """

    keyword: str
    type: type[int] | type[float] | type[str] | type[bool] | type[list[str]]
    help: str
    metavar: str = ""
    example: str = ""
    is_share: bool = False

    @property
    def flag(self) -> str:
        """The option on the command line, for example ``--noise-floor``."""
        return "--" + self.keyword.replace("_", "-")

    def is_given(self, value: object) -> bool:
        """Return whether a value was passed: a switch that is on, at least one pattern, or a value."""
        return value is not None if self.type in (int, float, str) else bool(value)


@dataclass(frozen=True)
class Choice:
    """The rank that a rule alone, without its bounds, chooses for one tensor.

    Parameters
    ----------
    rank : int or None
        None if the known singular values do not determine it.
    reason : str
        Why, in a few words.
    """

    rank: int | None
    reason: str


@dataclass(frozen=True)
class Decision:
    """The rank of one tensor, bounds included.

    Parameters
    ----------
    rank : int
        Not final while `needs` is set.
    reason : str
        Why, in a few words.
    needs : Goal, optional
        What the tensor must be factored to before the rank is final.
    """

    rank: int
    reason: str
    needs: Goal | None = None


class RankRule(Bounds, ABC):
    """A rule by which ranks are chosen. This is the base class of all rules.

    Every rule also accepts the keywords of `Bounds`: ``min_rank``, ``max_rank``, ``multiple_of``,
    ``uniform``, ``include`` and ``exclude``.

    Examples
    --------
    >>> from eckart.rank import Energy
    >>> Energy(0.9, max_rank=64)
    Energy(0.9, max_rank=64)
    >>> Energy(0.9, max_rank=64).describe()
    'energy 0.9, at most rank 64'
    """

    option: ClassVar[RuleOption]
    """The rule as a keyword argument and on the command line."""

    needs_noise_floor: ClassVar[bool] = False
    """Whether the rule needs the noise floor of each tensor."""

    @property
    @abstractmethod
    def target(self) -> str:
        """The rule in words, without its bounds, for example ``energy 0.9``."""

    @abstractmethod
    def goal(self, size: int, noise_floor: float | None = None) -> Goal:
        """Return what a tensor must be factored to, so that the rule can choose its rank.

        The first pass over the checkpoints factors each tensor to this goal, and the store keeps that many
        components. A goal that is too small therefore costs a second pass over most tensors; a goal that is
        too large computes and stores components that are never used.

        Parameters
        ----------
        size : int
            ``min(m, n)`` of the tensor, at least 1.
        noise_floor : float, optional
            The tensor's noise floor, in the units of its singular values, if it is known.

        Returns
        -------
        Goal
        """

    @abstractmethod
    def choose(self, candidate: Candidate) -> Choice:
        """Choose the rank of one changed tensor, without applying the bounds.

        Parameters
        ----------
        candidate : Candidate
            The tensor, whose update is not zero.

        Returns
        -------
        Choice
        """

    @property
    def pooled_goal(self) -> Goal | None:
        """What all tensors must reach together if they share one rank (``uniform``).

        None: the shared rank is the largest that any tensor needs.
        """
        return None

    @property
    def needs_base_size(self) -> bool:
        """Whether the rule needs the number of parameters of the base model."""
        return False

    def first_goals(
        self, shapes: Mapping[str, Sequence[int]], base_parameters: int, bytes_each: int
    ) -> dict[str, Goal]:
        """Return the goal to factor each tensor to while no singular value is known.

        Parameters
        ----------
        shapes : mapping of str to (int, int)
            Shape of each selected tensor, without empty ones.
        base_parameters : int
            Number of parameters of the base model.
        bytes_each : int
            Bytes per number in the adapter.

        Returns
        -------
        dict of str to Goal
            A guess where the rule depends on all tensors together; `decide` then asks for more.
        """
        return {name: self.goal(min(shape)) for name, shape in shapes.items()}

    def decide(
        self, candidates: Sequence[Candidate], base_parameters: int, bytes_each: int
    ) -> dict[str, Decision]:
        """Choose the rank of every tensor, bounds included.

        Parameters
        ----------
        candidates : sequence of Candidate
            The selected tensors.
        base_parameters : int
            Number of parameters of the base model.
        bytes_each : int
            Bytes per number in the adapter.

        Returns
        -------
        dict of str to Decision
            In the order of the candidates.
        """
        if self.uniform:
            return _decide_together(self, candidates)
        return {candidate.name: _decide_alone(self, candidate) for candidate in candidates}

    def describe(self) -> str:
        """Return the rule in words, bounds included."""
        return ", ".join([self.target, *self.describe_bounds()])

    def __repr__(self) -> str:
        bounds = {bound.name: bound.default for bound in fields(Bounds)}
        own = [repr(getattr(self, f.name)) for f in fields(self) if f.name not in bounds]
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, default in bounds.items()
            if default is not MISSING and getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(own + changed)})"


def _decide_alone(rule: RankRule, candidate: Candidate) -> Decision:
    """Choose the rank of one tensor without regard to the others."""
    spectrum = candidate.spectrum
    if spectrum.total == 0:
        return Decision(0, "unchanged")
    choice = rule.choose(candidate)
    needs = None
    wanted = choice.rank
    if wanted is None:
        is_unmeasured = rule.needs_noise_floor and candidate.noise_floor is None
        # The rank exceeds the number of known values. That settles it if `max_rank` is not above that number.
        wanted = 0 if is_unmeasured else len(spectrum) + 1
        if is_unmeasured or rule.bounded(wanted, spectrum.size) > len(spectrum):
            needs = rule.goal(spectrum.size, candidate.noise_floor)
    rank = rule.bounded(wanted, spectrum.size)
    if rank > len(spectrum) and needs is None:
        needs = Goal("rank", rank)
    reason = choice.reason
    if rank != wanted:
        reason += f"; changed from {wanted} to {rank} by the bounds"
    if rank >= candidate.break_even:
        reason += f"; from rank {candidate.break_even} on, a dense update is no larger"
    return Decision(rank, reason, needs)


def _decide_together(rule: RankRule, candidates: Sequence[Candidate]) -> dict[str, Decision]:
    """Choose one rank for all tensors."""
    goal = rule.pooled_goal
    needs: dict[str, Goal | None]
    if goal is None:
        alone = {candidate.name: _decide_alone(rule, candidate) for candidate in candidates}
        needs = {name: decision.needs for name, decision in alone.items()}
        wanted = max(decision.rank for decision in alone.values())
        reason = f"the largest rank that any tensor needs for {rule.describe()}"
    else:
        needs = {candidate.name: None for candidate in candidates}
        pooled_rank = _pooled(candidates).rank_for(goal)
        reason = f"the smallest rank at which all tensors together reach {rule.target}"
        if pooled_rank is None:
            wanted = max(len(candidate.spectrum) for candidate in candidates)
            needs |= _needs_of_shortest(candidates)
        else:
            wanted = pooled_rank
    shared = rule.bounded(wanted, max(candidate.spectrum.size for candidate in candidates))
    decisions = {}
    for candidate in candidates:
        spectrum = candidate.spectrum
        rank = min(shared, spectrum.size) if spectrum.total else 0
        need = needs[candidate.name]
        if need is None and rank > len(spectrum):
            need = Goal("rank", rank)
        decisions[candidate.name] = Decision(rank, reason if spectrum.total else "unchanged", need)
    return decisions


def _needs_of_shortest(candidates: Sequence[Candidate]) -> dict[str, Goal | None]:
    """Ask for more values of the tensors with the fewest, because the pooled energies stop there."""
    incomplete = [c for c in candidates if not c.spectrum.complete]
    known = min(len(c.spectrum) for c in incomplete)
    return {
        c.name: Goal("rank", min(max(2 * known, FIRST_VALUES), c.spectrum.size))
        for c in incomplete
        if len(c.spectrum) == known
    }


def _pooled(candidates: Sequence[Candidate]) -> Spectrum:
    """Return a spectrum whose r-th energy is what one more rank adds over all tensors together."""
    size = max(c.spectrum.size for c in candidates)
    # Past the shortest list of leading values the sum would miss terms, so it stops there.
    known = min((len(c.spectrum) for c in candidates if not c.spectrum.complete), default=size)
    steps = np.zeros(known)
    for candidate in candidates:
        values = candidate.spectrum.values[:known]
        steps[: len(values)] += values**2
    total = sum(c.spectrum.total for c in candidates)
    return Spectrum(np.sqrt(steps), total - float(steps.sum()) if known < size else 0.0, size)
