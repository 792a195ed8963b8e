"""Determinants, differentiable at any rank and to any order.

References
----------
M. B. Giles, Oxford NA-08/01, 2008, section 2.2.4. D. K. Faddeev & I. S. Sominsky, 1949: `by_powers`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array, Primitive, concrete, dtype_of, shape_of
from ..errors import TieError, at_line
from ..hooks import implements
from .complex import is_complex
from .linalg import adjoint, named, solve_p
from .products import swap
from .reduce import frozen


def log_rate(a: Array, t: Array) -> Array:
    """Return tr(a^-1 t), the derivative of log det: Giles (2008), 2.2.4."""
    return np.sum(swap(np.linalg.inv(a)) * t, axis=(-2, -1))


regular_p: Primitive = Primitive(
    "linalg.det", np.linalg.det, lambda y, args, tangents: y * log_rate(args[0], tangents[0]), batch=True
)
bases = frozen("bases", lambda a: tuple(np.linalg.svd(a)[::2]))
zero = frozen("zero", lambda a: np.all(a == 0, axis=(-2, -1), keepdims=True))


@implements(np.linalg.det)
def det(a: Array) -> Array:
    """Return the determinant, differentiable at any rank and to any order.

    det(A) inv(A)^T fails where A is close to singular. There, in the bases of the SVD, which do not move, the
    block of the large singular values is taken out. The determinant of its Schur complement is a polynomial.
    """
    s = np.linalg.svd(concrete(a), compute_uv=False)
    if not s[..., :1].all():  # of some matrix every entry is 0
        null = zero(a)
        regular = det(np.where(null, np.eye(shape_of(a)[-1], dtype=dtype_of(a)), a))
        return np.where(null[..., 0, 0], by_powers(np.where(null, a, 0.0)), regular)
    small = int((s <= np.finfo(s.dtype).eps ** (1 / 3) * s[..., :1]).sum(-1).max(initial=0))
    if small == 0:
        return regular_p(a)
    U, Vh = bases(a)
    B, r = adjoint(U) @ a @ adjoint(Vh), s.shape[-1] - small
    head, right, below = B[..., :r, :r], B[..., :r, r:], B[..., r:, :r]
    rest = B[..., r:, r:] - below @ solve_p(head, right)
    last = by_powers(rest) if small < 5 else det(rest)
    return regular_p(U) * regular_p(Vh) * regular_p(head) * last


def by_powers(a: Array) -> Array:
    """Return the determinant by Faddeev and LeVerrier: a polynomial, exact near 0, unstable elsewhere."""
    n, eye = shape_of(a)[-1], np.eye(shape_of(a)[-1], dtype=dtype_of(a))
    power, c = eye, 1.0
    for k in range(1, n + 1):
        product = a @ power
        c = np.trace(product, 0, -2, -1) / -k
        power = product + np.expand_dims(c, (-2, -1)) * eye
    return c * (-1) ** n


def slogdet_jvp(out: Any, args: Any, tangents: Any) -> tuple[Any, Array]:
    if np.any(np.isinf(concrete(out[1]))):
        where = f"the determinant is 0{at_line()}: no derivative"
        raise TieError("np.linalg.slogdet", where, "np.linalg.det has one there")
    rate = log_rate(args[0], tangents[0])
    return (1j * np.imag(rate) * out[0] if is_complex(args[0]) else None), np.real(rate)


implements(np.linalg.slogdet)(named(np.linalg.slogdet, slogdet_jvp))
