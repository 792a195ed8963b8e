"""A recommender from ratings: fitted by matrix completion, measured on ratings it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from eckart.applications.completion.baseline import complete_by_biases
from eckart.applications.completion.choose import METHODS, Setting, choose, measure
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import Completion, rmse
from eckart.applications.ratings import Ratings
from eckart.applications.savedmodel import Saved, read_saved, write_saved
from eckart.errors import UsageError

HOLDOUT = 0.2  # share of the ratings that the stated error is measured on
FEWEST_TO_HOLD_OUT = 10  # with fewer ratings a fifth is one or none


class Suggestion(NamedTuple):
    """An item that a user has not rated, and the rating that is predicted."""

    item: str
    rating: float


@dataclass(frozen=True)
class Measured:
    """Root mean squared errors on ratings that had no part in fitting or in choosing.

    Parameters
    ----------
    ratings : int
        How many were held out.
    share, seed : float and int
        What parts them: the same two give the same ratings.
    rmse : float
        Of the chosen setting, fitted to all the others.
    rmse_biases, rmse_mean : float
        Of biases alone and of the mean of all the others: what there was to gain from.
    cold_users, cold_items : int
        Held-out ratings whose user, or whose item, has no rating among the others.
    """

    ratings: int
    share: float
    seed: int
    rmse: float
    rmse_biases: float
    rmse_mean: float
    cold_users: int
    cold_items: int


@dataclass(frozen=True, eq=False)
class Recommender:
    """Predicts ratings. Made by `fit` or `Recommender.load`.

    Parameters
    ----------
    model : Completion
        Fitted to all ratings.
    setting : Setting
        What was chosen.
    measured : Measured or None
        None if nothing was held out.
    user_ids, item_ids : tuple of str
    starts, rated : ndarray
        Items that user u has rated: ``rated[starts[u]:starts[u + 1]]``.
    low, high : float
        Range of the ratings, which predictions are cut to.
    notes : tuple of str
        What was tolerated or left undone, in sentences.
    """

    model: Completion
    setting: Setting
    measured: Measured | None
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    starts: NDArray[np.int64]
    rated: NDArray[np.int64]
    low: float
    high: float
    notes: tuple[str, ...] = ()

    @property
    def rmse(self) -> float | None:
        """Root mean squared error on held-out ratings; None if none were held out."""
        return None if self.measured is None else self.measured.rmse

    @cached_property
    def users(self) -> dict[str, int]:
        """The place of every user."""
        return {name: i for i, name in enumerate(self.user_ids)}

    @cached_property
    def items(self) -> dict[str, int]:
        """The place of every item."""
        return {name: i for i, name in enumerate(self.item_ids)}

    def predict(self, user: object, item: object) -> float:
        """Return the rating that is expected, within the range of the known ones.

        An unknown user or item is no error: the prediction rests on less, which `basis` puts in words.
        """
        u, i = self.users.get(str(user)), self.items.get(str(item))
        value = self.model.mean
        if u is not None:
            value += float(self.model.row_bias[u])
        if i is not None:
            value += float(self.model.column_bias[i])
        if u is not None and i is not None:
            value += float(self.model.P[u].astype(np.float64) @ self.model.Q[i].astype(np.float64))
        return float(np.clip(value, self.low, self.high))

    def basis(self, user: object, item: object) -> str:
        """Say in words what a prediction rests on."""
        known = str(user) in self.users, str(item) in self.items
        if known == (False, False):
            return f"user {user} and item {item} have no rating: the mean of all ratings"
        if not known[0]:
            return f"user {user} has no rating: the mean and the item's bias"
        if not known[1]:
            return f"item {item} has no rating: the mean and the user's bias"
        return "the mean, both biases" + (" and the factors" if self.model.rank else "")

    def top(self, user: object, n: int = 10) -> list[Suggestion]:
        """Return the ``n`` items of highest predicted rating that a user has not rated, best first.

        For an unknown user these are the items of highest bias. Items are ordered by what is predicted
        before it is cut to the range of ratings; of equals, the first in the file comes first.
        """
        if n < 1:
            raise UsageError(f"Recommender.top(n={n})", "expected 1 or more")
        u = self.users.get(str(user))
        if u is None:
            scores = self.model.mean + self.model.column_bias.astype(np.float64)
        else:
            scores = self.model.row(u)
            scores[self.rated[self.starts[u] : self.starts[u + 1]]] = -np.inf
        order = np.argsort(-scores, kind="stable")[:n]
        return [
            Suggestion(self.item_ids[i], float(np.clip(scores[i], self.low, self.high)))
            for i in order
            if scores[i] > -np.inf
        ]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: factors, biases, ids and what is known of them; never a pickle."""
        facts = {
            "setting": self.setting.to_json(),
            "measured": None if self.measured is None else asdict(self.measured),
            "low": self.low,
            "high": self.high,
            "notes": list(self.notes),
        }
        write_saved(path, Saved(self.model, self.user_ids, self.item_ids, self.starts, self.rated, facts))

    @classmethod
    def load(cls, path: str | Path) -> Recommender:
        """Read what `save` wrote; predictions are the same to the bit."""
        saved = read_saved(path)
        facts = saved.facts
        measured = None if facts["measured"] is None else Measured(**facts["measured"])
        return cls(
            saved.model, Setting(**facts["setting"]), measured, saved.user_ids, saved.item_ids,
            saved.starts, saved.rated, float(facts["low"]), float(facts["high"]), tuple(facts["notes"]),
        )  # fmt: skip


