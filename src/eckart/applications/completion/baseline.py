"""Biases alone: what is left of a rating when nobody's taste is known."""

from __future__ import annotations

import numpy as np

from eckart.applications.completion.entries import Entries, Floats
from eckart.applications.completion.model import Completion, completion, standardise

SETTLED = 1e-6  # the relative residual of the normal equations
MOST = 200  # iterations, should it not settle before: more than were ever seen


def fit_biases(entries: Entries, shrink: float) -> tuple[Floats, Floats]:
    """Return b (m,) and c (n,) that minimise sum (x_ij - b_i - c_j)^2 + shrink (|b|^2 + |c|^2).

    Parameters
    ----------
    entries : Entries
        About mean 0 and of deviation 1, or near it.
    shrink : float
        Over 0. As many ratings at the mean as are added to every row and column: who has rated little is
        believed little.

    Notes
    -----
    Conjugate gradients on the normal equations, divided by their diagonal: 4 N flops an iteration, some ten
    of them. Going to and fro between rows and columns takes over a hundred for a million ratings, because
    what is added to all rows and taken from all columns is held back by ``shrink`` alone. Koren (2010,
    section 2.1) has the objective.

    Examples
    --------
    >>> import numpy as np
    >>> e = Entries.of(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 3.0, -1.0]), (2, 2))
    >>> b, c = fit_biases(e, shrink=1e-9)
    >>> np.round(b[e.rows] + c[e.columns], 2)
    array([ 1.,  3., -1.])
    """
    from scipy.sparse.linalg import LinearOperator, cg

    m, n = entries.shape
    known = entries.with_values(np.ones(len(entries))).matrix()
    transpose = known.T.tocsr()
    diagonal = np.concatenate(entries.counts()) + shrink
    sums = [np.bincount(entries.rows, entries.values, m), np.bincount(entries.columns, entries.values, n)]

    def normal(x: Floats) -> Floats:
        return np.asarray(diagonal * x + np.concatenate([known @ x[m:], transpose @ x[:m]]))

    square = (m + n, m + n)
    x, _ = cg(
        LinearOperator(square, normal, dtype=np.float64),
        np.concatenate(sums),
        rtol=SETTLED,
        maxiter=MOST,
        M=LinearOperator(square, lambda x: x / diagonal, dtype=np.float64),
    )
    return x[:m], x[m:]


def complete_by_biases(entries: Entries, shrink: float) -> Completion:
    """Complete a matrix by its mean and biases, rank 0."""
    mean, scale, standard = standardise(entries)
    b, c = fit_biases(standard, shrink)
    m, n = entries.shape
    return completion(mean, scale, b, c, np.zeros((m, 0)), np.zeros((n, 0)))
