"""Biases without factors: the part of a rating that does not depend on who rates which item."""

from __future__ import annotations

import numpy as np

from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import Completion, completion, standardise
from eckart.arrays import Floats

TOLERANCE = 1e-6  # relative residual of the normal equations
MAX_ITERATIONS = 200  # more than was needed in any measurement


def fit_biases(entries: Entries, shrink: float) -> tuple[Floats, Floats]:
    """Return the biases b and c that minimise sum (x_ij - b_i - c_j)^2 + shrink (|b|^2 + |c|^2).

    Parameters
    ----------
    entries : Entries
        Values with a mean near 0 and a standard deviation near 1.
    shrink : float
        Positive regularisation strength. It acts like `shrink` additional ratings of mean value in every row
        and column, so the biases of rows with few ratings stay near zero.

    Returns
    -------
    b : ndarray (m,)
        Row biases.
    c : ndarray (n,)
        Column biases.

    Notes
    -----
    The normal equations are solved by conjugate gradients with diagonal preconditioning: about ten
    iterations of 4 N flops. Alternating between rows and columns needs over a hundred iterations for a
    million ratings, because a constant added to all rows and subtracted from all columns is damped by
    `shrink` alone. The objective is that of Koren (2010, section 2.1).

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
        rtol=TOLERANCE,
        maxiter=MAX_ITERATIONS,
        M=LinearOperator(square, lambda x: x / diagonal, dtype=np.float64),
    )
    return x[:m], x[m:]


def complete_by_biases(entries: Entries, shrink: float) -> Completion:
    """Complete a matrix by its mean and biases, without factors.

    Parameters
    ----------
    entries : Entries
        The known entries.
    shrink : float
        Regularisation strength of the biases; see `fit_biases`.

    Returns
    -------
    Completion
        A model of rank 0.
    """
    mean, scale, standard = standardise(entries)
    b, c = fit_biases(standard, shrink)
    m, n = entries.shape
    return completion(mean, scale, b, c, np.zeros((m, 0)), np.zeros((n, 0)))
