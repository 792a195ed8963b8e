"""The singular value decomposition of a small matrix, worked out as on paper: W^T W, then u = W v / sigma.

A vector of length 1 is kept as a direction and the square of its length, so that everything but the
lengths stays in fractions and simple roots, even where the lengths are roots under roots: the rank-1
pieces sigma_i u_i v_i^T, their sums, the pseudo-inverse and every inner product are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy

from eckart.explain.eigen import Eigen, dot, eigen
from eckart.explain.elimination import Elimination, eliminate
from eckart.explain.exact import (
    Matrix,
    Number,
    inverse,
    is_surd,
    is_zero,
    nice,
    root,
    same,
    tidied,
    tidy,
)


@dataclass(frozen=True)
class Unit:
    """A vector of length 1: ``direction / sqrt(square)``."""

    direction: Matrix
    square: Number

    @property
    def vector(self) -> Matrix:
        """The vector itself, (n, 1)."""
        length = root(self.square)
        if is_surd(length):
            return tidied(self.direction * inverse(length))
        return self.direction / length


@dataclass(frozen=True)
class Completion:
    """A vector that completes U: what is left of e_k (``axis`` = k) beside the u that are there."""

    axis: int
    rest: Matrix
    unit: Unit


@dataclass(frozen=True)
class Work:
    """A singular value decomposition with its working.

    Parameters
    ----------
    W : Matrix (m, n)
    elimination : Elimination
        It says the rank.
    eigen : Eigen
        Of W^T W.
    right : tuple of Unit
        v_1, ..., v_n.
    left : tuple of Unit
        u_1, ..., u_m; those after the rank are in ``completion`` too.
    weights : tuple of Number
        sigma_i u_i v_i^T is ``weights[i]`` times left direction times right direction, transposed.
    """

    W: Matrix
    elimination: Elimination
    eigen: Eigen
    right: tuple[Unit, ...]
    left: tuple[Unit, ...]
    weights: tuple[Number, ...]
    completion: tuple[Completion, ...]

    @property
    def rank(self) -> int:
        """Number of singular values that are not 0."""
        return self.elimination.rank

    @property
    def exact(self) -> bool:
        """Whether no step went on in decimals."""
        return self.eigen.exact

    @property
    def squares(self) -> list[Number]:
        """The squares of the singular values that are not 0, largest first."""
        return self.eigen.values[: self.rank]

    @cached_property
    def sigma(self) -> list[Number]:
        """The singular values that are not 0, largest first."""
        return [root(value) for value in self.squares]

    @cached_property
    def U(self) -> Matrix:
        """Left singular vectors, (m, m)."""
        return sympy.Matrix.hstack(*(unit.vector for unit in self.left))

    @cached_property
    def V(self) -> Matrix:
        """Right singular vectors, (n, n)."""
        return sympy.Matrix.hstack(*(unit.vector for unit in self.right))

    @cached_property
    def S(self) -> Matrix:
        """Sigma, (m, n)."""
        S = sympy.zeros(*self.W.shape)
        for i, value in enumerate(self.sigma):
            S[i, i] = value
        return S

    def piece(self, i: int) -> Matrix:
        """Return sigma_i u_i v_i^T, (m, n), counting from 0."""
        return tidied(self.weights[i] * self.left[i].direction * self.right[i].direction.T)

    def best(self, rank: int) -> Matrix:
        """Return the best approximation of a rank: the sum of the first pieces."""
        return tidied(sum((self.piece(i) for i in range(rank)), sympy.zeros(*self.W.shape)))

    def pseudo_inverse(self) -> Matrix:
        """Return V Sigma^+ U^T, (n, m): every piece transposed, divided by sigma squared."""
        pieces = (tidied(self.piece(i).T * inverse(v)) for i, v in enumerate(self.squares))
        return tidied(sum(pieces, sympy.zeros(*self.W.T.shape)))

    def is_whole(self) -> bool:
        """Whether the pieces add up to W."""
        return same(self.best(self.rank), self.W)

    def is_orthonormal(self, units: tuple[Unit, ...]) -> bool:
        """Whether vectors are orthogonal, of length 1, and as many as their space has dimensions."""
        pairs = ((a, b) for i, a in enumerate(units) for b in units[:i])
        return (
            len(units) == units[0].direction.rows
            and all(is_zero(dot(a.direction, b.direction)) for a, b in pairs)
            and all(is_zero(dot(a.direction, a.direction) - a.square) for a in units)
        )


def work_out(W: Matrix) -> Work:
    """Work out the singular value decomposition of a small matrix of exact numbers.

    Cost: milliseconds for 2 x 2, under a second for 5 x 5.

    Examples
    --------
    >>> done = work_out(sympy.Matrix([[3, 1], [1, 3], [1, 1]]))
    >>> done.sigma, [tuple(unit.direction) for unit in done.left], [unit.square for unit in done.left]
    ([3*sqrt(2), 2], [(2, 2, 1), (1, -1, 0), (1, 1, -4)], [9, 2, 18])
    """
    elimination = eliminate(W)
    solved = eigen(tidied(W.T * W), elimination.rank)
    right = tuple(Unit(x, _square(x)) for x in solved.directions)
    left, weights = [], []
    for v, value in zip(right, solved.values[: elimination.rank], strict=False):
        image = tidied(W * v.direction)
        if solved.exact:
            y, factor = nice(image)
        else:
            factor = root(value)
            y = tidied(image / factor)
        if not is_zero(tidy(factor**2) * _square(y) - value * v.square):  # |W v|^2 = sigma^2
            raise AssertionError("W v does not have the length sigma")
        left.append(Unit(y, _square(y)))
        weights.append(tidy(factor * inverse(v.square)))
    # The sign of u is that of W v: nice() may have turned it, and then the weight would be negative.
    for i, weight in enumerate(weights):
        if sympy.N(weight) < 0:
            left[i], weights[i] = Unit(-left[i].direction, left[i].square), -weight
    completion = _complete(left, W.rows)
    return Work(
        W, elimination, solved, right, (*left, *(c.unit for c in completion)), tuple(weights), completion
    )


def _square(x: Matrix) -> Number:
    square = dot(x, x)
    return sympy.Integer(1) if square.is_Float and is_zero(square - 1) else square


def _complete(left: list[Unit], m: int) -> tuple[Completion, ...]:
    """Go on from the u that are known to an orthonormal basis, by Gram-Schmidt over e_1, e_2, ..."""
    units, found = list(left), list[Completion]()
    for axis in range(m):
        if len(units) == m:
            break
        rest = sympy.zeros(m, 1)
        rest[axis] = sympy.Integer(1)
        for u in units:
            rest = tidied(rest - tidy(u.direction[axis] * inverse(u.square)) * u.direction)
        # In decimals a rest that is almost nothing would have no digits left. The rests of all axes
        # have squares that add up to the number of vectors missing, so a long one comes.
        square = dot(rest, rest)
        if is_zero(square) or (square.is_Float and square < 1e-3):
            continue
        y = nice(rest)[0]
        if square.is_Float:
            y = tidied(y / root(square))
        units.append(Unit(y, _square(y)))
        found.append(Completion(axis, rest, units[-1]))
    return tuple(found)
