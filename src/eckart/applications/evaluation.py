"""The error of a recommender on held-out ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eckart.applications.completion.baseline import complete_by_biases
from eckart.applications.completion.choose import Setting, measure
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import rmse


@dataclass(frozen=True)
class Measured:
    """Root mean squared errors on ratings that were used neither for fitting nor for choosing a setting.

    Parameters
    ----------
    ratings : int
        Number of held-out ratings.
    share, seed : float and int
        Share of the ratings that is held out, and the random seed that selects them.
    rmse : float
        Error of the chosen setting, fitted to the other ratings.
    rmse_biases, rmse_mean : float
        Errors of biases without factors, and of the mean of the other ratings, for comparison.
    cold_users, cold_items : int
        Number of held-out ratings whose user, or whose item, has no other rating (cold starts).
    """

    ratings: int
    share: float
    seed: int
    rmse: float
    rmse_biases: float
    rmse_mean: float
    cold_users: int
    cold_items: int


def evaluate(setting: Setting, kept: Entries, held_out: Entries, share: float, seed: int) -> Measured:
    """Fit a setting to some ratings and measure its error on others.

    Parameters
    ----------
    setting : Setting
        The method and its parameters.
    kept, held_out : Entries
        The ratings to fit, and the ratings to measure on.
    share : float
        The share of ratings that was held out, which is reported in the result.
    seed : int
        Random seed of the fit, and of the split, which is reported in the result.

    Returns
    -------
    Measured
        The error of the setting, and those of simpler models for comparison.
    """
    model = setting.complete(kept, seed)
    in_row, in_column = kept.counts()
    return Measured(
        ratings=len(held_out),
        share=share,
        seed=seed,
        rmse=measure(model, kept, held_out),
        rmse_biases=measure(complete_by_biases(kept, setting.shrink), kept, held_out),
        rmse_mean=rmse(np.full(len(held_out), kept.values.mean()), held_out.values),
        cold_users=int((in_row[held_out.rows] == 0).sum()),
        cold_items=int((in_column[held_out.columns] == 0).sum()),
    )
