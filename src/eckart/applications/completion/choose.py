"""Which method, rank and regularisation: whatever predicts entries best that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from eckart.applications.completion.als import complete_by_als
from eckart.applications.completion.baseline import complete_by_biases, fit_biases
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import Completion, rmse, standardise
from eckart.applications.completion.softimpute import (
    STEP,
    as_completion,
    complete_by_soft_impute,
    soft_impute,
)

Method = Literal["biases", "als", "softimpute"]
METHODS: tuple[str, ...] = get_args(Method)

VALIDATION = 0.1  # the share of the entries that settings are compared on
FINALISTS = 6  # settings that are compared again ...
AGAIN = 3  # ... on so many other tenths: one tenth of 100,000 entries cannot tell 0.873 from 0.881
FEWEST = 30  # entries: with fewer, three held-out ones would choose, which is to say chance
SHRINKS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
RANKS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)
STARTS = (5, 1)  # ranks to climb from: far above the true one errors are a plateau, which leads nowhere
REGULARISATIONS = (1e-4, 1e-3, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3, 0.45, 0.7, 1.0)
EXPONENTS = (0.5, 1.0)  # 1 is Zhou's, a half lies between it and a plain ridge; neither wins everywhere
PATIENCE = 3  # points of the path without a gain, after which it is left
LEAST_SHARE = 1e-3  # where the path of soft-impute ends at the latest
WORDS = {"biases": "biases alone", "als": "ALS", "softimpute": "soft-impute"}


@dataclass(frozen=True)
class Setting:
    """A method and its numbers: all that a fit needs beside the entries and a seed.

    Parameters
    ----------
    method : {"biases", "als", "softimpute"}
    rank : int
        Number of factors (ALS), or the most that there may be (soft-impute).
    regularisation : float
        See `complete_by_als`; for soft-impute the share of `soft_impute`.
    exponent : float
        See `complete_by_als`; nothing to soft-impute.
    shrink : float
        See `fit_biases`.
    """

    method: Method
    rank: int = 0
    regularisation: float = 0.0
    exponent: float = 0.0
    shrink: float = 4.0

    def complete(self, entries: Entries, seed: int = 0) -> Completion:
        """Fit these entries."""
        if self.method == "als":
            return complete_by_als(entries, self.rank, self.regularisation, self.exponent, self.shrink, seed)
        if self.method == "softimpute":
            return complete_by_soft_impute(entries, self.rank, self.regularisation, self.shrink, seed)
        return complete_by_biases(entries, self.shrink)

    def __str__(self) -> str:
        if self.method == "biases":
            return WORDS["biases"]
        return f"{WORDS[self.method]}, rank {self.rank}, regularisation {self.regularisation:.3g}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


@dataclass
class Search:
    """What was tried, and how it did: root mean squared errors on the validation entries.

    Parameters
    ----------
    kept, held : Entries
        What settings are fitted to, and what they are compared on.
    seed : int
    tell : callable, optional
        Is told each setting and its error.
    tried : dict of Setting to float
    finals : dict of Setting to float
        Means over several validation parts, for the best of ``tried``.
    """

    kept: Entries
    held: Entries
    seed: int = 0
    tell: Callable[[Setting, float], None] | None = None
    tried: dict[Setting, float] = field(default_factory=dict)
    finals: dict[Setting, float] = field(default_factory=dict)

    def score(self, setting: Setting) -> float:
        """Return the error of a setting, fitted at most once."""
        if setting not in self.tried:
            self.note(setting, setting.complete(self.kept, self.seed))
        return self.tried[setting]

    def note(self, setting: Setting, model: Completion) -> float:
        """Measure a fitted model, and keep the error."""
        error = measure(model, self.kept, self.held)
        self.tried[setting] = error
        if self.tell is not None:
            self.tell(setting, error)
        return error

    def best(self) -> Setting:
        """Return the setting of least error; of equals, the one that was tried first."""
        errors = self.finals or self.tried
        return min(errors, key=lambda setting: errors[setting])

    def compare_again(self, entries: Entries) -> None:
        """Fit the best setting of each method, rank and exponent, the few best of these, to other parts."""
        kinds: dict[tuple[str, int, float], Setting] = {}
        for setting in sorted(self.tried, key=lambda s: self.tried[s]):
            kinds.setdefault((setting.method, setting.rank, setting.exponent), setting)
        errors = {setting: [self.tried[setting]] for setting in list(kinds.values())[:FINALISTS]}
        for part in range(AGAIN if len(errors) > 1 else 0):
            kept, held = entries.split(VALIDATION, self.seed + 2 + part)
            for setting, found in errors.items():
                found.append(measure(setting.complete(kept, self.seed), kept, held))
                if self.tell is not None:
                    self.tell(setting, found[-1])
        self.finals = {setting: float(np.mean(found)) for setting, found in errors.items()}


def measure(model: Completion, kept: Entries, held: Entries) -> float:
    """Return the error on held-out entries of predictions cut to the range of those that were fitted."""
    low, high = float(kept.values.min()), float(kept.values.max())
    return rmse(np.clip(model.at(held.rows, held.columns), low, high), held.values)


def choose(
    entries: Entries,
    method: str = "auto",
    rank: int | None = None,
    seed: int = 0,
    tell: Callable[[Setting, float], None] | None = None,
) -> Search:
    """Hold a tenth of the entries out, and look for the setting that predicts them best.

    Parameters
    ----------
    entries : Entries
    method : {"auto", "als", "softimpute", "biases"}
        "auto" tries all three.
    rank : int, optional
        The only rank to try.
    seed : int
        Of the parting, and of every fit.
    tell : callable, optional
        Is told each setting and its error, as they come.

    Returns
    -------
    Search
        ``best()`` is the choice; ``tried`` is empty where there are too few entries to choose by.

    Notes
    -----
    The regularisation is moved along its grid while the error falls, for each rank and exponent; the grids
    are this module's. The best of each kind are then compared on three more tenths, and their means decide.
    The error of the choice is the least of many, hence a little too good: state another one, of entries that
    had no part in choosing.
    """
    search = Search(*entries.split(VALIDATION, seed + 1), seed, tell)
    if len(entries) < FEWEST:
        return search
    shrink = climb(SHRINKS, 4.0, lambda x: search.score(Setting("biases", shrink=x)))
    ranks = [r for r in RANKS if r <= min(entries.shape)] if rank is None else [min(rank, *entries.shape)]
    if method in ("auto", "als"):
        _choose_als(search, ranks, shrink)
    if method in ("auto", "softimpute"):
        path = _Path(search, shrink)
        climb(ranks, STARTS[0], path.least)
    if method in ("als", "softimpute"):  # as asked for, though biases alone may do better
        search.tried = {s: e for s, e in search.tried.items() if s.method == method}
    search.compare_again(entries)
    return search


def climb(grid: Sequence[Any], start: float, score: Callable[[Any], float]) -> Any:
    """Return the point of a grid from which neither neighbour has a lower score, begun nearest ``start``.

    Examples
    --------
    >>> climb([1, 2, 5, 10, 20], 4, lambda x: (x - 11) ** 2)
    10
    """
    at = int(np.argmin(np.abs(np.asarray(grid, float) - start)))
    scores = {at: score(grid[at])}
    for step in (1, -1):
        while 0 <= at + step < len(grid):
            if at + step not in scores:
                scores[at + step] = score(grid[at + step])
            if scores[at + step] >= scores[at]:
                break
            at += step
    return grid[at]


def _choose_als(search: Search, ranks: list[int], shrink: float) -> None:
    """Climb over ranks for either exponent; the regularisation of one rank is where the next begins."""
    for exponent in EXPONENTS:
        start = 0.13

        def least(rank: int, exponent: float = exponent) -> float:
            nonlocal start

            def score(x: float) -> float:
                return search.score(Setting("als", rank, x, exponent, shrink))

            start = climb(REGULARISATIONS, start, score)
            return score(start)

        for first in STARTS:
            climb(ranks, first, least)


@dataclass
class _Path:
    """Paths of soft-impute, one to a rank, each left when it has ceased to gain."""

    search: Search
    shrink: float

    def __post_init__(self) -> None:
        self.mean, self.scale, standard = standardise(self.search.kept)
        self.b, self.c = fit_biases(standard, self.shrink)
        self.rest = standard.with_values(standard.values - self.b[standard.rows] - self.c[standard.columns])

    def least(self, rank: int) -> float:
        """Return the least error along the path of this rank."""
        errors: list[float] = []
        shares = (STEP**k for k in range(1, 200) if STEP**k >= LEAST_SHARE)
        for point in soft_impute(self.rest, shares, rank, seed=self.search.seed):
            setting = Setting("softimpute", rank, point.share, shrink=self.shrink)
            model = as_completion(self.mean, self.scale, self.b, self.c, point)
            errors.append(self.search.note(setting, model))
            if len(errors) - 1 - int(np.argmin(errors)) >= PATIENCE:
                break
        return min(errors)
