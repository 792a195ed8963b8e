"""The noise floor: how large a singular value rounding alone can make."""

from __future__ import annotations

import numpy as np

from eckart.arrays import Floats


def noise_edge(row_variance: Floats, column_variance: Floats) -> float:
    """Return the largest singular value that independent rounding errors can be expected to have.

    Parameters
    ----------
    row_variance : ndarray (m,), float64
        Sum over each row of the variances of its entries' errors.
    column_variance : ndarray (n,), float64
        The same over each column.

    Returns
    -------
    float
        sqrt(max row sum) + sqrt(max column sum).

    Notes
    -----
    For errors of one variance v this is sqrt(v) (sqrt(m) + sqrt(n)), the Marchenko-Pastur edge, to
    which the largest singular value of pure noise converges. For unequal variances it bounds the
    expected norm up to lower-order terms (Bandeira and van Handel, 2016, Theorem 1.1, with the
    factor 1 + epsilon left out). A component under it cannot be told from rounding; one just
    above it can be seen, but its vectors are still noisy (Gavish and Donoho, 2014, put the rank at
    which keeping it pays at 4 / sqrt(3) against 2 for a square matrix).

    Examples
    --------
    >>> noise_edge(np.full(100, 4.0), np.full(400, 1.0))
    3.0
    """
    if not len(row_variance) or not len(column_variance):
        return 0.0
    return float(np.sqrt(row_variance.max()) + np.sqrt(column_variance.max()))
