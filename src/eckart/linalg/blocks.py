"""Rows that arrive in blocks, centred exactly without being kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.linalg.backend import Floats


@dataclass(frozen=True, eq=False)
class CentredBlock:
    """Rows seen so far: their number, their mean, and a triangle R with R^T R = (X - mean)^T (X - mean).

    Parameters
    ----------
    count : int
        Number of rows.
    mean : ndarray (d,), float64
    R : ndarray (r, d), float64
        r <= min(count, d). Singular values and right singular vectors of R are those of the centred rows.

    Notes
    -----
    ``a + b`` joins two sets of rows: the rows of both triangles, and one more row for the distance of
    the two means, sqrt(n m / (n + m)) (mean_a - mean_b), are reduced by QR to a new triangle. This
    is exact: nothing is cut off, and nothing depends on the order but rounding, so that blocks can be summed
    on several machines. Cost of a block of n rows: 2 n d^2 flops; memory: d^2 numbers, whatever the
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
    mean: Floats
    R: Floats

    @classmethod
    def of(cls, X: NDArray[Any]) -> CentredBlock:
        """Reduce a block of rows (n, d), finite and not empty."""
        mean = X.mean(axis=0, dtype=np.float64)
        return cls(len(X), mean, _triangle(X - mean))

    def __add__(self, other: CentredBlock) -> CentredBlock:
        count = self.count + other.count
        share = other.count / count
        between = np.sqrt(self.count * share) * (self.mean - other.mean)
        R = _triangle(np.concatenate([self.R, other.R, between[None]]))
        return CentredBlock(count, self.mean + share * (other.mean - self.mean), R)


def _triangle(rows: NDArray[Any]) -> Floats:
    return np.asarray(np.linalg.qr(rows, mode="r"), np.float64)
