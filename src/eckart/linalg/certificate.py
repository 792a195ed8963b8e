"""Bounds that prove a rank: how small the least rank that reaches a goal could be."""

from __future__ import annotations

import numpy as np

from eckart.linalg.goal import Goal
from eckart.linalg.spectrum import Spectrum


def rank_bounds(spectrum: Spectrum, goal: Goal, exact: bool) -> tuple[int, int] | None:
    """Bound the least rank that reaches a goal, from the singular values found in a subspace.

    Parameters
    ----------
    spectrum : Spectrum
        Either the true singular values (``exact``), or those of U^T A for an orthonormal U, with
        ``tail`` = ||A||_F^2 - ||U^T A||_F^2.
    goal : Goal
        For a goal of kind ``rank``, the bounds are those of the least rank that keeps the same energy.
    exact : bool
        Whether the values are those of A itself; both bounds are then equal.

    Returns
    -------
    (lo, hi) : tuple of int, or None
        None if the values do not reach the goal.

    Notes
    -----
    Let s_i be the singular values of U^T A and R = A - U U^T A.

    * hi: s_i <= sigma_i (Cauchy interlacing), so a prefix of s that reaches the target proves that
      its length is sufficient; factors of that rank are already computed.
    * lo: A^T A = (U^T A)^T (U^T A) + R^T R, and by Ky Fan's inequality
      sum_{i<=k} sigma_i^2 <= sum_{i<=k} s_i^2 + ||R||_F^2. Every k below the first that reaches the
      target with this surplus is too small.
    * For a threshold on sigma itself the roles are exchanged: interlacing proves that at least lo
      values are above it, and sigma_i^2 <= s_i^2 + ||R||_F^2 (Weyl) that at most hi can be.

    Examples
    --------
    >>> rank_bounds(Spectrum([3.0, 2.0, 1.0]), Goal("energy", 0.9), exact=True)
    (2, 2)
    >>> rank_bounds(Spectrum([3.0, 2.0], tail=1.0, size=9), Goal("energy", 0.9), exact=False)
    (2, 2)
    """
    hi = spectrum.rank_for(goal)
    if hi is None:
        return None
    if exact:
        return hi, hi
    if goal.kind in ("ratio", "above"):
        first = float(spectrum.values[0]) if len(spectrum) else 0.0
        raised = np.sqrt(spectrum.values**2 + spectrum.tail)
        low_bar = high_bar = goal.value
        if goal.kind == "ratio":  # only bounds on sigma_1 are known
            low_bar = first / goal.value
            high_bar = float(np.sqrt(first**2 + spectrum.tail)) / goal.value
        lo = int(np.count_nonzero(spectrum.values > high_bar))
        most = int(np.count_nonzero(raised > low_bar))
        return lo, spectrum.size if np.sqrt(spectrum.tail) > low_bar else max(most, hi)
    squares = np.concatenate([spectrum.values**2, [0.0]])
    beyond = np.cumsum(squares[::-1])[::-1]  # what a rank leaves out, if it kept all of the tail
    allowed = goal.allowed_loss
    loss = spectrum.tails[hi] if allowed is None else allowed * spectrum.tails[0]
    lo = int(np.argmax(beyond <= loss))
    return min(max(lo, 1), hi), hi  # a nonzero matrix has rank at least 1
