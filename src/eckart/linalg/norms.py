"""The spectral norm with a proof, and spectral normalisation by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eckart.arrays import Floats
from eckart.checks import is_number
from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import DeviceArray, as_matrix, check_energy, ops_for, scaled_to_safe_range
from eckart.linalg.routes.krylov import BlockKrylov, seed_for

BLOCK = 8  # columns a step: thin enough to be cheap, wide enough that chance cannot miss sigma_1

# A Krylov space of q steps from a random start in n dimensions misses more than a share e of sigma_1^2
# with probability at most KW sqrt(n) exp(-(2q - 1) sqrt(e)): Kuczynski and Wozniakowski (1992), thm 4.2.
KW = 1.648

FAILURE = 1e-12  # what a proof by chance may fail with
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class SpectralNorm:
    """The largest singular value between two bounds.

    Parameters
    ----------
    lower : float
        ||A v|| for a unit vector v in hand: sigma_1 is at least this.
    upper : float
        sigma_1 is at most this.
    proof : {"cholesky", "random", "svd"}
        What the upper bound rests on: see `spectral_norm`.
    failure : float
        Probability, over the random start, that ``upper`` is too low; 0 except for "random".
    products : int
        Columns that A and its transpose were multiplied with.
    """

    lower: float
    upper: float
    proof: str
    failure: float = 0.0
    products: int = 0

    @property
    def value(self) -> float:
        """The lower bound, which is by far the better estimate."""
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
    """Return sigma_1 between two bounds that are ``tolerance`` apart.

    Equivalent to ``numpy.linalg.norm(A, 2)``.

    Parameters
    ----------
    A : array_like (m, n)
        NumPy array or torch tensor.
    tolerance : float
        Stop when (upper - lower) / lower is at most this.
    proof : {"cholesky", "random"}
        What the upper bound rests on.
    failure : float
        For "random": the probability of a wrong upper bound that is accepted.
    seed : int
        Seeds the start.

    Returns
    -------
    SpectralNorm

    Raises
    ------
    MatrixError
        Not a real matrix, empty, a NaN or an infinity, or squares out of float64's range.
    UsageError
        An argument out of range.

    Notes
    -----
    The lower bound is a block Lanczos iteration, which is the power iteration with a memory: 4 m n
    flops a column, and it converges after a few blocks. No iteration alone proves an upper bound:
    it may not yet have seen sigma_1.

    * "cholesky": c is an upper bound if c^2 I - A^T A has a Cholesky factor. m n^2 + n^3/3 flops in float64
      for n <= m, about an eighth of the SVD. The float64 rounding of both steps, at most
      3 (m + n) eps ||A||_F^2, is added to c^2 (Rump, 2006); where it fails, the search goes on.
    * "random": from a Gaussian start the iteration misses more than a known share of sigma_1 with a
      known, small probability, whatever the matrix. No flops beyond the iteration, but the bound
      shrinks only with the square of the steps: ``tolerance`` 0.001 takes hundreds of products.

    Either gives way to the SVD once the iteration has nothing left to search.

    References
    ----------
    Kuczynski and Wozniakowski (1992), SIAM J. Matrix Anal. Appl. 13. Rump (2006), Verification of
    positive definiteness, BIT 46.

    Examples
    --------
    >>> found = spectral_norm(np.array([[4.0, 0.0], [3.0, 5.0]]))
    >>> found.lower <= 40 ** 0.5 * (1 + 1e-15) and 40 ** 0.5 <= found.upper
    True
    >>> round(found.value, 4), found.gap <= 1e-3
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
    """Bound the norm of a matrix, checked for its kind."""
    start = seed_for(seed)
    for name, value in (("tolerance", tolerance), ("failure", failure)):
        if not is_number(value) or not 0 < value < 1:
            raise UsageError(f"{name}={value!r}", "expected a number between 0 and 1")
    if proof not in ("cholesky", "random"):
        raise UsageError(f"proof={proof!r}", "expected 'cholesky' or 'random'")
    if proof == "cholesky" and tolerance < 1e-9:
        raise UsageError(f"tolerance={tolerance:g}", "a proof in float64 needs 1e-9 at least")
    total = ops_for(matrix).energy(matrix)
    check_energy(matrix, total, call)
    if total == 0.0:
        return SpectralNorm(0.0, 0.0, "svd")
    matrix, scale = scaled_to_safe_range(matrix, total)
    total = ops_for(matrix).energy(matrix)
    found = _search(matrix, total, tolerance, proof, failure, start)
    return SpectralNorm(found.lower * scale, found.upper * scale, found.proof, found.failure, found.products)


