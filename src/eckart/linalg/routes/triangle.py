"""The triangle R of a tall matrix F = Q R, without Q, from the Gram matrix if that is accurate enough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eckart.arrays import Bools, Floats, Ints
from eckart.linalg.routes.tall import Tall

# Bounds on ||R^-1||_F, for columns of length near 1. The error of one Cholesky factorisation of the Gram
# matrix is eps times its square, 2e-10 at the first bound. A second one corrects that, up to the second
# bound, where the first factorisation fails.
ONE_PASS = 1e3
TWO_PASSES = 1e6

# Range of squared column lengths in which float64 keeps all digits, also of the entries that matter.
SAFE = (2.0**-900, 2.0**900)


class Triangle(NamedTuple):
    """R of F = Q R diag(2**exponents) with orthonormal Q.

    Parameters
    ----------
    R : ndarray (min(m, r), r)
        Its columns have a length from 1/2 to 2, or belong to columns of F with a largest entry near 1.
        Columns where F is zero have arbitrary entries.
    exponents : ndarray (r,) of int
        Powers of two that the columns were divided by.
    live : ndarray (r,) of bool
        Whether the column of F is nonzero.
    """

    R: Floats
    exponents: Ints
    live: Bools


def triangle(F: Tall) -> Triangle:
    """Return the triangle of F, after scaling its columns to similar lengths.

    Equivalent to ``numpy.linalg.qr(F, mode="r")``.

    Parameters
    ----------
    F : Tall (m, r)
        Finite.

    Returns
    -------
    Triangle

    Notes
    -----
    CholeskyQR (mr^2 flops, all in one product): R from the Cholesky factor of F^T F, accurate to
    eps ||R^-1||^2. If that is too much, CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, 2015;
    4mr^2): R_1 as before, R_2 from the Gram matrix of F R_1^-1, R = R_2 R_1. If the columns are
    dependent to rounding, or nearly so, Householder's QR, eight times slower than the first. The measured
    ||R^-1|| decides between them. Columns of equal length make it as small as scaling can, up to a factor
    of sqrt(r) (van der Sluis, 1969), so orthogonal columns of any sizes take one pass. The columns are
    scaled by powers of two, which rounds nothing.
    """
    m, r = F.shape
    if m > 2 * r:
        G, exponents, live = _gram(F)
        R = _from_gram(F, G, exponents)
        if R is not None:
            return Triangle(R, exponents, live)
    scaled, exponents, live = equalised(F)
    return Triangle(np.asarray(np.linalg.qr(scaled, mode="r")), exponents, live)


def equalised(F: Tall) -> tuple[Floats, Ints, Bools]:
    """Scale the columns of F to a largest entry near 1.

    Parameters
    ----------
    F : Tall (m, r)

    Returns
    -------
    scaled : ndarray (m, r), float64
        F diag(2**-exponents).
    exponents : ndarray (r,) of int
    live : ndarray (r,) of bool
        Whether the column is nonzero.
    """
    whole = F.whole()
    peaks = np.abs(whole).max(axis=0)
    exponents = np.frexp(peaks)[1].astype(np.int64)
    return np.ldexp(whole, -exponents, out=whole), exponents, peaks > 0


def inverse_root(G: Floats) -> Floats | None:
    """Return W with W^T G W = 1 for G = F^T F, so that F W is an orthonormal basis of the columns of F.

    Parameters
    ----------
    G : ndarray (r, r), float64

    Returns
    -------
    ndarray (r, d), float64, or None
        d is the number of columns of F whose squares are not zero. None if the basis would be orthonormal to
        fewer than nine digits, or if squares are out of float64's range.
    """
    squares = G.diagonal()
    live = squares > 0
    if not ((squares == 0) | _in_range(squares)).all():
        return None
    G, exponents = _one_length(G)
    root = _cholesky(G)
    if root is None or root[2] > ONE_PASS:
        return None
    return np.ldexp(root[1], -exponents[:, None])[:, live]


def _gram(F: Tall) -> tuple[Floats, Ints, Bools]:
    """Return the Gram matrix of F diag(2**-exponents) with columns of length near 1, exponents and live."""
    G = F.gram()
    before = np.zeros(len(G), np.int64)
    extreme = ~_in_range(G.diagonal())
    if extreme.any() and any(block[:, extreme].any() for _, block in F.blocks()):
        scaled, before, _ = equalised(F)
        G = scaled.T @ scaled
    live = G.diagonal() > 0
    G, exponents = _one_length(G)
    return G, before + exponents, live


def _in_range(squares: Floats) -> Bools:
    return (squares >= SAFE[0]) & (squares <= SAFE[1])


def _one_length(G: Floats) -> tuple[Floats, Ints]:
    """Scale G to columns of F of length near 1; replace columns of zeros by independent unit vectors."""
    squares = G.diagonal()
    exponents = np.frexp(squares)[1].astype(np.int64) // 2
    G = np.ldexp(G, -(exponents[:, None] + exponents))
    np.fill_diagonal(G, np.where(squares > 0, G.diagonal(), 1.0))
    return G, exponents


def _cholesky(G: Floats) -> tuple[Floats, Floats, float] | None:
    """Return R with R^T R = G, its inverse and the size of that; None if G is singular to rounding."""
    try:
        R: Floats = np.asarray(np.linalg.cholesky(G).T, np.float64)
        inverse: Floats = np.asarray(np.linalg.inv(R), np.float64)
    except np.linalg.LinAlgError:  # not positive definite to rounding: dependent columns
        return None
    return R, inverse, float(np.linalg.norm(inverse))


def _from_gram(F: Tall, G: Floats, exponents: Ints) -> Floats | None:
    """Return R from the Gram matrix, or None if that is not accurate enough."""
    root = _cholesky(G)
    if root is None or root[2] > TWO_PASSES:
        return None
    R, inverse, size = root
    if size < ONE_PASS:
        return R
    W, again = np.ldexp(inverse, -exponents[:, None]), np.zeros_like(G)
    for _, block in F.blocks():
        Q = block @ W
        again += Q.T @ Q
    second = _cholesky(_one_length(again)[0])
    return None if second is None else second[0] @ R
