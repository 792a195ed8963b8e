"""Gaussian elimination that records its steps; rank, minors and null space follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import sympy

from eckart.explain.exact import Matrix, Number, inverse, is_zero, tidied, tidy


@dataclass(frozen=True)
class Move:
    """A row operation: a swap if ``factor`` is None, otherwise ``row <- row - factor * source``."""

    row: int
    source: int
    factor: Number | None


@dataclass(frozen=True)
class Stage:
    """The operations that clear one column, and the resulting matrix."""

    moves: tuple[Move, ...]
    after: Matrix


@dataclass(frozen=True)
class Elimination:
    """The elimination of a matrix.

    Attributes
    ----------
    stages : tuple of Stage
        One for every column that needed an operation.
    echelon : Matrix (m, n)
        The echelon form. The number of its nonzero rows is the rank.
    columns, rows : tuple of int
        The columns of the pivots, and the rows of the original matrix that they came from.
    """

    stages: tuple[Stage, ...]
    echelon: Matrix
    columns: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of pivots."""
        return len(self.columns)

    @property
    def reduced(self) -> Matrix:
        """The reduced echelon form without its zero rows, (rank, n)."""
        M = self.echelon[: self.rank, :]
        for i in reversed(range(self.rank)):
            j = self.columns[i]
            M[i, :] = tidied(M[i, :] * inverse(M[i, j]))
            for k in range(i):
                M[k, :] = tidied(M[k, :] - M[k, j] * M[i, :])
        return M


def eliminate(W: Matrix) -> Elimination:
    """Bring a matrix to echelon form, from the top, with the first nonzero entry as pivot.

    The arithmetic is exact, so choosing the largest pivot would gain nothing.

    Examples
    --------
    >>> result = eliminate(sympy.Matrix([[4, 0], [3, 5]]))
    >>> result.rank, result.stages[0].moves[0].factor, result.echelon
    (2, 3/4, Matrix([
    [4, 0],
    [0, 5]]))
    """
    M = W.as_mutable()
    order, columns, stages = list(range(M.rows)), list[int](), list[Stage]()
    for j in range(M.cols):
        top = len(columns)
        pivot = next((i for i in range(top, M.rows) if not is_zero(M[i, j])), None)
        if pivot is None:
            continue
        moves = []
        if pivot != top:
            M.row_swap(top, pivot)
            order[top], order[pivot] = order[pivot], order[top]
            moves.append(Move(top, pivot, None))
        over = inverse(M[top, j])
        for i in range(top + 1, M.rows):
            if not is_zero(M[i, j]):
                factor = tidy(M[i, j] * over)
                M[i, :] = tidied(M[i, :] - factor * M[top, :])
                moves.append(Move(i, top, factor))
        columns.append(j)
        if moves:
            stages.append(Stage(tuple(moves), M.as_immutable()))
    return Elimination(tuple(stages), M.copy(), tuple(columns), tuple(order[: len(columns)]))


def null_space(M: Matrix) -> tuple[Matrix, list[Matrix]]:
    """Return the reduced echelon form of M and a basis of its null space, one vector per free column."""
    elimination = eliminate(M)
    reduced = elimination.reduced
    vectors = []
    for free in (j for j in range(M.cols) if j not in elimination.columns):
        x = sympy.zeros(M.cols, 1)
        x[free] = sympy.Integer(1)
        for i, j in enumerate(elimination.columns):
            x[j] = -reduced[i, free]
        vectors.append(x)
    return reduced, vectors


def rank_factors(W: Matrix) -> tuple[Matrix, Matrix]:
    """Return C (m, r) and F (r, n) with W = C F: the columns with a pivot, and the reduced echelon form."""
    elimination = eliminate(W)
    return W[:, list(elimination.columns)], elimination.reduced


def inverse_matrix(M: Matrix) -> Matrix:
    """Return the inverse of a nonsingular matrix, by elimination of [M, I]."""
    n = M.rows
    return eliminate(sympy.Matrix.hstack(M, sympy.eye(n))).reduced[:, n:]


def determinant(M: Matrix) -> Number:
    """Return the determinant of a square matrix, exactly."""
    return tidy(M.det(method="berkowitz"))


def vanishing_minors(W: Matrix, order: int) -> int | None:
    """Return the number of minors of an order if all of them are zero, otherwise None."""
    count = 0
    for rows in combinations(range(W.rows), order):
        for columns in combinations(range(W.cols), order):
            if not is_zero(determinant(W.extract(list(rows), list(columns)))):
                return None
            count += 1
    return count
