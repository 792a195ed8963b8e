"""Inverses, linear systems, determinants, Cholesky factors and products of matrices, with stacks as in NumPy.

References
----------
M. B. Giles, "An extended collection of matrix derivative results for forward and reverse mode AD",
Oxford NA-08/01, 2008: inverse (2.2.3), determinant (2.2.4). G. H. Golub & V. Pereyra, SIAM J. Numer. Anal.
10, 1973, eq. 4.12: pseudo-inverse. D. K. Faddeev & I. S. Sominsky, 1949: `by_powers`. I. Murray,
arXiv:1602.07527, eq. 8: Cholesky.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from ..core import Array, Primitive, concrete, dtype_of, ndim_of, shape_of
from ..errors import TieError, at_line
from ..hooks import implements
from ..rules.complex import is_complex
from ..rules.elementwise import frozen
from ..rules.products import matmul, matmul_shape, swap
from .gaps import inspecting_identity


def adjoint(a: Array) -> Array:
    """Return the conjugate transpose."""
    return np.conj(swap(a)) if is_complex(a) else swap(a)


def symmetric(t: Array) -> Array:
    """Return (t + t^H)/2; functions of symmetric matrices are differentiated along symmetric directions."""
    return (t + adjoint(t)) / 2


def several_results(
    function: Any, jvp: Callable[..., Any], fun: Callable[..., Any] | None = None, explain_nan: Any = None
) -> Callable[..., Any]:
    """Return a NumPy function with several results as a primitive that returns NumPy's named tuple.

    ``fun`` computes the results if ``function`` alone does not; `gaps` describes ``explain_nan``.
    """
    result: Any = type(function(np.eye(1)))
    prim = Primitive(f"linalg.{function.__name__}", fun or (lambda a: tuple(function(a))), jvp, batch=True)
    prim.explain_nan = explain_nan
    return lambda a, **params: result(*prim(a, **params))


# --- inverses and linear systems ----------------------------------------------------------------------

implements(np.linalg.inv)(
    Primitive("linalg.inv", np.linalg.inv, lambda y, args, tangents: -(y @ tangents[0] @ y), batch=True)
)


def moved_right(x: Array, ta: Any, tb: Any) -> Array:
    """Return tb - ta x, the right-hand side of the system for the tangent of x, where a x = b."""
    if ta is None:
        return tb
    return -(ta @ x) if tb is None else tb - ta @ x


solve_p: Primitive = Primitive(  # for matrices; `solve` turns a vector on the right into a column
    "linalg.solve",
    np.linalg.solve,
    lambda x, args, tangents: solve_p(args[0], moved_right(x, *tangents)),
    transpose={1: lambda ct, a, b: solve_p(swap(a), ct)},
    shape=matmul_shape,
    batch=True,
)


@implements(np.linalg.solve)
def solve(a: Array, b: Array) -> Array:
    """Return `np.linalg.solve`."""
    return solve_p(a, np.expand_dims(b, -1))[..., 0] if ndim_of(b) == 1 else solve_p(a, b)


# --- pseudo-inverse and least squares -------------------------------------------------------------------


@implements(np.linalg.pinv)
def pinv(a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Array:
    """Return `np.linalg.pinv`; scaling by a power of two keeps the derivative from over- or underflowing."""
    unit = power_of_two(a)
    return pinv_p(a / unit, rcond=rcond if rtol is None else rtol) / unit


def nearest_power_of_two(a: np.ndarray) -> Array:
    """Return the power of two nearest to the largest entry of each matrix: (..., 1, 1)."""
    size = np.abs(a).max((-2, -1), keepdims=True, initial=0)
    return np.exp2(np.rint(np.log2(np.where((size == 0) | ~np.isfinite(size), 1, size)))).astype(size.dtype)


power_of_two = frozen("power of two", nearest_power_of_two)


def pinv_jvp(p: Array, args: Any, tangents: Any, rcond: Any) -> Array:
    """Return the tangent of the pseudo-inverse at constant rank (Golub & Pereyra, 1973)."""
    a, t = args[0], refuse_rank_change(tangents[0], args[0], p)
    th, ph = adjoint(t), adjoint(p)
    left = (p @ ph) @ (th - (th @ a) @ p)
    right = (th - (p @ a) @ th) @ ph @ p
    return left + right - p @ t @ p


def check_rank_change(t: np.ndarray, a: np.ndarray, p: np.ndarray) -> Array:
    """Refuse a tangent along which the rank changes, because there the pseudo-inverse jumps."""
    rank, full = np.rint(np.real(np.einsum("...ij,...ji->...", p, a))), min(a.shape[-2:])
    if np.all(rank == full):
        return t
    across = t - a @ (p @ t)
    across = np.abs(across - (across @ p) @ a).max((-2, -1))
    if np.any((rank < full) & (across > np.sqrt(np.finfo(a.dtype).eps) * np.abs(t).max((-2, -1)))):
        change = f"the rank is {int(rank.min())} of {full}, and it changes along this tangent"
        fix = "Use a tangent that keeps the rank, as in pinv(B @ A), or np.linalg.solve with a ridge term"
        raise TieError("np.linalg.pinv", f"{change}, so there is no derivative{at_line()}", fix)
    return t


refuse_rank_change = inspecting_identity("refuse rank change", tangent=check_rank_change)
pinv_p: Primitive = Primitive("linalg.pinv", lambda a, rcond: np.linalg.pinv(a, rcond), pinv_jvp, batch=True)


@implements(np.linalg.lstsq)
def lstsq(a: Array, b: Array, rcond: Any = None) -> tuple[Array, Array, Any, Array]:
    """Return `np.linalg.lstsq` by the pseudo-inverse, differentiable at any constant rank."""
    m, n = shape_of(a)
    eps = float(np.finfo(dtype_of(a)).eps) * max(m, n) if rcond is None else float(rcond)
    x, s = pinv(a, eps) @ b, np.linalg.svdvals(a)
    values = concrete(s)
    rank = int((values > eps * values[..., :1]).sum(-1).min())
    gap = b - a @ x
    square = np.sum(np.real(gap * np.conj(gap)), axis=0, keepdims=ndim_of(b) == 1)
    return x, square if rank == n and m > n else np.empty(0), rank, s


# --- determinants ---------------------------------------------------------------------------------------


def log_rate(a: Array, t: Array) -> Array:
    """Return tr(a^-1 t), the derivative of log det (Giles, 2008, 2.2.4)."""
    return np.sum(swap(np.linalg.inv(a)) * t, axis=(-2, -1))


regular_p: Primitive = Primitive(
    "linalg.det", np.linalg.det, lambda y, args, tangents: y * log_rate(args[0], tangents[0]), batch=True
)
singular_bases = frozen("singular bases", lambda a: tuple(np.linalg.svd(a)[::2]))


@implements(np.linalg.det)
def det(a: Array) -> Array:
    """Return the determinant, differentiable at any rank and to any order.

    The usual gradient det(A) inv(A)^T fails where A is close to singular. There, A is written in the bases of
    its SVD, held constant, and the block of the large singular values is eliminated. The determinant of the
    remaining Schur complement is computed as a polynomial.
    """
    s = np.linalg.svd(concrete(a), compute_uv=False)
    if not s[..., :1].all():  # some matrix of the stack is 0
        null = np.all(a == 0, axis=(-2, -1), keepdims=True)
        regular = det(np.where(null, np.eye(shape_of(a)[-1], dtype=dtype_of(a)), a))
        return np.where(null[..., 0, 0], by_powers(np.where(null, a, 0.0)), regular)
    small = int((s <= np.finfo(s.dtype).eps ** (1 / 3) * s[..., :1]).sum(-1).max(initial=0))
    if small == 0:
        return regular_p(a)
    U, Vh = singular_bases(a)
    B, r = adjoint(U) @ a @ adjoint(Vh), s.shape[-1] - small
    head, right, below = B[..., :r, :r], B[..., :r, r:], B[..., r:, :r]
    rest = B[..., r:, r:] - below @ solve_p(head, right)
    last = by_powers(rest) if small < 5 else det(rest)
    return regular_p(U) * regular_p(Vh) * regular_p(head) * last


def by_powers(a: Array) -> Array:
    """Return the determinant as a polynomial (Faddeev & LeVerrier): exact near 0, unstable elsewhere."""
    n, eye = shape_of(a)[-1], np.eye(shape_of(a)[-1], dtype=dtype_of(a))
    power, c = eye, 1.0
    for k in range(1, n + 1):
        product = a @ power
        c = np.trace(product, 0, -2, -1) / -k
        power = product + np.expand_dims(c, (-2, -1)) * eye
    return c * (-1) ** n


def slogdet_jvp(out: Any, args: Any, tangents: Any) -> tuple[Any, Array]:
    """Return the tangents of the sign, which only a complex matrix has, and of the logarithm."""
    if np.any(np.isinf(concrete(out[1]))):
        what = f"the determinant is 0, so there is no derivative{at_line()}"
        raise TieError("np.linalg.slogdet", what, "Use np.linalg.det, which has a derivative there")
    rate = log_rate(args[0], tangents[0])
    return (1j * np.imag(rate) * out[0] if is_complex(args[0]) else None), np.real(rate)


implements(np.linalg.slogdet)(several_results(np.linalg.slogdet, slogdet_jvp))


# --- Cholesky -------------------------------------------------------------------------------------------


def cholesky_jvp(L: Array, args: Any, tangents: Any) -> Array:
    """Return L Phi(L^-1 t L^-H); Phi takes the lower triangle and half the diagonal (Murray, 2016, eq. 8)."""
    W = np.linalg.inv(L)
    n = shape_of(L)[-1]
    return L @ ((W @ symmetric(tangents[0]) @ adjoint(W)) * (np.tri(n, k=-1) + np.eye(n) / 2))


cholesky_p: Primitive = Primitive("linalg.cholesky", np.linalg.cholesky, cholesky_jvp, batch=True)
implements(np.linalg.cholesky)(
    lambda a, /, *, upper=False: adjoint(cholesky_p(adjoint(a))) if upper else cholesky_p(a)
)


# --- powers and products ----------------------------------------------------------------------------------


@implements(np.linalg.matrix_power)
def matrix_power(a: Array, n: int) -> Array:
    """Return `np.linalg.matrix_power`, by repeated squaring."""
    if n < 0:
        return matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        return np.broadcast_to(np.eye(shape_of(a)[-1], dtype=dtype_of(a)), shape_of(a))
    if n == 1:
        return a
    half = matrix_power(a, n // 2)
    return half @ half @ a if n % 2 else half @ half


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Array]) -> Array:
    """Return `np.linalg.multi_dot`, in the cheapest order (by dynamic programming over the sizes)."""
    size = [1 if ndim_of(arrays[0]) == 1 else shape_of(arrays[0])[0]]  # a first vector is a row
    size += [shape_of(a)[-1] for a in arrays[:-1]]
    size.append(1 if ndim_of(arrays[-1]) == 1 else shape_of(arrays[-1])[1])  # a last vector is a column

    @cache
    def best(i: int, j: int) -> tuple[int, int]:
        """Return the cost of the product of the arrays i to j - 1, and where to split it."""
        costs = [(best(i, k)[0] + best(k, j)[0] + size[i] * size[k] * size[j], k) for k in range(i + 1, j)]
        return min(costs, default=(0, i))

    def product(i: int, j: int) -> Array:
        k = best(i, j)[1]
        return arrays[i] if k == i else product(i, k) @ product(k, j)

    return product(0, len(arrays))


@implements(np.linalg.tensorinv)
def tensorinv(a: Array, ind: int = 2) -> Array:
    """Return `np.linalg.tensorinv`."""
    shape = shape_of(a)
    n = prod(shape[ind:])
    return np.reshape(np.linalg.inv(np.reshape(a, (n, n))), (*shape[ind:], *shape[:ind]))


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Array, b: Array, axes: Any = None) -> Array:
    """Return `np.linalg.tensorsolve`."""
    if axes is not None:
        a = np.moveaxis(a, axes, range(ndim_of(a) - len(axes), ndim_of(a)))
    shape, n = shape_of(a)[ndim_of(b) :], prod(shape_of(b))
    return np.reshape(solve(np.reshape(a, (n, n)), np.ravel(b)), shape)


implements(np.linalg.matmul)(matmul)
implements(np.linalg.cross)(lambda a, b, /, *, axis=-1: np.cross(a, b, axis=axis))
implements(np.linalg.vecdot)(lambda a, b, /, *, axis=-1: np.sum(np.conj(a) * b, axis=axis))
