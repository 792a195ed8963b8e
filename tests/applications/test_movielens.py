"""The target error on MovieLens-100k, for users who have the data; its licence forbids redistribution."""

from __future__ import annotations

import os

import pytest

from eckart.applications.ratings import read_ratings
from eckart.applications.recommender import fit

FOLDER = os.environ.get("ECKART_MOVIELENS_100K")


@pytest.mark.skipif(not FOLDER, reason="ECKART_MOVIELENS_100K is not set to the folder ml-100k")
def test_error_on_movielens_100k_reaches_the_target():
    ratings = read_ratings(str(FOLDER))
    assert len(ratings) == 100_000 and ratings.shape == (943, 1682)
    recommender = fit(ratings, seed=0, holdout=0.2)
    assert recommender.measured.ratings == 20_000
    assert recommender.rmse <= 0.92
