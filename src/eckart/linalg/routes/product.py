"""The SVD of a product B A, from its factors, without forming it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from eckart.arrays import Bools, Floats, Ints
from eckart.errors import MatrixError
from eckart.linalg.backend import DeviceArray, as_matrix, ops_for
from eckart.linalg.routes.tall import Tall
from eckart.linalg.routes.triangle import equalised, triangle
from eckart.linalg.spectrum import Spectrum
from eckart.workers import Workers

S = TypeVar("S")
T = TypeVar("T")
EPS = float(np.finfo(np.float64).eps)

# Singular vectors are computed as products with the factors, with an error of eps times the norms of the
# factors over the singular value. Down to this share of the norms the error is at most 2e-10.
FAITHFUL = 1e-6


class Triplets(NamedTuple):
    """The leading singular triplets of a matrix.

    Parameters
    ----------
    U : array (m, k)
        Left singular vectors.
    s : ndarray (k,), float64
        Singular values, largest first.
    Vh : array (k, n)
        Right singular vectors, transposed.
    tail : float
        Energy (sum of sigma^2) of the components beyond the first k.
    """

    U: DeviceArray
    s: Floats
    Vh: DeviceArray
    tail: float


def svd_of_product(B: DeviceArray, A: DeviceArray) -> tuple[Triplets, Spectrum]:
    """Return the SVD of B A from the factors alone. Equivalent to ``numpy.linalg.svd(B @ A)``.

    Parameters
    ----------
    B : array (m, r)
    A : array (r, n)

    Returns
    -------
    triplets : Triplets
        At most min(m, n, r) of them: components below rounding (eps max(m, n) sigma_1, and eps times
        the norms of the factors times r or the root of max(m, n)) are dropped.
        The vectors have the dtype that came in, or float32 for smaller ones.
    spectrum : Spectrum
        All singular values.

    Raises
    ------
    MatrixError
        If the shapes do not chain, or a factor is not a real matrix or holds a NaN or an infinity.

    Notes
    -----
    B = Q_B R_B and A^T = Q_A R_A, so B A = Q_B (R_B R_A^T) Q_A^T, and the SVD of the r x r core is enough.
    Everything is computed in float64, where r columns are cheap; see `ProductCore`. Components are balanced
    between the factors first, so that 1e-100 times 1e100 is not lost on the way.

    Examples
    --------
    >>> triplets, spectrum = svd_of_product(np.array([[3.0], [4.0]]), np.array([[1.0, 0.0, 0.0]]))
    >>> triplets.s.tolist(), spectrum.size
    ([5.0], 2)
    """
    call = "LowRank.from_product(B, A)"
    B, A = as_matrix(B, call, may_be_empty=True), as_matrix(A, call, may_be_empty=True)
    ops = ops_for(B)
    left, right = ops.host(B), ops.host(A)
    if left.shape[1] != right.shape[0]:
        raise MatrixError(call, f"shapes {left.shape} and {right.shape} do not chain")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise MatrixError(call, "a factor holds a NaN or an infinity", "Replace it with a finite number")
    product = Product(Tall([left]), Tall([right.T]), np.ones(left.shape[1]))
    core = ProductCore.of(product)
    U, s, Vh, tail = core.cut(product, len(core.s))
    return Triplets(ops.like(U, B), s, ops.like(Vh, B), tail), core.spectrum


class Product(NamedTuple):
    """The matrix left diag(weights) right^T, of finite numbers.

    Parameters
    ----------
    left : Tall (m, r)
        B.
    right : Tall (n, r)
        A^T.
    weights : ndarray (r,), float64
        A factor for each component of B A.
    """

    left: Tall
    right: Tall
    weights: Floats


@dataclass(frozen=True)
class ProductCore:
    """Singular values of a product, and two small matrices that truncate it to any rank.

    Parameters
    ----------
    s : ndarray (k,), float64
        The singular values above rounding.
    to_left, to_right : ndarray (r, k), float64
        U = left @ to_left, V = right @ to_right.
    shape : (int, int)
        (m, n).
    faithful : int
        Number of leading components for which these are accurate; more components require orthogonalising
        the factors again.

    Notes
    -----
    Stores 2rk numbers, while the factors have r(m + n). Computing it costs (m + n)r^2 flops (see `triangle`)
    and the SVD of an r x r matrix; truncating costs 2(m + n)rk. All of them are matrix products.

    With B = Q_B R_B, A^T = Q_A R_A and the SVD P s Z^T of R_B R_A^T, U = B A V / s = B (R_A^T Z / s), and
    V^T = (P^T R_B / s) A. No factor is inverted, so each component is as accurate as its own size
    allows, however ill-conditioned the factors are.
    """

    s: Floats
    to_left: Floats
    to_right: Floats
    shape: tuple[int, int]
    faithful: int

    @classmethod
    def of(cls, product: Product, threads: int = 1) -> ProductCore:
        """Factor a product.

        Parameters
        ----------
        product : Product
        threads : int
            With 2 or more, both factors are processed at once, to the same bytes.

        Returns
        -------
        ProductCore
        """
        (m, r), n = product.left.shape, product.right.shape[0]
        nothing = cls(np.zeros(0), np.zeros((r, 0)), np.zeros((r, 0)), (m, n), 0)
        if not (m and n and r):
            return nothing
        left, right = _on_both(triangle, product.left, product.right, threads)
        middle, power = _middle(left.exponents + right.exponents, left.live & right.live, product.weights)
        if not middle.any():
            return nothing
        P, s, Zh = np.linalg.svd((left.R * middle) @ right.R.T, full_matrices=False)
        # Cancellation in B A leaves rounding of the size of the factors, not of sigma_1: a few eps for each
        # component, times the root of their length, with which the errors of Householder's QR grow.
        lengths = np.linalg.norm(left.R, axis=0) * np.linalg.norm(right.R, axis=0)
        norms = float(np.abs(middle) @ lengths)
        keep = int(np.count_nonzero(s > EPS * max(max(m, n) * s[0], max(r, max(m, n) ** 0.5) * norms)))
        s, scaled = s[:keep], middle[:, None] / s[:keep]
        to_left = np.ldexp(scaled * (right.R.T @ Zh[:keep].T), -left.exponents[:, None])
        to_right = np.ldexp(scaled * (left.R.T @ P[:, :keep]), -right.exponents[:, None])
        faithful = int(np.count_nonzero(s >= FAITHFUL * norms))
        return cls(np.ldexp(s, power), to_left, to_right, (m, n), faithful)

    @cached_property
    def spectrum(self) -> Spectrum:
        """All nonzero singular values of the product; the others are zero."""
        return Spectrum(self.s, size=min(self.shape))

    def cut(self, product: Product, rank: int) -> Triplets:
        """Return the leading singular triplets of the product that this core was computed from.

        Parameters
        ----------
        product : Product
        rank : int
            At most k.

        Returns
        -------
        Triplets
        """
        s, tail = self.s[:rank], float((self.s[rank:] ** 2).sum())
        if rank <= self.faithful:
            U, V = product.left @ self.to_left[:, :rank], product.right @ self.to_right[:, :rank]
            return Triplets(U, s, V.T, tail)
        U, Vh = _bases(product)
        return Triplets(U[:, :rank], s, Vh[:rank], tail)

    def factors(self, product: Product, rank: int, threads: int = 1) -> tuple[Floats, Floats]:
        """Return two factors of equal norm of the truncated product.

        Parameters
        ----------
        product : Product
            The product that this core was computed from.
        rank : int
            At most k.
        threads : int
            With 2 or more, both factors are computed at once, to the same bytes.

        Returns
        -------
        B : ndarray (m, rank), float64
            U sqrt(S).
        A : ndarray (rank, n), float64
            sqrt(S) V^T.
        """
        root = np.sqrt(self.s[:rank])
        if rank > self.faithful:
            U, _, Vh, _ = self.cut(product, rank)
            return U * root, root[:, None] * Vh
        left = product.left, self.to_left[:, :rank] * root
        right = product.right, self.to_right[:, :rank] * root
        B, A_T = _on_both(lambda pair: pair[0] @ pair[1], left, right, threads)
        return B, A_T.T


def _on_both(work: Callable[[S], T], left: S, right: S, threads: int) -> tuple[T, T]:
    """Apply a function to both sides of a product, at once if there are two threads."""
    if threads < 2:
        return work(left), work(right)
    with Workers(1) as pool:
        other = pool.submit(work, right)
        return work(left), other.result()


def _middle(exponents: Ints, live: Bools, weights: Floats) -> tuple[Floats, int]:
    """Return the diagonal between the scaled factors, at most 1, and the power of 2 it was divided by.

    This prevents a component with B near 1e14 and A near 1e-14 from drowning another in rounding, and
    preserves a component that is 1e-200 times 1e200.
    """
    fractions, powers = np.frexp(weights)
    exponents, live = exponents + powers, live & (fractions != 0)
    if not live.any():
        return np.zeros(len(live)), 0
    power = int(exponents[live].max())
    return np.where(live, np.ldexp(fractions, np.minimum(exponents - power, 0)), 0.0), power


def _bases(product: Product) -> tuple[Floats, Floats]:
    """Return all left and right singular vectors, by Householder's QR of both factors."""
    left, left_exponents, left_live = equalised(product.left)
    right, right_exponents, right_live = equalised(product.right)
    middle, _ = _middle(left_exponents + right_exponents, left_live & right_live, product.weights)
    Q_B, R_B = np.linalg.qr(left)
    Q_A, R_A = np.linalg.qr(right)
    P, _, Zh = np.linalg.svd((R_B * middle) @ R_A.T, full_matrices=False)
    return Q_B @ P, Zh @ Q_A.T
