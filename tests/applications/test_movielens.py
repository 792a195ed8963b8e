"""The bar on MovieLens-100k, for those who have it: its licence lets nobody pass it on, us included."""

from __future__ import annotations

import os

import pytest

from eckart.applications.ratings import read_ratings
from eckart.applications.recommender import fit

PLACE = os.environ.get("ECKART_MOVIELENS_100K")


@pytest.mark.skipif(not PLACE, reason="ECKART_MOVIELENS_100K does not name the folder ml-100k")
def test_movielens_100k():
    ratings = read_ratings(str(PLACE))
    assert len(ratings) == 100_000 and ratings.shape == (943, 1682)
    found = fit(ratings, seed=0, holdout=0.2)
    assert found.measured.ratings == 20_000
    assert found.rmse <= 0.92
