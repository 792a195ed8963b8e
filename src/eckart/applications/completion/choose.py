"""Choose the method, rank and regularisation that best predict held-out entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar, get_args

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
from eckart.arrays import Floats

Method = Literal["biases", "als", "softimpute"]
METHODS: tuple[str, ...] = get_args(Method)
METHOD_NAMES = {"biases": "biases only", "als": "ALS", "softimpute": "soft-impute"}
Number = TypeVar("Number", int, float)

VALIDATION = 0.1  # share of the entries on which settings are compared
FINALISTS = 6  # settings that are compared again ...
EXTRA_SPLITS = 3  # ... on this many other splits: one tenth of 100,000 entries cannot tell 0.873 from 0.881
MIN_ENTRIES = 30  # with fewer entries, three held-out ones or less would decide, which is chance
SHRINKS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
RANKS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)
STARTS = (5, 1)  # ranks where climbing starts: far above the true rank the errors form a plateau
REGULARISATIONS = (1e-4, 1e-3, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3, 0.45, 0.7, 1.0)
EXPONENTS = (0.5, 1.0)  # 1 is that of Zhou et al., 0.5 is halfway to a plain ridge; neither is always better
PATIENCE = 3  # points without improvement after which a path of soft-impute is abandoned
MIN_SHARE = 1e-3  # end of the path of soft-impute


@dataclass(frozen=True)
class Setting:
    """A method and its parameters: everything that a fit needs except the entries and a seed.

    Parameters
    ----------
    method : {"biases", "als", "softimpute"}
    rank : int
        Number of factors for ALS, maximum number of factors for soft-impute.
    regularisation : float
        The `regularisation` of `complete_by_als`, or the `share` of `soft_impute`.
    exponent : float
        The `exponent` of `complete_by_als`. Soft-impute does not use it.
    shrink : float
        The `shrink` of `fit_biases`.
    """

    method: Method
    rank: int = 0
    regularisation: float = 0.0
    exponent: float = 0.0
    shrink: float = 4.0

    def complete(self, entries: Entries, seed: int = 0) -> Completion:
        """Fit a model to entries.

        Parameters
        ----------
        entries : Entries
            The known entries.
        seed : int
            Random seed of the fit.

        Returns
        -------
        Completion
            The fitted model.
        """
        if self.method == "als":
            return complete_by_als(entries, self.rank, self.regularisation, self.exponent, self.shrink, seed)
        if self.method == "softimpute":
            return complete_by_soft_impute(entries, self.rank, self.regularisation, self.shrink, seed)
        return complete_by_biases(entries, self.shrink)

    def __str__(self) -> str:
        if self.method == "biases":
            return METHOD_NAMES["biases"]
        return f"{METHOD_NAMES[self.method]}, rank {self.rank}, regularisation {self.regularisation:.3g}"

    def to_json(self) -> dict[str, object]:
        """Return the fields as a JSON object."""
        return asdict(self)


OnTrial = Callable[[Setting, float], None]
"""A function that is called with every setting that is tried and its error."""


@dataclass
class Search:
    """The settings tried so far, with their root mean squared errors on the validation entries.

    Parameters
    ----------
    kept : Entries
        Entries that settings are fitted to.
    held_out : Entries
        Validation entries, on which settings are compared.
    seed : int
        Random seed of every fit.
    on_trial : callable, optional
        Called with each setting and its error.
    tried : dict of Setting to float
        Error of each setting.
    finals : dict of Setting to float
        Mean error over several splits, for the best settings in `tried`.
    """

    kept: Entries
    held_out: Entries
    seed: int = 0
    on_trial: OnTrial | None = None
    tried: dict[Setting, float] = field(default_factory=dict)
    finals: dict[Setting, float] = field(default_factory=dict)

    def score(self, setting: Setting) -> float:
        """Return the error of a setting, which is fitted only the first time.

        Parameters
        ----------
        setting : Setting
            The setting to try.
        """
        if setting not in self.tried:
            self.record(setting, setting.complete(self.kept, self.seed))
        return self.tried[setting]

    def record(self, setting: Setting, model: Completion) -> float:
        """Measure a fitted model, store its error and return it.

        Parameters
        ----------
        setting : Setting
            The setting under which the error is stored.
        model : Completion
            The model that the setting gives.
        """
        error = measure(model, self.kept, self.held_out)
        self.tried[setting] = error
        if self.on_trial is not None:
            self.on_trial(setting, error)
        return error

    def best(self) -> Setting:
        """Return the setting with the least error; among equals, the one tried first."""
        errors = self.finals or self.tried
        return min(errors, key=lambda setting: errors[setting])

    def compare_finalists(self, entries: Entries) -> None:
        """Compare the best settings again on other splits of all entries.

        The candidates are the best setting for each method, rank and exponent, and the finalists are the best
        few of those.

        Parameters
        ----------
        entries : Entries
            The kept and the validation entries together.
        """
        candidates: dict[tuple[str, int, float], Setting] = {}
        for setting in sorted(self.tried, key=lambda s: self.tried[s]):
            candidates.setdefault((setting.method, setting.rank, setting.exponent), setting)
        errors = {setting: [self.tried[setting]] for setting in list(candidates.values())[:FINALISTS]}
        for part in range(EXTRA_SPLITS if len(errors) > 1 else 0):
            kept, held_out = entries.split(VALIDATION, self.seed + 2 + part)
            for setting, measured in errors.items():
                measured.append(measure(setting.complete(kept, self.seed), kept, held_out))
                if self.on_trial is not None:
                    self.on_trial(setting, measured[-1])
        self.finals = {setting: float(np.mean(measured)) for setting, measured in errors.items()}


def measure(model: Completion, kept: Entries, held_out: Entries) -> float:
    """Return the root mean squared error of a model on held-out entries.

    Parameters
    ----------
    model : Completion
        A model fitted to `kept`.
    kept, held_out : Entries
        Predictions are clipped to the range of the values in `kept`.

    Returns
    -------
    float
        The error in the unit of the values.
    """
    low, high = float(kept.values.min()), float(kept.values.max())
    return rmse(np.clip(model.at(held_out.rows, held_out.columns), low, high), held_out.values)


def choose(
    entries: Entries,
    method: str = "auto",
    rank: int | None = None,
    seed: int = 0,
    on_trial: OnTrial | None = None,
) -> Search:
    """Hold out a tenth of the entries, and search for the setting that predicts them best.

    Parameters
    ----------
    entries : Entries
        The known entries.
    method : {"auto", "als", "softimpute", "biases"}
        "auto" tries all three methods.
    rank : int, optional
        The only rank to try. By default several are tried.
    seed : int
        Random seed of the splits and of every fit.
    on_trial : callable, optional
        Called with each setting and its error.

    Returns
    -------
    Search
        ``best()`` returns the chosen setting. If there are too few entries to choose, ``tried`` is empty.

    Notes
    -----
    For each rank and exponent, the regularisation moves along its grid as long as the error decreases. The
    grids are constants of this module. The best settings are then compared on three more splits, and their
    mean errors decide. The error of the chosen setting is the least of many and therefore biased low. State
    an error on entries that were not used for choosing instead.
    """
    kept, held_out = entries.split(VALIDATION, seed + 1)
    search = Search(kept, held_out, seed, on_trial)
    if len(entries) < MIN_ENTRIES:
        return search
    shrink = climb(SHRINKS, 4.0, lambda x: search.score(Setting("biases", shrink=x)))
    ranks = [r for r in RANKS if r <= min(entries.shape)] if rank is None else [min(rank, *entries.shape)]
    if method in ("auto", "als"):
        _choose_als(search, ranks, shrink)
    if method in ("auto", "softimpute"):
        climb(ranks, STARTS[0], _SoftImputePaths.start(search, shrink).least_error)
    if method in ("als", "softimpute"):  # the user asked for it, even if biases only would be better
        search.tried = {s: e for s, e in search.tried.items() if s.method == method}
    search.compare_finalists(entries)
    return search


def climb(grid: Sequence[Number], start: float, score: Callable[[Number], float]) -> Number:
    """Return a local minimum of a score on a grid.

    Parameters
    ----------
    grid : sequence of int or float
        Points in increasing order.
    start : float
        The search starts at the grid point nearest to this.
    score : callable
        Returns the score of a point. It is called at most once per point.

    Returns
    -------
    int or float
        A point of which neither neighbour has a lower score.

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
    """Climb over the ranks for each exponent. The best regularisation of one rank starts the next search."""
    for exponent in EXPONENTS:
        start = 0.13

        def least_error(rank: int, exponent: float = exponent) -> float:
            nonlocal start

            def score(x: float) -> float:
                return search.score(Setting("als", rank, x, exponent, shrink))

            start = climb(REGULARISATIONS, start, score)
            return score(start)

        for first in STARTS:
            climb(ranks, first, least_error)


@dataclass(frozen=True)
class _SoftImputePaths:
    """Paths of soft-impute on the residual of the biases, one for each rank."""

    search: Search
    shrink: float
    mean: float
    scale: float
    b: Floats
    c: Floats
    residual: Entries

    @classmethod
    def start(cls, search: Search, shrink: float) -> _SoftImputePaths:
        """Fit the biases, which all paths share."""
        mean, scale, standard = standardise(search.kept)
        b, c = fit_biases(standard, shrink)
        residual = standard.with_values(standard.values - b[standard.rows] - c[standard.columns])
        return cls(search, shrink, mean, scale, b, c, residual)

    def least_error(self, rank: int) -> float:
        """Follow the path of a rank until it stops improving, and return its least error."""
        errors: list[float] = []
        shares = (STEP**k for k in range(1, 200) if STEP**k >= MIN_SHARE)
        for point in soft_impute(self.residual, shares, rank, seed=self.search.seed):
            setting = Setting("softimpute", rank, point.share, shrink=self.shrink)
            model = as_completion(self.mean, self.scale, self.b, self.c, point)
            errors.append(self.search.record(setting, model))
            if len(errors) - 1 - int(np.argmin(errors)) >= PATIENCE:
                break
        return min(errors)
