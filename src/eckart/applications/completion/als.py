"""Alternating least squares with biases: a ridge regression for each row, then for each column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.baseline import complete_by_biases, fit_biases
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import Completion, Singles, completion, standardise
from eckart.applications.completion.operator import SparsePlusLowRank, leading_triplets
from eckart.arrays import Floats

PADDING = 1.3  # rows whose counts differ by less than this factor are solved together, padded to one length
GATHERED = 1 << 17  # entries gathered at a time: with 20 factors, 12 MB
MAX_SWEEPS = 50
# Columns of the array of one side: its own bias, then ones that multiply the other side's bias, then factors.
OWN, ONE = 0, 1


@dataclass(frozen=True, eq=False)
class Group:
    """Rows with similar numbers of entries, as rectangular arrays: b rows, padded to w entries.

    Parameters
    ----------
    rows : ndarray (b,)
        Indices of the rows.
    columns : ndarray (b, w)
        Columns of the entries. Padding is n, the index of a row of zeros on the other side.
    values : ndarray (b, w) of float32
        Values of the entries. Padding is 0.
    counts : ndarray (b,) of float64
        Number of entries in each row.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Singles
    counts: Floats


def complete_by_als(
    entries: Entries,
    rank: int,
    regularisation: float,
    exponent: float,
    shrink: float,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> Completion:
    """Minimise sum (x_ij - b_i - c_j - p_i . q_j)^2 + penalties over the known entries.

    Parameters
    ----------
    entries : Entries
        The known entries.
    rank : int
        Number of factors.
    regularisation, exponent : float
        The penalty on |p_i|^2 is regularisation * N_i^exponent * mean(N)^(1 - exponent) for a row with N_i
        entries. Columns are treated alike. Exponent 1 gives the weighted lambda of Zhou et al., exponent 0 a
        plain ridge regression.
    shrink : float
        The penalty on b_i^2 and c_j^2, as in `fit_biases`.
    seed : int
        Random seed of the sketch that gives the initial factors.
    tolerance : float
        The iteration stops after a sweep that lowers the objective by less than this share of it, or after
        50 sweeps.

    Returns
    -------
    Completion
        The fitted model.

    Notes
    -----
    Values are standardised first, so `regularisation` has no unit; values from 0.02 to 0.3 suit ratings.
    A bias is one more coefficient of each regression, with its own penalty. The initial factors are the
    leading singular triplets, found by Eckart's block Krylov route, of the residual that the biases leave,
    with zeros for unknown entries. With them, three to five sweeps suffice; random factors need ten. A sweep
    costs 2 N (r + 2)^2 + 2/3 (m + n)(r + 1)^3 flops and is done in groups of rows with similar numbers of
    entries. Every half sweep lowers the objective, and the iteration ends near a local minimum. Products are
    formed in float32, and equations are solved in float64.

    References
    ----------
    Zhou, Wilkinson, Schreiber and Pan (2008), AAIM, section 3. Koren, Bell and Volinsky (2009), Computer
    42(8), for the biases.
    """
    if not min(rank, len(entries)):
        return complete_by_biases(entries, shrink)
    mean, scale, standard = standardise(entries)
    (m, n), size = entries.shape, len(entries)
    P, Q = _initial_factors(standard, rank, shrink, seed)
    by_row, by_column = list(groups(standard)), list(groups(standard.T))
    for_rows = Ridge(regularisation * (size / m) ** (1 - exponent), exponent, shrink)
    for_columns = Ridge(regularisation * (size / n) ** (1 - exponent), exponent, shrink)
    previous = np.inf
    for _ in range(MAX_SWEEPS):
        _, penalty = _solve(by_row, Q, P, for_rows)
        fit, _ = _solve(by_column, P, Q, for_columns)
        objective = fit + penalty
        if previous - objective <= tolerance * objective:
            break
        previous = objective
    return completion(mean, scale, P[:m, OWN], Q[:n, OWN], P[:m, 2:], Q[:n, 2:])


@dataclass(frozen=True)
class Ridge:
    """The penalty of one side: strength * N_i^exponent on the factors and shrink on the bias.

    Parameters
    ----------
    strength, exponent, shrink : float
        The three numbers of the formula, where N_i is the number of entries in row i.
    """

    strength: float
    exponent: float
    shrink: float

    def diagonal(self, counts: Floats, rank: int) -> Floats:
        """Return the penalties of some rows, (b, 1 + rank). The penalty of the bias comes first.

        Parameters
        ----------
        counts : ndarray (b,) of float64
            Number of entries in each row.
        rank : int
            Number of factors.
        """
        D = np.repeat((self.strength * counts**self.exponent)[:, None], 1 + rank, axis=1)
        D[:, 0] = self.shrink
        return D


def groups(entries: Entries) -> Iterator[Group]:
    """Group the rows by their number of entries. Rows without entries are in no group.

    Parameters
    ----------
    entries : Entries
        The known entries.

    Yields
    ------
    Group
    """
    n = entries.shape[1]
    counts = np.bincount(entries.rows, minlength=entries.shape[0])
    starts = np.cumsum(counts) - counts
    values = entries.values.astype(np.float32)
    by_count = np.argsort(counts, kind="stable")
    begin = int(np.count_nonzero(counts == 0))
    while begin < len(by_count):
        least = int(counts[by_count[begin]])
        end = int(np.searchsorted(counts[by_count], max(int(PADDING * least), least + 4), side="right"))
        end = min(end, begin + max(1, GATHERED // int(counts[by_count[end - 1]])))
        rows = by_count[begin:end]
        width = int(counts[rows[-1]])
        is_entry = np.arange(width) < counts[rows][:, None]  # (b, w)
        positions = (starts[rows][:, None] + np.arange(width))[is_entry]
        columns = np.full(is_entry.shape, n, np.intp)
        padded = np.zeros(is_entry.shape, np.float32)
        columns[is_entry], padded[is_entry] = entries.columns[positions], values[positions]
        yield Group(rows, columns, padded, counts[rows].astype(np.float64))
        begin = end


def _initial_factors(standard: Entries, rank: int, shrink: float, seed: int) -> tuple[Singles, Singles]:
    """Return the initial arrays of both sides: biases, ones and factors of the residual.

    The last row of each array is zero; padding points to it.
    """
    m, n = standard.shape
    b, c = fit_biases(standard, shrink)
    residual = standard.with_values(standard.values - b[standard.rows] - c[standard.columns])
    no_factors = np.zeros((m, 0)), np.zeros((n, 0))
    U, s, Vh = leading_triplets(SparsePlusLowRank(residual.matrix(), *no_factors), rank, seed)
    P = np.zeros((m + 1, len(s) + 2), np.float32)
    Q = np.zeros((n + 1, len(s) + 2), np.float32)
    for side, bias, vectors in ((P, b, U), (Q, c, np.asarray(Vh).T)):
        side[:-1, OWN], side[:-1, ONE], side[:-1, 2:] = bias, 1, vectors * np.sqrt(s)
    return P, Q


def _solve(grouped: list[Group], other: Singles, own: Singles, ridge: Ridge) -> tuple[float, float]:
    """Solve for one side in place, given the other side.

    Returns the squared residual plus the penalty of this side, and that penalty alone.
    """
    objective = penalty = 0.0
    rank = own.shape[1] - 2
    for group in grouped:
        Z = np.take(other, group.columns, axis=0)  # (b, w, 2 + r)
        np.subtract(group.values, Z[:, :, OWN], out=Z[:, :, OWN])  # the values less the other side's bias
        G = (Z.transpose(0, 2, 1) @ Z).astype(np.float64)  # (b, 2 + r, 2 + r)
        D = ridge.diagonal(group.counts, rank)  # (b, 1 + r)
        A, y = G[:, 1:, 1:], G[:, 1:, OWN]
        A[:, range(1 + rank), range(1 + rank)] += D
        x = np.linalg.solve(A, y[:, :, None])[:, :, 0]  # (b, 1 + r): the bias, then the factors
        own[group.rows, OWN], own[group.rows, 2:] = x[:, 0], x[:, 1:]
        objective += float(G[:, OWN, OWN].sum() - (x * y).sum())  # because x solves (G + D) x = y
        penalty += float((D * x**2).sum())
    return objective, penalty
