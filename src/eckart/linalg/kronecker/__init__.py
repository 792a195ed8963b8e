"""Kronecker products that are applied without being formed, and the nearest sum of them to a matrix."""

from eckart.linalg.kronecker.products import KroneckerLaws, kron_matvec, kron_solve, kronecker_laws, vec
from eckart.linalg.kronecker.sums import KroneckerSum, nearest_kronecker, rearranged

__all__ = [
    "KroneckerLaws",
    "KroneckerSum",
    "kron_matvec",
    "kron_solve",
    "kronecker_laws",
    "nearest_kronecker",
    "rearranged",
    "vec",
]
