"""Simulated ratings with a known noise-free value, for examples and for measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eckart.applications.ratings import Ratings
from eckart.arrays import Floats
from eckart.errors import UsageError


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated ratings with their noise-free values.

    Parameters
    ----------
    ratings : Ratings
        The ratings with noise.
    truth : ndarray (n,) of float64
        The value of each rating before noise was added. The error of predicting it is the noise alone.
    """

    ratings: Ratings
    truth: Floats


def simulate_ratings(
    users: int = 943,
    items: int = 1682,
    ratings: int = 100_000,
    rank: int = 8,
    noise: float = 0.85,
    taste: float = 0.5,
    seed: int = 0,
) -> Simulated:
    """Simulate ratings 3.5 + b_u + c_i + p_u . q_i + noise, which are missing not at random.

    Parameters
    ----------
    users, items, ratings : int
        Numbers of users, items and ratings. The defaults are those of MovieLens-100k.
    rank : int
        Number of components of p . q. The standard deviation of component k decreases as 1/sqrt(k).
    noise, taste : float
        Standard deviations of the noise and of p . q, in stars. Those of the biases b and c are 0.45 and 0.5.
    seed : int
        Random seed.

    Returns
    -------
    Simulated
        The ratings and their noise-free values.

    Raises
    ------
    UsageError
        If `ratings` is less than 1 or exceeds the number of pairs.

    Notes
    -----
    Which pairs are rated depends on every part of a rating except the noise. Users differ in how much they
    rate (log-normal with deviation 1), and items in how well they are known (deviation 1.3). Good items are
    better known, and users tend to rate items they like. Some users and items get no rating. The function
    needs memory for users x items numbers.

    Examples
    --------
    >>> simulated = simulate_ratings(users=20, items=30, ratings=100)
    >>> len(simulated.ratings)
    100
    """
    if not 0 < ratings <= users * items:
        raise UsageError(f"ratings={ratings}", f"expected 1 to {users * items} ratings (users times items)")
    random = np.random.default_rng(seed)
    b, c = 0.45 * random.standard_normal(users), 0.5 * random.standard_normal(items)
    spread = np.arange(1, rank + 1) ** -0.5
    # Both sides get the square root, so that the deviation of p . q is `taste`.
    weights = np.sqrt(taste * spread / np.linalg.norm(spread))
    P = random.standard_normal((users, rank)) * weights
    Q = random.standard_normal((items, rank)) * weights
    liking = P @ Q.T
    activity = random.standard_normal(users)
    popularity = 1.3 * random.standard_normal(items) + 1.6 * c
    # The largest log-weights after adding Gumbel noise are a weighted sample without replacement.
    keys = activity[:, None] + popularity + 0.6 * liking + random.gumbel(size=(users, items))
    # Sorted first, because the order that argpartition returns depends on the processor.
    chosen = random.permutation(np.sort(np.argpartition(-keys.ravel(), ratings - 1)[:ratings]))
    u, i = np.divmod(chosen, items)
    truth = 3.5 + b[u] + c[i] + liking[u, i]
    values = truth + noise * random.standard_normal(ratings)
    return Simulated(Ratings.of(u.tolist(), i.tolist(), values.tolist()), truth)
