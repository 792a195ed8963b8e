"""Made-up ratings whose truth is known, for those who have none at hand and for measuring against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eckart.applications.ratings import Ratings
from eckart.errors import UsageError


@dataclass(frozen=True, eq=False)
class Simulated:
    """Ratings, and what they would be without noise.

    Parameters
    ----------
    ratings : Ratings
    truth : ndarray (n,) of float64
        For each rating its value before the noise. Predicting it would leave the noise and nothing else.
    """

    ratings: Ratings
    truth: NDArray[np.float64]


def simulate_ratings(
    users: int = 943,
    items: int = 1682,
    ratings: int = 100_000,
    rank: int = 8,
    noise: float = 0.85,
    taste: float = 0.5,
    seed: int = 0,
) -> Simulated:
    """Draw ratings 3.5 + b_u + c_i + p_u . q_i + noise, missing not at random.

    Parameters
    ----------
    users, items, ratings : int
        The defaults are those of MovieLens-100k.
    rank : int
        Of p . q; the deviation of component k falls as 1/sqrt(k).
    noise, taste : float
        Standard deviations of the noise and of p . q, in stars. Those of the biases are 0.45 and 0.5.
    seed : int

    Notes
    -----
    Who rates what depends on all that a rating is made of but the noise: users differ in how much they rate
    (log-normal, deviation 1) and items in how well known they are (deviation 1.3); good items are better
    known, and people choose what is to their taste. Some users and items get no rating at all. Takes memory
    for users x items numbers.

    Examples
    --------
    >>> made = simulate_ratings(users=20, items=30, ratings=100)
    >>> len(made.ratings)
    100
    """
    if not 0 < ratings <= users * items:
        raise UsageError(f"ratings={ratings}", f"expected 1 to {users * items}, users times items")
    random = np.random.default_rng(seed)
    b, c = 0.45 * random.standard_normal(users), 0.5 * random.standard_normal(items)
    spread = np.arange(1, rank + 1) ** -0.5
    weights = np.sqrt(taste * spread / np.linalg.norm(spread))  # on either side, so that p . q has `taste`
    P = random.standard_normal((users, rank)) * weights
    Q = random.standard_normal((items, rank)) * weights
    liking = P @ Q.T
    active = random.standard_normal(users)
    known = 1.3 * random.standard_normal(items) + 1.6 * c
    # Gumbel noise on log-weights and the largest N of them: N draws without replacement.
    keys = active[:, None] + known + 0.6 * liking + random.gumbel(size=(users, items))
    # Sorted, since the order in which argpartition leaves them is the processor's.
    chosen = random.permutation(np.sort(np.argpartition(-keys.ravel(), ratings - 1)[:ratings]))
    u, i = np.divmod(chosen, items)
    truth = 3.5 + b[u] + c[i] + liking[u, i]
    values = truth + noise * random.standard_normal(ratings)
    return Simulated(Ratings.of(u.tolist(), i.tolist(), values.tolist()), truth)
