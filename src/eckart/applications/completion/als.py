"""Alternating least squares with biases: a ridge regression for each row, then for each column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.baseline import complete_by_biases, fit_biases
from eckart.applications.completion.entries import Entries, Floats
from eckart.applications.completion.model import Completion, Singles, completion, standardise
from eckart.applications.completion.operator import SparsePlusLowRank, leading_triplets

PAD = 1.3  # rows whose counts differ by less than this are solved together, the shorter ones padded
GATHERED = 1 << 17  # entries gathered at once: with 20 factors, 12 MB
MOST = 50  # sweeps, should the objective not settle before
OWN, ONE = 0, 1  # columns of a side's array: its bias; a one that takes up the other side's; then factors


@dataclass(frozen=True, eq=False)
class Group:
    """Rows with about as many entries each, as rectangular arrays: b rows, padded to w entries.

    Parameters
    ----------
    rows : ndarray (b,)
    columns : ndarray (b, w)
        Of the entries; n, a row of zeros on the other side, where a row has fewer.
    values : ndarray (b, w) of float32
    counts : ndarray (b,) of float64
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
    """Minimise sum (x_ij - b_i - c_j - p_i . q_j)^2 + penalties over the known entries, side by side.

    Parameters
    ----------
    entries : Entries
    rank : int
        Number of factors.
    regularisation, exponent : float
        The penalty on |p_i|^2 is regularisation * N_i^exponent * mean(N)^(1 - exponent), for a row of N_i
        entries, and alike for columns. Exponent 1 is Zhou's weighted-lambda; 0 a plain ridge.
    shrink : float
        The penalty on b_i^2 and c_j^2, as in `fit_biases`.
    seed : int
        Of the sketch that the first factors are cut from.
    tolerance : float
        A sweep that lowers the objective by less than this share of it is the last.

    Returns
    -------
    Completion

    Notes
    -----
    Values are standardised first, so that ``regularisation`` knows no unit: a few hundredths to some
    tenths suit ratings. A bias is one more coefficient of each regression, with its own penalty. The
    first factors are the leading triplets, by Eckart's block Krylov, of what biases leave, with zeros for
    what is not known: three to five sweeps are then enough, where random ones need ten. A sweep costs
    2 N (r + 2)^2 + 2/3 (m + n)(r + 1)^3 flops and is done in groups of rows with about as many entries.
    The objective falls with every half of a sweep, to a local minimum. Products are formed in float32,
    equations solved in float64.

    References
    ----------
    Zhou, Wilkinson, Schreiber and Pan (2008), AAIM, section 3. Koren, Bell and Volinsky (2009), Computer
    42(8), for the biases.
    """
    if not min(rank, len(entries)):
        return complete_by_biases(entries, shrink)
    mean, scale, standard = standardise(entries)
    (m, n), size = entries.shape, len(entries)
    P, Q = _start(standard, rank, shrink, seed)
    by_row, by_column = list(groups(standard)), list(groups(standard.T))
    for_rows = Ridge(regularisation * (size / m) ** (1 - exponent), exponent, shrink)
    for_columns = Ridge(regularisation * (size / n) ** (1 - exponent), exponent, shrink)
    before = np.inf
    for _ in range(MOST):
        _, penalty = _solve(by_row, Q, P, for_rows)
        fit, _ = _solve(by_column, P, Q, for_columns)
        objective = fit + penalty
        if before - objective <= tolerance * objective:
            break
        before = objective
    return completion(mean, scale, P[:m, OWN], Q[:n, OWN], P[:m, 2:], Q[:n, 2:])


@dataclass(frozen=True)
class Ridge:
    """The penalty of one side: strength * N_i^exponent on factors, shrink on the bias."""

    strength: float
    exponent: float
    shrink: float

    def diagonal(self, counts: Floats, rank: int) -> Floats:
        """Return the penalties of some rows, (b, 1 + rank): the bias's first."""
        D = np.repeat((self.strength * counts**self.exponent)[:, None], 1 + rank, axis=1)
        D[:, 0] = self.shrink
        return D


def groups(entries: Entries) -> Iterator[Group]:
    """Part the rows by how many entries they have; rows without any are in no group."""
    n = entries.shape[1]
    counts = np.bincount(entries.rows, minlength=entries.shape[0])
    starts = np.cumsum(counts) - counts
    values = entries.values.astype(np.float32)
    by_count = np.argsort(counts, kind="stable")
    at = int(np.count_nonzero(counts == 0))
    while at < len(by_count):
        least = int(counts[by_count[at]])
        end = int(np.searchsorted(counts[by_count], max(int(PAD * least), least + 4), side="right"))
        end = min(end, at + max(1, GATHERED // int(counts[by_count[end - 1]])))
        rows = by_count[at:end]
        width = int(counts[rows[-1]])
        real = np.arange(width) < counts[rows][:, None]  # (b, w)
        places = (starts[rows][:, None] + np.arange(width))[real]
        columns = np.full(real.shape, n, np.intp)
        padded = np.zeros(real.shape, np.float32)
        columns[real], padded[real] = entries.columns[places], values[places]
        yield Group(rows, columns, padded, counts[rows].astype(np.float64))
        at = end


def _start(standard: Entries, rank: int, shrink: float, seed: int) -> tuple[Singles, Singles]:
    """Return both sides' arrays: biases, ones, and the factors of what biases leave; the last row is zero."""
    m, n = standard.shape
    b, c = fit_biases(standard, shrink)
    rest = standard.with_values(standard.values - b[standard.rows] - c[standard.columns])
    nothing = np.zeros((m, 0)), np.zeros((n, 0))
    U, s, Vh = leading_triplets(SparsePlusLowRank(rest.matrix(), *nothing), rank, seed)
    P = np.zeros((m + 1, len(s) + 2), np.float32)  # what padding points to is the last row: it stays zero
    Q = np.zeros((n + 1, len(s) + 2), np.float32)
    for side, bias, vectors in ((P, b, U), (Q, c, np.asarray(Vh).T)):
        side[:-1, OWN], side[:-1, ONE], side[:-1, 2:] = bias, 1, vectors * np.sqrt(s)
    return P, Q


def _solve(grouped: list[Group], other: Singles, own: Singles, ridge: Ridge) -> tuple[float, float]:
    """Solve one side given the other, in place; return its misfit with its penalty, and its penalty alone."""
    misfit = penalty = 0.0
    rank = own.shape[1] - 2
    for group in grouped:
        Z = np.take(other, group.columns, axis=0)  # (b, w, 2 + r)
        np.subtract(group.values, Z[:, :, OWN], out=Z[:, :, OWN])  # what the other's bias leaves
        G = (Z.transpose(0, 2, 1) @ Z).astype(np.float64)  # (b, 2 + r, 2 + r)
        D = ridge.diagonal(group.counts, rank)  # (b, 1 + r)
        A, y = G[:, 1:, 1:], G[:, 1:, OWN]
        A[:, range(1 + rank), range(1 + rank)] += D
        x = np.linalg.solve(A, y[:, :, None])[:, :, 0]  # (b, 1 + r): the bias, then the factors
        own[group.rows, OWN], own[group.rows, 2:] = x[:, 0], x[:, 1:]
        misfit += float(G[:, OWN, OWN].sum() - (x * y).sum())  # x solves (G + D) x = y
        penalty += float((D * x**2).sum())
    return misfit, penalty
