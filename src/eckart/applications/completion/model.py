"""What every method here ends in: a mean, biases, and low-rank factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.entries import Entries, Floats, inner

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Completion:
    """mean + row_bias_i + column_bias_j + P_i . Q_j for every entry (i, j) of a matrix.

    Parameters
    ----------
    mean : float
    row_bias : ndarray (m,) of float32
    column_bias : ndarray (n,) of float32
    P : ndarray (m, r) of float32
    Q : ndarray (n, r) of float32

    Notes
    -----
    A row or a column without a known entry has no bias and no factors, so that its prediction falls
    back by itself: to the other's bias, or to the mean.
    """

    mean: float
    row_bias: Singles
    column_bias: Singles
    P: Singles
    Q: Singles

    @property
    def rank(self) -> int:
        """Number of factors."""
        return int(self.P.shape[1])

    def at(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
        """Return the predictions at some entries, (N,)."""
        biases = self.row_bias[rows].astype(np.float64) + self.column_bias[columns]
        return self.mean + biases + inner(self.P, self.Q, rows, columns)

    def row(self, i: int) -> Floats:
        """Return the predictions for a whole row, (n,)."""
        biases = float(self.row_bias[i]) + self.column_bias.astype(np.float64)
        taste = self.Q.astype(np.float64) @ self.P[i].astype(np.float64)
        return np.asarray(self.mean + biases + taste)


def completion(
    mean: float, scale: float, b: NDArray[Any], c: NDArray[Any], P: NDArray[Any], Q: NDArray[Any]
) -> Completion:
    """Return mean + scale (b_i + c_j + P_i . Q_j), the scale shared evenly between P and Q."""
    root = np.sqrt(scale)
    return Completion(
        mean,
        (scale * b).astype(np.float32),
        (scale * c).astype(np.float32),
        (root * P).astype(np.float32),
        (root * Q).astype(np.float32),
    )


def standardise(entries: Entries) -> tuple[float, float, Entries]:
    """Return the mean, the standard deviation (1 if it is zero), and (values - mean) / deviation.

    After it a regularisation means the same for stars from 1 to 5 and for scores up to 100.
    """
    if not len(entries):
        return 0.0, 1.0, entries
    mean, scale = float(entries.values.mean()), float(entries.values.std())
    # Equal numbers leave a deviation of rounding, which must not be blown up to 1.
    scale = scale if scale > 1e-12 * max(abs(mean), 1e-300) else 1.0
    return mean, scale, entries.with_values((entries.values - mean) / scale)


def rmse(predicted: Floats, values: Floats) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((predicted - values) ** 2)))
