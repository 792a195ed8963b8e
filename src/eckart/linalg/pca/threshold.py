"""The number of singular values that stand out from white noise of unknown variance."""

from __future__ import annotations

import functools

import numpy as np

from eckart.errors import UsageError
from eckart.linalg.spectrum import Spectrum


def noise_rank(spectrum: Spectrum, shape: tuple[int, int]) -> int:
    """Return the number of singular values above the optimal hard threshold.

    Parameters
    ----------
    spectrum : Spectrum
        All singular values of a matrix that is low rank plus white noise.
    shape : (int, int)
        (m, n) of the matrix. Use m - 1 for m if the mean of the rows has been subtracted.

    Returns
    -------
    int
        Number of values above the threshold; 0 for a zero matrix.

    Raises
    ------
    UsageError
        If not all singular values are known.

    Notes
    -----
    Keeps sigma > (lambda(beta) / sqrt(mu(beta))) median(sigma), beta = min/max of the shape, where mu is
    the median of the Marchenko-Pastur law. For large matrices this threshold has the least mean square error,
    for any low-rank part. lambda = 4/sqrt(3) for a square matrix. The edge of the noise itself,
    1 + sqrt(beta), is lower, but components barely above it are more noise than signal. Fails if the
    low-rank part has more than half of all components, since the median is then no longer noise, and if
    the noise is not white.

    References
    ----------
    Gavish and Donoho (2014), The optimal hard threshold for singular values is 4/sqrt(3), IEEE
    Trans. Inf. Theory 60, equations 10 and 11. Marchenko and Pastur (1967).

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> A = 3 * random.standard_normal((200, 4)) @ random.standard_normal((4, 100))
    >>> noisy = A + random.standard_normal((200, 100))
    >>> noise_rank(Spectrum(np.linalg.svd(noisy, compute_uv=False)), noisy.shape)
    4
    """
    if not spectrum.complete:
        raise UsageError(
            "noise_rank",
            "expected all singular values, whose median it needs",
            "Use eckart.spectrum(A) to compute all of them",
        )
    if not spectrum.total:
        return 0
    beta = min(shape) / max(shape)
    best = np.sqrt(2 * (beta + 1) + 8 * beta / ((beta + 1) + np.sqrt(beta**2 + 14 * beta + 1)))
    threshold = best / np.sqrt(marchenko_pastur_median(beta)) * float(np.median(spectrum.values))
    return int(np.count_nonzero(spectrum.values > threshold))


@functools.cache
def marchenko_pastur_median(beta: float) -> float:
    """Return the median of the Marchenko-Pastur law.

    Parameters
    ----------
    beta : float
        Aspect ratio, above 0 and at most 1.

    Returns
    -------
    float
        Between (1 - sqrt(beta))^2 and (1 + sqrt(beta))^2.

    Raises
    ------
    UsageError
        If ``beta`` is out of range.

    Notes
    -----
    The density is sqrt((b - x)(x - a)) / (2 pi beta x) on (a, b) = (1 -+ sqrt(beta))^2. With
    x = 1 + beta - 2 sqrt(beta) cos t it is smooth in t, so the midpoint rule on 4096 points is accurate
    to about 1e-7.

    Examples
    --------
    >>> round(marchenko_pastur_median(1.0), 3), round(marchenko_pastur_median(0.5), 3)
    (0.653, 0.83)
    """
    if not 0 < beta <= 1:
        raise UsageError(f"beta={beta!r}", "expected a ratio above 0 and at most 1")
    t = (np.arange(4096) + 0.5) * (np.pi / 4096)
    x = 1 + beta - 2 * np.sqrt(beta) * np.cos(t)
    share = np.cumsum(np.sin(t) ** 2 / x)  # (b - x)(x - a) = 4 beta sin^2 t, and dx = 2 sqrt(beta) sin t dt
    share /= share[-1]
    half = (t[1] - t[0]) / 2  # the sum up to a point is the integral to the end of its interval
    middle = np.interp(0.5, share, t + half)
    return float(1 + beta - 2 * np.sqrt(beta) * np.cos(middle))
