"""What a primitive costs: floating-point operations by the formulas of the textbooks.

Golub & Van Loan, "Matrix Computations", 4th ed.: LU 2n^3/3, Cholesky n^3/3, inverse 2n^3, thin QR with Q
4mn^2 - 4n^3/3, thin SVD with vectors 6mn^2 + 20n^3 (table 8.6.1), symmetric eigenvectors 9n^3 (section 8.3).
An elementwise function counts as one operation for each element, moving numbers as none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log2, prod
from typing import Any

from .core import Array, Primitive, shape_of
from .elementwise import Elementwise

FREE = frozenset({
    "reshape", "transpose", "broadcast_to", "concatenate", "getitem", "scatter", "gather", "spill",
    "where", "astype", "real", "imag", "conj", "take_along_axis", "spread_along_axis", "stop_gradient",
})  # fmt: skip


def stack(shape: Sequence[int]) -> int:
    return prod(shape[:-2])


def einsum(args: Sequence[Array], out: Any, params: dict[str, Any]) -> float:
    terms = params["spec"].split("->")[0].split(",")
    size = {c: n for t, a in zip(terms, args, strict=True) for c, n in zip(t, shape_of(a), strict=True)}
    return len(args) * prod(size.values())


def of_matrix(count: Callable[[int, int], float]) -> Callable[..., float]:
    """Return a cost from a formula in m >= n, for a stack of matrices."""

    def cost(args: Sequence[Array], out: Any, params: dict[str, Any]) -> float:
        shape = shape_of(args[0])
        return stack(shape) * count(max(shape[-2:]), min(shape[-2:]))

    return cost


def solve(args: Sequence[Array], out: Any, params: dict[str, Any]) -> float:
    n, k = shape_of(out)[-2:]
    return stack(shape_of(out)) * (2 * n**3 / 3 + 2 * n * n * k)


SVD = of_matrix(lambda m, n: 6 * m * n * n + 20 * n**3)
FORMULAS: dict[str, Callable[..., float]] = {
    "matmul": lambda args, out, params: 2 * prod(shape_of(out)) * shape_of(args[0])[-1],
    "einsum": einsum,
    "linalg.solve": solve,
    "scipy.linalg.solve_triangular": lambda args, out, params: shape_of(out)[-2] * prod(shape_of(out)),
    "linalg.inv": of_matrix(lambda m, n: 2 * n**3),
    "linalg.det": of_matrix(lambda m, n: 2 * n**3 / 3),
    "linalg.slogdet": of_matrix(lambda m, n: 2 * n**3 / 3),
    "linalg.cholesky": of_matrix(lambda m, n: n**3 / 3),
    "linalg.qr": of_matrix(lambda m, n: 4 * m * n * n - 4 * n**3 / 3),
    "linalg.eigh": of_matrix(lambda m, n: 9 * n**3),
    "eigfun": of_matrix(lambda m, n: 11 * n**3),
    "eigfun slope": of_matrix(lambda m, n: 17 * n**3),
    "linalg.eig": of_matrix(lambda m, n: 25 * n**3),
    "fft.fft": lambda args, out, params: (
        5 * prod(shape_of(out)) * log2(max(shape_of(out)[params["axis"]], 2))
    ),
    **dict.fromkeys(
        ("linalg.svd", "linalg.pinv", "cofactors", "svdfun", "svdfun slope", "nuclear norm"), SVD
    ),
}


def flops(prim: Primitive, args: Sequence[Array], out: Any, params: dict[str, Any]) -> int:
    """Return the operations of one call."""
    if prim.name in FORMULAS:
        return round(FORMULAS[prim.name](args, out, params))
    if prim.name in FREE:
        return 0
    first = out[0] if isinstance(out, tuple) else out
    if isinstance(prim, Elementwise):
        return prod(shape_of(first))
    return max(prod(shape_of(a)) for a in (*args, first))
