"""The known entries of a matrix, and products with factors evaluated at those entries only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eckart.arrays import Array, Bools, Floats

if TYPE_CHECKING:
    import scipy.sparse

CHUNK = 4096  # entries that `inner` handles at a time, so that the gathered rows stay in a core's cache


@dataclass(frozen=True, eq=False)
class Entries:
    """Known entries of an m x n matrix, sorted by row, then by column. Use `Entries.of` to create one.

    Parameters
    ----------
    rows, columns : ndarray (N,) of int
        Positions of the entries. No position occurs twice.
    values : ndarray (N,) of float64
        Values of the entries.
    shape : (int, int)
        Shape of the whole matrix. The other entries are unknown, which does not mean zero.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Floats
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: Array, columns: Array, values: Array, shape: tuple[int, int]) -> Entries:
        """Build entries from arrays in any order.

        Parameters
        ----------
        rows, columns, values : ndarray (N,)
            Positions and values of the entries.
        shape : (int, int)
            Shape of the whole matrix.

        Returns
        -------
        Entries
        """
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
        """The entries of the transpose, sorted by its rows."""
        return Entries.of(self.columns, self.rows, self.values, (self.shape[1], self.shape[0]))

    def counts(self) -> tuple[Floats, Floats]:
        """Return the number of entries in each row, (m,), and in each column, (n,)."""
        m, n = self.shape
        return (
            np.bincount(self.rows, minlength=m).astype(np.float64),
            np.bincount(self.columns, minlength=n).astype(np.float64),
        )

    def with_values(self, values: Floats) -> Entries:
        """Return entries with other values at the same positions.

        Parameters
        ----------
        values : ndarray (N,) of float64
            The new values.
        """
        return replace(self, values=values)

    def matrix(self) -> scipy.sparse.csr_array:
        """Return a sparse array, (m, n), that holds the values, and zeros where nothing is known."""
        import scipy.sparse

        starts = np.concatenate([[0], np.cumsum(np.bincount(self.rows, minlength=self.shape[0]))])
        return scipy.sparse.csr_array((self.values.copy(), self.columns, starts), shape=self.shape)

    def inner(self, P: Array, Q: Array) -> Floats:
        """Return P Q^T at the known entries.

        Parameters
        ----------
        P : ndarray (m, r)
            Row factors.
        Q : ndarray (n, r)
            Column factors.

        Returns
        -------
        ndarray (N,) of float64
            One product for each entry.

        Notes
        -----
        It costs 2 N r flops and does not form an m x n matrix.
        """
        return inner(P, Q, self.rows, self.columns)

    def split(self, share: float, seed: int) -> tuple[Entries, Entries]:
        """Split the entries at random.

        Parameters
        ----------
        share : float
            Share of the entries to hold out, rounded to a whole number of entries.
        seed : int
            Random seed.

        Returns
        -------
        kept, held_out : Entries
            The two parts, which have the same shape.
        """
        is_held_out = np.zeros(len(self), bool)
        is_held_out[np.random.default_rng(seed).permutation(len(self))[: round(share * len(self))]] = True
        return self._where(~is_held_out), self._where(is_held_out)

    def _where(self, mask: Bools) -> Entries:
        return Entries(self.rows[mask], self.columns[mask], self.values[mask], self.shape)


def inner(P: Array, Q: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """Return P Q^T at given positions.

    Parameters
    ----------
    P : ndarray (m, r)
        Row factors.
    Q : ndarray (n, r)
        Column factors.
    rows, columns : ndarray (N,) of int
        The positions.

    Returns
    -------
    ndarray (N,) of float64
        One product for each position.
    """
    products = np.zeros(len(rows))
    if not P.shape[1]:
        return products
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        np.einsum("ij,ij->i", P.take(rows[part], 0), Q.take(columns[part], 0), out=products[part])
    return products
