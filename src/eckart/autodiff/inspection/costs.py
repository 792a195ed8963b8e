"""The cost of a primitive: floating-point operations by textbook formulas.

From Golub & Van Loan, "Matrix Computations", 4th ed.: LU 2n^3/3; Cholesky n^3/3; inverse 2n^3; thin QR with Q
4mn^2 - 4n^3/3; thin SVD with vectors 6mn^2 + 20n^3 (table 8.6.1); symmetric eigenvectors 9n^3 (section 8.3);
eigenvalues and eigenvectors of a general matrix, and functions of it by the Schur form, 25n^3 (section 7.5).
An elementwise function counts as one operation per entry; moving entries is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log2, prod
from typing import Any

from ..core import Array, Primitive, shape_of

Shape = tuple[int, ...]

FREE = frozenset(
    {
        "reshape",
        "transpose",
        "broadcast_to",
        "concatenate",
        "getitem",
        "scatter",
        "gather",
        "spill",
        "where",
        "astype",
        "real",
        "imag",
        "conj",
        "stop_gradient",
    }
)


def einsum(args: Sequence[Shape], out: Shape, params: dict[str, Any]) -> float:
    """Return the operations of an einsum: the number of operands times the product of all lengths."""
    terms = params["spec"].split("->")[0].split(",")
    size = {letter: n for term, a in zip(terms, args, strict=True) for letter, n in zip(term, a, strict=True)}
    return len(args) * prod(size.values())


PRODUCTS: dict[str, Callable[[Sequence[Shape], Shape, dict[str, Any]], float]] = {
    "matmul": lambda args, out, params: 2 * args[0][-1] * prod(out),
    "einsum": einsum,
    "linalg.solve": lambda args, out, params: 2 * out[-2] ** 3 / 3 * prod(out[:-2]) + 2 * out[-2] * prod(out),
    "scipy.linalg.solve_triangular": lambda args, out, params: out[-2] * prod(out),
    "fft.fft": lambda args, out, params: 5 * prod(out) * log2(max(out[params["axis"]], 2)),
}
SCHUR = tuple(f"scipy.linalg.{name}" for name in ("expm", "sinm", "cosm", "sqrtm", "logm"))
SVD = ("linalg.svd", "linalg.pinv", "nuclear norm")
# m and n are the sizes of the matrix, m >= n; k is the number of directions, see `spectral`
OF_A_MATRIX: dict[str, Callable[[int, int, int], float]] = {
    "linalg.inv": lambda m, n, k: 2 * n**3,
    "linalg.det": lambda m, n, k: 2 * n**3 / 3,
    "linalg.slogdet": lambda m, n, k: 2 * n**3 / 3,
    "linalg.cholesky": lambda m, n, k: n**3 / 3,
    "linalg.qr": lambda m, n, k: 4 * m * n**2 - 4 * n**3 / 3,
    "linalg.eigh": lambda m, n, k: 9 * n**3,
    "linalg.eig": lambda m, n, k: 25 * n**3,
    **dict.fromkeys(SVD, lambda m, n, k: 6 * m * n**2 + 20 * n**3),
    "eigfun": lambda m, n, k: (11 + 6 * k) * n**3,
    "svdfun": lambda m, n, k: 6 * m * n**2 + 20 * n**3 if k < 2 else (11 + 6 * k) * (m + n) ** 3,
    **dict.fromkeys(SCHUR, lambda m, n, k: 25 * (2**k * n) ** 3),
}


def flops(prim: Primitive, args: Sequence[Array], out: Any, params: dict[str, Any]) -> int:
    """Return the number of operations of one call."""
    shapes, result = [shape_of(a) for a in args], shape_of(out[0] if isinstance(out, tuple) else out)
    if prim.name in FREE:
        return 0
    if prim.name in PRODUCTS:
        return round(PRODUCTS[prim.name](shapes, result, params))
    if prim.name in OF_A_MATRIX:
        *stack, m, n = shapes[0]
        return round(prod(stack) * OF_A_MATRIX[prim.name](max(m, n), min(m, n), len(args) - 1))
    return max(prod(shape) for shape in (*shapes, result))
