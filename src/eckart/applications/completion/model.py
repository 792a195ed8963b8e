"""The model that every completion method returns: a mean, biases and low-rank factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.entries import Entries, inner
from eckart.arrays import Array, Floats

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Completion:
    """A completed matrix: entry (i, j) is mean + row_bias_i + column_bias_j + P_i . Q_j.

    Parameters
    ----------
    mean : float
        Mean of the known entries.
    row_bias : ndarray (m,) of float32
        Deviation of each row from the mean.
    column_bias : ndarray (n,) of float32
        Deviation of each column from the mean.
    P : ndarray (m, r) of float32
        Row factors.
    Q : ndarray (n, r) of float32
        Column factors.

    Notes
    -----
    The bias and the factors of a row or column without known entries are zero. Its predictions therefore
    fall back to the mean plus the other bias, or to the mean.
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
        """Return the predictions at given positions.

        Parameters
        ----------
        rows, columns : ndarray (N,) of int
            The positions.

        Returns
        -------
        ndarray (N,) of float64
            One prediction for each position.
        """
        biases = self.row_bias[rows].astype(np.float64) + self.column_bias[columns]
        return self.mean + biases + inner(self.P, self.Q, rows, columns)

    def row(self, i: int) -> Floats:
        """Return the predictions for a whole row, (n,).

        Parameters
        ----------
        i : int
            Index of the row.
        """
        biases = float(self.row_bias[i]) + self.column_bias.astype(np.float64)
        products = self.Q.astype(np.float64) @ self.P[i].astype(np.float64)
        return np.asarray(self.mean + biases + products)


def completion(mean: float, scale: float, b: Array, c: Array, P: Array, Q: Array) -> Completion:
    """Return the model of a matrix that was standardised before it was fitted.

    Parameters
    ----------
    mean, scale : float
        Mean and standard deviation of the known entries, from `standardise`.
    b, c : ndarray (m,) and (n,)
        Row and column biases of the standardised matrix.
    P, Q : ndarray (m, r) and (n, r)
        Row and column factors of the standardised matrix.

    Returns
    -------
    Completion
        The model mean + scale (b_i + c_j + P_i . Q_j), with the scale shared evenly between P and Q.
    """
    root = np.sqrt(scale)
    return Completion(
        mean,
        (scale * b).astype(np.float32),
        (scale * c).astype(np.float32),
        (root * P).astype(np.float32),
        (root * Q).astype(np.float32),
    )


def standardise(entries: Entries) -> tuple[float, float, Entries]:
    """Shift and scale the values to mean 0 and standard deviation 1.

    After this, a regularisation strength means the same for stars from 1 to 5 and for scores up to 100.

    Parameters
    ----------
    entries : Entries
        The known entries.

    Returns
    -------
    mean, scale : float
        Mean and standard deviation of the values. The scale is 1 if all values are equal.
    standard : Entries
        The standardised entries.
    """
    if not len(entries):
        return 0.0, 1.0, entries
    mean, scale = float(entries.values.mean()), float(entries.values.std())
    # The deviation of equal numbers is rounding error, which must not be scaled up to 1.
    scale = scale if scale > 1e-12 * max(abs(mean), 1e-300) else 1.0
    return mean, scale, entries.with_values((entries.values - mean) / scale)


def rmse(predicted: Floats, values: Floats) -> float:
    """Return the root mean squared error of predictions.

    Parameters
    ----------
    predicted, values : ndarray (N,) of float64
        Predictions and true values.

    Returns
    -------
    float
        The error in the unit of the values.
    """
    return float(np.sqrt(np.mean((predicted - values) ** 2)))
