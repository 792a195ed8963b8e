"""Seeds of random numbers: the same seed and name give the same numbers in every process."""

from __future__ import annotations

from eckart.checks import check_whole_number


def seed_for(seed: int, name: str = "") -> list[int]:
    """Combine the user's seed with a tensor's name, to the same result in every process.

    Parameters
    ----------
    seed : int
        At least 0.
    name : str
        Empty for a matrix without a name.

    Returns
    -------
    list of int
        A seed for `numpy.random.default_rng`.

    Raises
    ------
    UsageError
        If the seed is not a whole number of at least 0.
    """
    return [check_whole_number(seed, f"seed={seed!r}"), *name.encode()]
