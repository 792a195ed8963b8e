"""Dense: the warning that factors are not smaller than the matrices that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from eckart.text import listing, size


class Matrix(Protocol):
    """What is counted: a `Module` of an adapter, or a `Factored` tensor of a plan."""

    @property
    def name(self) -> str:
        """Name of the module or tensor."""

    @property
    def rank(self) -> int:
        """Rank of its factors; 0 if it has none."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the matrix."""


@dataclass(frozen=True)
class Factored:
    """A matrix and the rank of its factors.

    Parameters
    ----------
    name : str
        Name of the tensor.
    rank : int
        Rank of its factors; 0 if it has none.
    shape : (int, int)
        (m, n) of the matrix.
    """

    name: str
    rank: int
    shape: tuple[int, int]


def notes_on_dense(matrices: Iterable[Matrix], bytes_each: int, noun: str = "module") -> tuple[str, ...]:
    """Return a note on the factors that are not smaller than their matrices; none if all are smaller.

    Parameters
    ----------
    matrices : iterable of Matrix
        The modules of an adapter, or the tensors of a plan.
    bytes_each : int
        Size of one entry in bytes.
    noun : str
        What the matrices are called.

    Examples
    --------
    >>> notes_on_dense([Factored("q", 2, (6, 8)), Factored("k", 4, (6, 8))], 2)
    ('The factors of 1 module (k) are not smaller than the dense update: 56 parameters (112 B) instead of \
48 (96 B)',)
    """
    large, parameters, dense = [], 0, 0
    for matrix in matrices:
        m, n = matrix.shape
        if matrix.rank and matrix.rank * (m + n) >= m * n:
            large.append(matrix.name)
            parameters += matrix.rank * (m + n)
            dense += m * n
    if not large:
        return ()
    return (
        f"The factors of {listing(large, noun)} are not smaller than the dense update: "
        f"{parameters:,} parameters ({size(parameters * bytes_each)}) instead of {dense:,} "
        f"({size(dense * bytes_each)})",
    )
