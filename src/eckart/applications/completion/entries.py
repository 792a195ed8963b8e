"""The known entries of a matrix, and the one product that is only needed there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 4096  # entries at a time in `inner`: the gathered rows stay in a core's cache


@dataclass(frozen=True, eq=False)
class Entries:
    """Known entries of an m x n matrix, by row and within a row by column. Made by `Entries.of`.

    Parameters
    ----------
    rows, columns : ndarray (N,) of int
        A place occurs once.
    values : ndarray (N,) of float64
    shape : (int, int)
        Of the whole matrix; most of it is not known, which is not zero.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Floats
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], shape: tuple[int, int]
    ) -> Entries:
        """Sort entries that come in any order."""
        order = np.lexsort((columns, rows))
        return cls(
            np.asarray(rows, np.intp)[order],
            np.asarray(columns, np.intp)[order],
            np.asarray(values, np.float64)[order],
            shape,
        )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def T(self) -> Entries:
        """The transpose, sorted anew."""
        return Entries.of(self.columns, self.rows, self.values, (self.shape[1], self.shape[0]))

    def counts(self) -> tuple[Floats, Floats]:
        """Return how many entries each row (m,) and each column (n,) has."""
        m, n = self.shape
        return (
            np.bincount(self.rows, minlength=m).astype(np.float64),
            np.bincount(self.columns, minlength=n).astype(np.float64),
        )

    def with_values(self, values: Floats) -> Entries:
        """Return other values at the same places."""
        return replace(self, values=values)

    def matrix(self) -> Any:
        """Return a ``scipy.sparse.csr_array`` that holds the values, and zero where nothing is known."""
        import scipy.sparse

        starts = np.concatenate([[0], np.cumsum(np.bincount(self.rows, minlength=self.shape[0]))])
        return scipy.sparse.csr_array((self.values.copy(), self.columns, starts), shape=self.shape)

    def inner(self, P: NDArray[Any], Q: NDArray[Any]) -> Floats:
        """Return (P Q^T) at the known entries only, (N,): 2 N r flops, and no m x n matrix.

        Parameters
        ----------
        P : ndarray (m, r)
        Q : ndarray (n, r)
        """
        return inner(P, Q, self.rows, self.columns)

    def split(self, share: float, seed: int) -> tuple[Entries, Entries]:
        """Part the entries at random: those that are kept, and a ``share`` (rounded) that is held out."""
        out = np.zeros(len(self), bool)
        out[np.random.default_rng(seed).permutation(len(self))[: round(share * len(self))]] = True
        return self._where(~out), self._where(out)

    def _where(self, mask: NDArray[np.bool_]) -> Entries:
        return Entries(self.rows[mask], self.columns[mask], self.values[mask], self.shape)


def inner(P: NDArray[Any], Q: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """Return the sum over r of P[rows, r] Q[columns, r], (N,)."""
    found = np.zeros(len(rows))
    if not P.shape[1]:
        return found
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        np.einsum("ij,ij->i", P.take(rows[part], 0), Q.take(columns[part], 0), out=found[part])
    return found