def fit(
    ratings: Ratings,
    method: str = "auto",
    rank: int | None = None,
    *,
    setting: Setting | None = None,
    holdout: float = HOLDOUT,
    seed: int = 0,
    tell: Callable[[Setting, float], None] | None = None,
) -> Recommender:
    """Fit a recommender: choose a setting, measure it on ratings held out, and fit it to all of them.

    Parameters
    ----------
    ratings : Ratings
    method : {"auto", "als", "softimpute", "biases"}
        "auto" takes whichever predicts best.
    rank : int, optional
        Number of factors, or the most of them for soft-impute; chosen if not given.
    setting : Setting, optional
        Choose nothing, and fit this.
    holdout : float
        Share of the ratings, drawn at random, that `Recommender.rmse` is measured on; 0 for none.
    seed : int
        Of the draws and the fits. The same ratings, seed and machine give the same bytes.
    tell : callable, optional
        Is told each setting that is tried, with its error.

    Returns
    -------
    Recommender

    Raises
    ------
    UsageError
        If an argument is out of range.

    Notes
    -----
    What is not rated is missing, not zero and not average. The held-out ratings are set aside first; a
    tenth of the others serves to choose (`choose`), and the error that is stated is that of ratings which
    had no part in it. It speaks of ratings like those in the file: people rate what they expect to like,
    so the error on items drawn blindly would be larger. The choice takes about a hundred fits, most of
    them of few factors; one fit of 100,000 ratings and 20 factors takes about a fifth of a second.

    Examples
    --------
    >>> from eckart.applications.simulate import simulate_ratings
    >>> made = simulate_ratings(users=60, items=80, ratings=1500, rank=1, noise=0.2, taste=1.0)
    >>> found = fit(made.ratings, "als", rank=1)
    >>> found.rmse < found.measured.rmse_biases / 2
    True
    >>> [round(s.rating, 1) for s in found.top(made.ratings.user_ids[0], 3)] == sorted(
    ...     [round(s.rating, 1) for s in found.top(made.ratings.user_ids[0], 3)], reverse=True)
    True
    """
    _check(method, rank, holdout)
    with threadpool_limits(1, user_api="blas"):  # thin products: more threads wait for one another
        return _fit(ratings, method, rank, setting, holdout, seed, tell)


def _fit(
    ratings: Ratings, method: str, rank: int | None, setting: Setting | None, holdout: float, seed: int,
    tell: Callable[[Setting, float], None] | None,
) -> Recommender:  # fmt: skip
    entries = Entries.of(ratings.users, ratings.items, ratings.values, ratings.shape)
    notes = list(ratings.notes)
    if holdout and len(entries) < FEWEST_TO_HOLD_OUT:
        notes.append(f"{len(entries)} ratings are too few to hold any out: no error is stated")
        holdout = 0.0
    kept, held = entries.split(holdout, seed)
    if setting is None:
        search = choose(kept, method, rank, seed, tell)
        setting = search.best() if search.tried else Setting("biases")
        if not search.tried and method != "biases":
            notes.append(f"{len(kept)} ratings are too few to choose by: biases alone are fitted")
    measured = None
    if len(held):
        model = setting.complete(kept, seed)
        rows, columns = kept.counts()
        measured = Measured(
            ratings=len(held),
            share=holdout,
            seed=seed,
            rmse=measure(model, kept, held),
            rmse_biases=measure(complete_by_biases(kept, setting.shrink), kept, held),
            rmse_mean=rmse(np.full(len(held), kept.values.mean()), held.values),
            cold_users=int((rows[held.rows] == 0).sum()),
            cold_items=int((columns[held.columns] == 0).sum()),
        )
    counts = np.bincount(entries.rows, minlength=entries.shape[0])
    return Recommender(
        setting.complete(entries, seed), setting, measured, ratings.user_ids, ratings.item_ids,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), entries.columns.astype(np.int64),
        float(entries.values.min()), float(entries.values.max()), tuple(notes),
    )  # fmt: skip


def _check(method: str, rank: int | None, holdout: float) -> None:
    if method not in ("auto", *METHODS):
        raise UsageError(f"method={method!r}", f"expected auto, {', '.join(METHODS)}")
    if rank is not None and rank < 1:
        raise UsageError(f"rank={rank}", "expected 1 or more", "For rank 0 ask for method biases")
    if not 0 <= holdout < 1:
        raise UsageError(f"holdout={holdout:g}", "expected 0 or more and less than 1", "For example 0.2")
