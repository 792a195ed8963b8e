"""The singular value decomposition of a small matrix, computed as on paper: W^T W, then u = W v / sigma.

A unit vector is stored as a direction and the square of its length. Even if the lengths are roots under
roots, everything else then needs only fractions and simple roots: the rank-1 terms sigma_i u_i v_i^T, their
sums, the pseudo-inverse and every inner product are exact.
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
    primitive,
    root,
    same,
    tidied,
    tidy,
)


@dataclass(frozen=True)
class Unit:
    """A unit vector, ``direction / sqrt(square)``."""

    direction: Matrix
    square: Number

    @property
    def vector(self) -> Matrix:
        """The unit vector, (n, 1)."""
        length = root(self.square)
        if is_surd(length):
            return tidied(self.direction * inverse(length))
        return self.direction / length


@dataclass(frozen=True)
class Completion:
    """A vector that completes U.

    Attributes
    ----------
    axis : int
        The unit vector e_k that it was made from, counting from 0.
    rest : Matrix (m, 1)
        e_k minus its components along the earlier columns of U.
    unit : Unit
        The same, scaled to length 1.
    """

    axis: int
    rest: Matrix
    unit: Unit


@dataclass(frozen=True)
class Decomposition:
    """A singular value decomposition with its intermediate results.

    Attributes
    ----------
    W : Matrix (m, n)
        The matrix.
    elimination : Elimination
        The elimination of W, which gives its rank.
    eigen : Eigen
        The eigenvalues and eigenvectors of W^T W.
    right : tuple of Unit
        v_1, ..., v_n.
    left : tuple of Unit
        u_1, ..., u_m; those after the rank come from ``completion``.
    weights : tuple of Number
        sigma_i u_i v_i^T is ``weights[i]`` times the direction of u_i times the transposed direction of v_i.
    completion : tuple of Completion
        The vectors that complete U, u_{r+1}, ..., u_m.
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
        """Number of nonzero singular values."""
        return self.elimination.rank

    @property
    def exact(self) -> bool:
        """Whether every step is exact, without decimals."""
        return self.eigen.exact

    @property
    def squares(self) -> list[Number]:
        """The squares of the nonzero singular values, largest first."""
        return self.eigen.values[: self.rank]

    @cached_property
    def sigma(self) -> list[Number]:
        """The nonzero singular values, largest first."""
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
        """Return the term sigma_i u_i v_i^T, (m, n), counting from 0."""
        return tidied(self.weights[i] * self.left[i].direction * self.right[i].direction.T)

    def best(self, rank: int) -> Matrix:
        """Return the best approximation of a given rank, the sum of the first terms."""
        return tidied(sum((self.piece(i) for i in range(rank)), sympy.zeros(*self.W.shape)))

    def pseudo_inverse(self) -> Matrix:
        """Return V Sigma^+ U^T, (n, m): the sum of the terms, transposed and divided by sigma squared."""
        pieces = (tidied(self.piece(i).T * inverse(v)) for i, v in enumerate(self.squares))
        return tidied(sum(pieces, sympy.zeros(*self.W.T.shape)))

    def is_complete(self) -> bool:
        """Whether the terms add up to W."""
        return same(self.best(self.rank), self.W)

    def is_orthonormal(self, units: tuple[Unit, ...]) -> bool:
        """Whether vectors are an orthonormal basis of their space."""
        pairs = ((a, b) for i, a in enumerate(units) for b in units[:i])
        return (
            len(units) == units[0].direction.rows
            and all(is_zero(dot(a.direction, b.direction)) for a, b in pairs)
            and all(is_zero(dot(a.direction, a.direction) - a.square) for a in units)
        )


def decompose(W: Matrix) -> Decomposition:
    """Compute the singular value decomposition of a small matrix of exact numbers.

    Cost: milliseconds for 2 x 2, less than a second for 5 x 5.

    Examples
    --------
    >>> svd = decompose(sympy.Matrix([[3, 1], [1, 3], [1, 1]]))
    >>> svd.sigma, [tuple(unit.direction) for unit in svd.left], [unit.square for unit in svd.left]
    ([3*sqrt(2), 2], [(2, 2, 1), (1, -1, 0), (1, 1, -4)], [9, 2, 18])
    """
    elimination = eliminate(W)
    solved = eigen(tidied(W.T * W), elimination.rank)
    right = tuple(Unit(x, _square(x)) for x in solved.directions)
    left, weights = [], []
    for v, value in zip(right, solved.values[: elimination.rank], strict=False):
        image = tidied(W * v.direction)
        if solved.exact:
            y, factor = primitive(image)
        else:
            factor = root(value)
            y = tidied(image / factor)
        if not is_zero(tidy(factor**2) * _square(y) - value * v.square):  # |W v|^2 = sigma^2
            raise AssertionError("W v does not have the length sigma")
        left.append(Unit(y, _square(y)))
        weights.append(tidy(factor * inverse(v.square)))
    # u has the sign of W v. If primitive() has changed it, the weight is negative.
    for i, weight in enumerate(weights):
        if sympy.N(weight) < 0:
            left[i], weights[i] = Unit(-left[i].direction, left[i].square), -weight
    completion = _complete(left, W.rows)
    all_left = (*left, *(c.unit for c in completion))
    return Decomposition(W, elimination, solved, right, all_left, tuple(weights), completion)


def _square(x: Matrix) -> Number:
    square = dot(x, x)
    return sympy.Integer(1) if square.is_Float and is_zero(square - 1) else square


def _complete(left: list[Unit], m: int) -> tuple[Completion, ...]:
    """Complete the known u to an orthonormal basis, by Gram-Schmidt on e_1, e_2, ..."""
    units, completion = list(left), list[Completion]()
    for axis in range(m):
        if len(units) == m:
            break
        rest = sympy.zeros(m, 1)
        rest[axis] = sympy.Integer(1)
        for u in units:
            rest = tidied(rest - tidy(u.direction[axis] * inverse(u.square)) * u.direction)
        # With decimals, a very short rest would have no correct digits. The squared lengths of the rests of
        # all axes add up to the number of missing vectors, so a longer one follows.
        square = dot(rest, rest)
        if is_zero(square) or (square.is_Float and square < 1e-3):
            continue
        y = primitive(rest)[0]
        if square.is_Float:
            y = tidied(y / root(square))
        units.append(Unit(y, _square(y)))
        completion.append(Completion(axis, rest, units[-1]))
    return tuple(completion)
