"""Centring of rows without loss of digits, and centred rows that arrive in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eckart.arrays import Array, Floats
from eckart.linalg.backend import row_blocks


def centre(X: Array) -> tuple[Floats, Floats, Array]:
    """Subtract the mean of each column.

    Parameters
    ----------
    X : ndarray (n, d)
        float32 or float64, n at least 1.

    Returns
    -------
    origin, offset : ndarray (d,), float64
        The mean in two parts: the rounded mean, and the mean of the rows minus that.
    centred : ndarray (n, d)
        X minus both, in the dtype of X.

    Notes
    -----
    A mean of size 1e8 is rounded by 1e-8, in float32 by 4. Subtracting it leaves this rounding in every row,
    and n times its square in the variance. Hence the subtraction in float64 and the second mean, of the
    differences (Chan, Golub and LeVeque, 1983). A column whose entries are all equal has exactly zero
    variance, not that of the rounding of its sum.

    Examples
    --------
    >>> origin, offset, rest = centre(np.array([[1e16, 0.1], [1e16 + 2, 0.1], [1e16 + 4, 0.1]]))
    >>> rest.tolist()
    [[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    """
    origin = X.mean(axis=0, dtype=np.float64)
    same = X.min(axis=0) == X.max(axis=0)
    origin[same] = X[0, same]
    rest = subtract_mean(X, origin)
    offset = rest.mean(axis=0, dtype=np.float64)
    np.subtract(rest, offset, out=rest, casting="same_kind")
    return origin, offset, rest


def subtract_mean(X: Array, mean: Floats) -> Array:
    """Subtract a mean from each row, in float64.

    Parameters
    ----------
    X : ndarray (n, d)
    mean : ndarray (d,), float64

    Returns
    -------
    ndarray (n, d)
        In the dtype of X.
    """
    rest = np.empty_like(X)
    for rows in row_blocks(*X.shape):
        np.subtract(X[rows], mean, out=rest[rows], casting="same_kind")
    return rest


@dataclass(frozen=True, eq=False)
class CentredBlock:
    """A set of rows, reduced to their number, their mean, and R with R^T R = (X - mean)^T (X - mean).

    Parameters
    ----------
    count : int
        Number of rows.
    origin, offset : ndarray (d,), float64
        Mean of the rows in two parts: see `centre`.
    R : ndarray (r, d), float64
        r <= min(count, d). Its singular values and right singular vectors are those of the centred rows.

    Notes
    -----
    ``a + b`` joins two sets of rows: the rows of both R, and one more row for the distance between
    the two means, sqrt(n m / (n + m)) (mean_a - mean_b), are reduced by QR to a new triangle. This
    is exact: nothing is truncated, and the order of the blocks affects only rounding, so blocks can be
    summed on several machines. Cost of a block of n rows: 2 n d^2 flops; memory: d^2 numbers for any
    number of rows.

    References
    ----------
    Ross, Lim, Lin and Yang (2008), Incremental learning for robust visual tracking, lemma 1 and
    figure 1. Chan, Golub and LeVeque (1983) for the mean.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((100, 3)) + 5
    >>> both = CentredBlock.of(X[:30]) + CentredBlock.of(X[30:])
    >>> both.count, np.allclose(both.mean, X.mean(axis=0))
    (100, True)
    >>> np.allclose(both.R.T @ both.R, 99 * np.cov(X.T))
    True
    """

    count: int
    origin: Floats
    offset: Floats
    R: Floats

    @classmethod
    def of(cls, X: Array) -> CentredBlock:
        """Reduce a block of rows.

        Parameters
        ----------
        X : ndarray (n, d)
            Finite, n at least 1.

        Returns
        -------
        CentredBlock
        """
        origin, offset, rest = centre(X.astype(np.float64, copy=False))
        return cls(len(X), origin, offset, _triangle(rest))

    @property
    def mean(self) -> Floats:
        """Mean of the rows, ndarray (d,)."""
        return self.origin + self.offset

    def __add__(self, other: CentredBlock) -> CentredBlock:
        count = self.count + other.count
        share = other.count / count
        distance = (other.origin - self.origin) + (other.offset - self.offset)
        R = _triangle(np.concatenate([self.R, other.R, np.sqrt(self.count * share) * distance[None]]))
        return CentredBlock(count, self.origin, self.offset + share * distance, R)


def _triangle(rows: Floats) -> Floats:
    """Reduce rows to at most as many as there are columns, by QR."""
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))
