"""The spectral norm with a proven upper bound, and spectral normalisation by that bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from eckart.arrays import Floats
from eckart.checks import is_number
from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import DeviceArray, as_matrix, check_energy, ops_for, scaled_to_safe_range
from eckart.linalg.routes.krylov import BlockKrylov
from eckart.linalg.seeds import seed_for

COLUMNS_PER_STEP = 8  # columns per step: few enough to be cheap, and too many for all of them to miss sigma_1

# A Krylov space of q steps from a random start in n dimensions misses more than a share e of sigma_1^2
# with probability at most KW sqrt(n) exp(-(2q - 1) sqrt(e)): Kuczynski and Wozniakowski (1992), thm 4.2.
KW = 1.648

FAILURE = 1e-12  # default probability that a bound by "random" is wrong
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class SpectralNorm:
    """Lower and upper bound on the largest singular value.

    Parameters
    ----------
    lower : float
        ||A v|| for a computed unit vector v: sigma_1 is at least this.
    upper : float
        sigma_1 is at most this.
    proof : {"cholesky", "random", "svd"}
        What the upper bound is based on: see `spectral_norm`.
    failure : float
        Probability, over the random start, that ``upper`` is too low; 0 except for "random".
    products : int
        Number of columns that A and its transpose were multiplied with.
    """

    lower: float
    upper: float
    proof: str
    failure: float = 0.0
    products: int = 0

    @property
    def value(self) -> float:
        """The lower bound, which is by far the better estimate of the two."""
        return self.lower

    @property
    def gap(self) -> float:
        """(upper - lower) / lower; 0 for a zero matrix."""
        return (self.upper - self.lower) / self.lower if self.lower else 0.0


def spectral_norm(
    A: DeviceArray,
    *,
    tolerance: float = 1e-3,
    proof: Literal["cholesky", "random"] = "cholesky",
    failure: float = FAILURE,
    seed: int = 0,
) -> SpectralNorm:
    """Return bounds on sigma_1 with a relative gap of at most ``tolerance``.

    Equivalent to ``numpy.linalg.norm(A, 2)``.

    Parameters
    ----------
    A : array_like (m, n)
        NumPy array or torch tensor.
    tolerance : float
        Stop when (upper - lower) / lower is at most this. Between 0 and 1; at least 1e-9 for "cholesky".
    proof : {"cholesky", "random"}
        What the upper bound is based on.
    failure : float
        For "random": the accepted probability that the upper bound is wrong. Between 0 and 1.
    seed : int
        Seed of the random start.

    Returns
    -------
    SpectralNorm
        The bounds, and how they were found.

    Raises
    ------
    MatrixError
        If A is not a real matrix, is empty, holds a NaN or an infinity, or has squares out of float64's
        range.
    UsageError
        If an argument is out of range.

    Notes
    -----
    The lower bound comes from a block Lanczos iteration, which is a power iteration that uses all earlier
    steps: 4 m n flops per column, and it converges after a few blocks. An iteration alone does not prove an
    upper bound, because it may have missed the direction of sigma_1 so far.

    * "cholesky": c is an upper bound if c^2 I - A^T A has a Cholesky factor. m n^2 + n^3/3 flops in float64
      for n <= m, about an eighth of the SVD. The float64 rounding of both steps, at most
      3 (m + n) eps ||A||_F^2, is added to c^2 (Rump, 2006). If there is no factor, the iteration continues.
    * "random": from a Gaussian start the iteration misses more than a known share of sigma_1 with a
      known, small probability, for any matrix. No flops beyond the iteration, but the bound
      improves only with the square of the steps: ``tolerance`` 0.001 takes hundreds of products.

    Both are replaced by the SVD when the iteration has exhausted the space.

    References
    ----------
    Kuczynski and Wozniakowski (1992), SIAM J. Matrix Anal. Appl. 13. Rump (2006), Verification of
    positive definiteness, BIT 46.

    Examples
    --------
    >>> norm = spectral_norm(np.array([[4.0, 0.0], [3.0, 5.0]]))
    >>> norm.lower <= 40 ** 0.5 * (1 + 1e-15) and 40 ** 0.5 <= norm.upper
    True
    >>> round(norm.value, 4), norm.gap <= 1e-3
    (6.3246, True)
    """
    matrix = as_matrix(A, "eckart.linalg.spectral_norm(A)")
    return _bounded(matrix, "eckart.linalg.spectral_norm(A)", tolerance, seed, proof, failure)


def _bounded(
    matrix: DeviceArray,
    call: str,
    tolerance: float,
    seed: int,
    proof: str = "cholesky",
    failure: float = FAILURE,
) -> SpectralNorm:
    """Bound the spectral norm of a real matrix; check its entries and all other arguments."""
    start = seed_for(seed)
    for name, value in (("tolerance", tolerance), ("failure", failure)):
        if not is_number(value) or not 0 < value < 1:
            raise UsageError(f"{name}={value!r}", "expected a number between 0 and 1")
    if proof not in ("cholesky", "random"):
        raise UsageError(f"proof={proof!r}", "expected 'cholesky' or 'random'")
    if proof == "cholesky" and tolerance < 1e-9:
        raise UsageError(f"tolerance={tolerance:g}", "expected at least 1e-9 for a proof in float64")
    total = ops_for(matrix).energy(matrix)
    check_energy(matrix, total, call)
    if total == 0.0:
        return SpectralNorm(0.0, 0.0, "svd")
    matrix, scale = scaled_to_safe_range(matrix, total)
    total = ops_for(matrix).energy(matrix)
    norm = _search(matrix, total, tolerance, proof, failure, start)
    return replace(norm, lower=norm.lower * scale, upper=norm.upper * scale)


def spectral_normalise(
    W: DeviceArray, bound: float = 1.0, *, tolerance: float = 1e-3, seed: int = 0
) -> DeviceArray:
    """Scale W to a spectral norm that is proven to be at most ``bound``, and is close to it.

    Parameters
    ----------
    W : array_like (m, n)
        NumPy array or torch tensor.
    bound : float
        Required Lipschitz constant of x -> W x, above 0.
    tolerance : float
        The norm of the result is between bound / (1 + tolerance) and bound. Between 0 and 1.
    seed : int
        Seed of the random start.

    Returns
    -------
    array (m, n)
        W * bound / upper, in float32 or float64, with an allowance for its rounding. Rounded further,
        for example to bfloat16, its norm may exceed the bound. A zero matrix stays zero.

    Raises
    ------
    MatrixError
        As for `spectral_norm`, or if the tolerance is below the rounding of W's dtype.
    UsageError
        If an argument is out of range.

    Notes
    -----
    Spectral normalisation in neural networks usually divides by the estimate of a power iteration. That is
    a lower bound, so the result is slightly too large. Dividing by the upper bound of `spectral_norm`
    keeps the result within the bound.

    References
    ----------
    Miyato, Kataoka, Koyama and Yoshida (2018), Spectral normalization for generative adversarial
    networks, equation 8.

    Examples
    --------
    >>> W = spectral_normalise(np.array([[4.0, 0.0], [3.0, 5.0]]))
    >>> bool(0.999 <= np.linalg.norm(W, 2) <= 1.0)
    True
    """
    if not is_number(bound) or bound <= 0:
        raise UsageError(f"bound={bound!r}", "expected a number above 0")
    call = "eckart.linalg.spectral_normalise(W)"
    matrix = as_matrix(W, call)
    eps = float(np.finfo(ops_for(matrix).dtype(matrix)).eps)
    if not is_number(tolerance) or not 0 < tolerance < 1:
        raise UsageError(f"tolerance={tolerance!r}", "expected a number between 0 and 1")
    norm = _bounded(matrix, call, tolerance / 2, seed)
    if not norm.upper:
        return matrix
    # Rounding every entry moves the norm by at most eps ||W||_F <= eps sqrt(rank) sigma_1.
    slack = 1 + eps * float(np.sqrt(min(matrix.shape)) + 2)
    if slack - 1 > tolerance / 2:
        raise MatrixError(
            call,
            f"the tolerance {tolerance:g} is below the rounding of the dtype, {eps:g}",
            "Use a larger tolerance",
        )
    return matrix * float(bound / (norm.upper * slack))


def _search(
    A: DeviceArray, total: float, tolerance: float, proof: str, failure: float, seed: list[int]
) -> SpectralNorm:
    """Iterate until the bounds are close enough. Squares of the entries of A must be in range."""
    krylov = BlockKrylov(A, total, seed)
    n = min(A.shape)
    block = min(COLUMNS_PER_STEP, n)
    wide = ops_for(A).host(A).astype(np.float64)
    steps, before, wait = 0, 0.0, 0
    while not krylov.exhausted:
        krylov.step(block)
        steps += 1
        lower = _stretch(wide, ops_for(A).host(krylov.triplets(1)[2])[0], total)
        if proof == "random":
            missed = _missed(n, steps, block, failure)
            rounding = EPS * (8 + wide.size)  # of the sum of squares and of the allowance of `_stretch`
            upper = float(min(lower / np.sqrt(1 - missed), np.sqrt(total))) * (1 + rounding)
            if upper <= lower * (1 + tolerance):
                return SpectralNorm(lower, upper, "random", failure, 2 * krylov.width)
        elif krylov.width >= wait and (krylov.exhausted or lower - before <= tolerance / 10 * lower):
            # The lower bound has nearly stopped growing, so a proof, which costs many steps, is worth it.
            proven = _proven(wide, lower * (1 + tolerance / 2), total)
            if proven is not None and proven <= lower * (1 + tolerance):
                return SpectralNorm(lower, proven, "cholesky", 0.0, 2 * krylov.width)
            wait = 2 * krylov.width
        before = lower
    values = np.linalg.svd(wide, compute_uv=False)  # the space is exhausted without a proof
    lower, rounding = float(values[0]), 4 * EPS * float(np.sqrt(max(A.shape)))
    return SpectralNorm(lower * (1 - rounding), lower * (1 + rounding), "svd", 0.0, 2 * krylov.width)


def _stretch(A: Floats, v: Floats, total: float) -> float:
    """Return ||A v|| / ||v|| in float64, minus the most that rounding can add, n eps ||A||_F."""
    v = v.astype(np.float64)
    rounding = EPS * len(v) * float(np.sqrt(total))
    return float(np.linalg.norm(A @ v) / np.linalg.norm(v)) * (1 - 4 * EPS) - rounding


def _missed(n: int, steps: int, block: int, failure: float) -> float:
    """Return the share e such that more than e sigma_1^2 is missed with probability at most ``failure``.

    The columns of the start are independent, and the space contains the space of each column alone, so
    the probability that all of them fail is the product of their probabilities.
    """
    each = failure ** (1 / block)
    root = np.log(KW * np.sqrt(n) / each) / (2 * steps - 1)
    return float(min(root, 1.0) ** 2) if root < 1 else 1.0 - 1e-16


def _proven(A: Floats, c: float, total: float) -> float | None:
    """Return an upper bound on sigma_1 just above ``c``, or None if c^2 I - A^T A is not definite."""
    gram = A @ A.T if A.shape[0] < A.shape[1] else A.T @ A
    try:
        np.linalg.cholesky(c * c * np.eye(len(gram)) - gram)
    except np.linalg.LinAlgError:
        return None
    rounding = 3 * sum(A.shape) * EPS * max(total, len(gram) * c * c)
    return float(np.sqrt(c * c + rounding))
