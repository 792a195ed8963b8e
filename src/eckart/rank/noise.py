"""The noise floor: the largest singular value that rounding alone can cause."""

from __future__ import annotations

import numpy as np

from eckart.arrays import Floats


def noise_edge(row_variance: Floats, column_variance: Floats) -> float:
    """Return the largest singular value that independent rounding errors can be expected to have.

    Parameters
    ----------
    row_variance : ndarray (m,), float64
        Sum over each row of the variances of its entries' rounding errors.
    column_variance : ndarray (n,), float64
        The same sums over each column.

    Returns
    -------
    float
        sqrt(max row sum) + sqrt(max column sum), in the units of the matrix; 0 for an empty matrix.

    Notes
    -----
    For errors of one variance v this is sqrt(v) (sqrt(m) + sqrt(n)), the Marchenko-Pastur edge, to
    which the largest singular value of pure noise converges. For unequal variances it bounds the
    expected norm up to lower-order terms (Bandeira and van Handel, 2016, Theorem 1.1, with the
    factor 1 + epsilon left out). A component below it cannot be distinguished from rounding. A
    component just above it can be detected, but its vectors are still noisy: for a square matrix,
    keeping it reduces the error only above 4 / sqrt(3) in units where the edge is 2 (Gavish and
    Donoho, 2014).

    Examples
    --------
    >>> noise_edge(np.full(100, 4.0), np.full(400, 1.0))
    3.0
    """
    if not len(row_variance) or not len(column_variance):
        return 0.0
    return float(np.sqrt(row_variance.max()) + np.sqrt(column_variance.max()))