def spectral_normalise(
    W: DeviceArray, bound: float = 1.0, *, tolerance: float = 1e-3, seed: int = 0
) -> DeviceArray:
    """Return W scaled so that its spectral norm is proven to be at most ``bound``, and nearly that.

    Parameters
    ----------
    W : array_like (m, n)
        NumPy array or torch tensor.
    bound : float
        The Lipschitz constant that x -> W x shall have.
    tolerance : float
        The result's norm is between bound / (1 + tolerance) and bound.

    Returns
    -------
    array (m, n)
        W * bound / upper, in float32 or W's wider dtype, with its rounding allowed for. Rounded further,
        to bfloat16 say, it may be over the bound again. A zero matrix stays zero.

    Raises
    ------
    MatrixError
        As `spectral_norm`, or a tolerance under the rounding of W's dtype.
    UsageError
        An argument out of range.

    Notes
    -----
    Spectral normalisation as trained networks use it divides by a power iteration's estimate, which is
    a lower bound: the result is then a little too large. Dividing by the upper bound of `spectral_norm`
    errs to the safe side.

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
        raise MatrixError(call, f"tolerance {tolerance:g} is under the rounding of {eps:g}")
    return matrix * float(bound / (norm.upper * slack))


def _search(
    A: DeviceArray, total: float, tolerance: float, proof: str, failure: float, seed: list[int]
) -> SpectralNorm:
    """Iterate until the bounds are close; A is of a size whose squares are safe."""
    krylov = BlockKrylov(A, total, seed)
    n = min(A.shape)
    block = min(BLOCK, n)
    wide = ops_for(A).host(A).astype(np.float64)
    steps, before, wait = 0, 0.0, 0
    while not krylov.exhausted:
        krylov.step(block)
        steps += 1
        lower = _stretch(wide, ops_for(A).host(krylov.triplets(1)[2])[0], total)
        if proof == "random":
            missed = _missed(n, steps, block, failure)
            rounding = EPS * (8 + wide.size)  # of the sum of squares, and of what `_stretch` took off
            upper = float(min(lower / np.sqrt(1 - missed), np.sqrt(total))) * (1 + rounding)
            if upper <= lower * (1 + tolerance):
                return SpectralNorm(lower, upper, "random", failure, 2 * krylov.width)
        elif krylov.width >= wait and (krylov.exhausted or lower - before <= tolerance / 10 * lower):
            # It has all but stopped to grow: worth a proof, which costs as much as many steps.
            proven = _proven(wide, lower * (1 + tolerance / 2), total)
            if proven is not None and proven <= lower * (1 + tolerance):
                return SpectralNorm(lower, proven, "cholesky", 0.0, 2 * krylov.width)
            wait = 2 * krylov.width
        before = lower
    values = np.linalg.svd(wide, compute_uv=False)  # nothing is left to search, and nothing proven
    lower, rounding = float(values[0]), 4 * EPS * float(np.sqrt(max(A.shape)))
    return SpectralNorm(lower * (1 - rounding), lower * (1 + rounding), "svd", 0.0, 2 * krylov.width)


def _stretch(A: Floats, v: Floats, total: float) -> float:
    """||A v|| / ||v|| in float64, less the most that its own rounding can add, n eps ||A||_F."""
    v = v.astype(np.float64)
    rounding = EPS * len(v) * float(np.sqrt(total))
    return float(np.linalg.norm(A @ v) / np.linalg.norm(v)) * (1 - 4 * EPS) - rounding


def _missed(n: int, steps: int, block: int, failure: float) -> float:
    """Return the share of sigma_1^2 that is missed with probability at most ``failure``.

    The columns of the start are independent, and the space holds the one that each would have made
    alone: all of them fail together with the product of their probabilities.
    """
    each = failure ** (1 / block)
    root = np.log(KW * np.sqrt(n) / each) / (2 * steps - 1)
    return float(min(root, 1.0) ** 2) if root < 1 else 1.0 - 1e-16


def _proven(A: Floats, c: float, total: float) -> float | None:
    """Return an upper bound on sigma_1 just above ``c``, or None where c^2 I - A^T A is not definite."""
    gram = A @ A.T if A.shape[0] < A.shape[1] else A.T @ A
    try:
        np.linalg.cholesky(c * c * np.eye(len(gram)) - gram)
    except np.linalg.LinAlgError:
        return None
    rounding = 3 * sum(A.shape) * EPS * max(total, len(gram) * c * c)
    return float(np.sqrt(c * c + rounding))
