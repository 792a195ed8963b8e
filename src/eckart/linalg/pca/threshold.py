"""How many singular values stand above white noise of unknown size."""

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
        (m, n) of the matrix; m - 1 rows count where their mean was taken off.

    Notes
    -----
    Keeps sigma > (lambda(beta) / sqrt(mu(beta))) median(sigma), beta = min/max of the shape, where mu is
    the median of the Marchenko-Pastur law: the cut that is best in mean square error, for large matrices,
    whatever the low-rank part is. lambda = 4/sqrt(3) for a square matrix; the edge of the noise itself,
    1 + sqrt(beta), lies lower, but what is barely above it is more noise than signal. Fails where the
    low-rank part is over half of all components, since the median is then no longer noise, and where
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
            "noise_rank", "needs every singular value, for their median", "Factor the whole spectrum"
        )
    if not spectrum.total:
        return 0
    beta = min(shape) / max(shape)
    best = np.sqrt(2 * (beta + 1) + 8 * beta / ((beta + 1) + np.sqrt(beta**2 + 14 * beta + 1)))
    threshold = best / np.sqrt(marchenko_pastur_median(beta)) * float(np.median(spectrum.values))
    return int(np.count_nonzero(spectrum.values > threshold))


@functools.cache
def marchenko_pastur_median(beta: float) -> float:
    """Return the median of the Marchenko-Pastur law of ratio ``beta`` in (0, 1].

    Notes
    -----
    The density is sqrt((b - x)(x - a)) / (2 pi beta x) on (a, b) = (1 -+ sqrt(beta))^2. With
    x = 1 + beta - 2 sqrt(beta) cos t it is smooth in t, so that the midpoint rule on 4096 points is right
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
    half = (t[1] - t[0]) / 2  # the sum up to a point is the integral up to the end of its interval
    middle = np.interp(0.5, share, t + half)
    return float(1 + beta - 2 * np.sqrt(beta) * np.cos(middle))
