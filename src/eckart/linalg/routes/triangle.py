"""The triangle of a tall matrix, F = Q R, without Q: from its Gram matrix where that is good enough."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eckart.arrays import Bools, Floats, Ints
from eckart.linalg.routes.tall import Tall

# Bounds on ||R^-1||_F, for columns of length near 1. One Cholesky factorisation of the Gram matrix errs by
# eps times its square, 2e-10 at the first bound; a second mends that, up to the last, where the first fails.
ONE_PASS = 1e3
TWO_PASSES = 1e6

# Squares of column lengths that float64 holds with all digits, and so their entries' that matter.
SAFE = (2.0**-900, 2.0**900)


class Triangle(NamedTuple):
    """R of F = Q R diag(2**exponents) with orthonormal Q.

    Parameters
    ----------
    R : ndarray (min(m, r), r)
        Its columns have a length from 1/2 to 2, or a largest entry of F near 1; those where F is zero may
        hold anything.
    exponents : ndarray (r,) of int
    live : ndarray (r,) of bool
        Where F is not zero.
    """

    R: Floats
    exponents: Ints
    live: Bools


def triangle(F: Tall) -> Triangle:
    """Return the triangle of F (m, r), its columns brought to one size first.

    Equivalent to ``numpy.linalg.qr(F, mode="r")``.

    Notes
    -----
    CholeskyQR (mr^2 flops, all in one product): R from the Cholesky factor of F^T F, right to
    eps ||R^-1||^2. Where that is too much, CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, 2015;
    4mr^2): R_1 as before, R_2 from the Gram matrix of F R_1^-1, R = R_2 R_1. Where the columns are
    dependent to rounding, or nearly so, Householder's QR, eight times as slow as the first. Which one is
    decided by ||R^-1||, measured. Columns of one length make it as small as a scaling can, to a factor
    of sqrt(r) (van der Sluis, 1969): columns that are orthogonal, and of all sizes, take one pass.
    Their lengths are changed by powers of two, which rounds nothing.
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
    """Return F diag(2**-exponents), of columns with a largest entry near 1, and which of them are not 0."""
    whole = F.whole()
    peaks = np.abs(whole).max(axis=0)
    exponents = np.frexp(peaks)[1].astype(np.int64)
    return np.ldexp(whole, -exponents, out=whole), exponents, peaks > 0


def inverse_root(G: Floats) -> Floats | None:
    """Return W (r, d) with W^T G W = 1, so that F W is a basis of what F spans, for G = F^T F.

    d counts the columns that are not zero, nor so small that their squares are. None where that basis
    would be orthonormal to fewer than nine digits, or where squares are out of float64's range.
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
    """Return the Gram matrix of F diag(2**-exponents), of columns of length near 1, and which are not 0."""
    G = F.gram()
    before = np.zeros(len(G), np.int64)
    odd = ~_in_range(G.diagonal())
    if odd.any() and any(block[:, odd].any() for _, block in F.blocks()):
        scaled, before, _ = equalised(F)
        G = scaled.T @ scaled
    live = G.diagonal() > 0
    G, exponents = _one_length(G)
    return G, before + exponents, live


def _in_range(squares: Floats) -> Bools:
    return (squares >= SAFE[0]) & (squares <= SAFE[1])


def _one_length(G: Floats) -> tuple[Floats, Ints]:
    """Return G with columns of F of length near 1, those of zeros replaced by vectors of their own."""
    squares = G.diagonal()
    exponents = np.frexp(squares)[1].astype(np.int64) // 2
    G = np.ldexp(G, -(exponents[:, None] + exponents))
    np.fill_diagonal(G, np.where(squares > 0, G.diagonal(), 1.0))
    return G, exponents


def _cholesky(G: Floats) -> tuple[Floats, Floats, float] | None:
    """Return R with R^T R = G, its inverse and the size of that; None if G is singular to rounding."""
    try:
        R: Any = np.linalg.cholesky(G).T  # NumPy's stubs give every routine another dtype
        inverse: Any = np.linalg.inv(R)
    except np.linalg.LinAlgError:  # not positive definite to rounding: dependent columns
        return None
    return R, inverse, float(np.linalg.norm(inverse))


def _from_gram(F: Tall, G: Floats, exponents: Ints) -> Floats | None:
    """Return R from the Gram matrix; None where that is not to be had."""
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
