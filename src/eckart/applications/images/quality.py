"""Measures of picture quality: PSNR and SSIM."""

from __future__ import annotations

import numpy as np

from eckart.applications.images.colour import Picture
from eckart.arrays import Floats
from eckart.errors import UsageError

# From the paper on SSIM: a Gaussian window of 11 points with a deviation of 1.5 pixels, K1 = 0.01, K2 = 0.03.
WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def peak_of(picture: Picture) -> float:
    """Return the largest value of the picture's dtype: 255 or 65535."""
    return float(np.iinfo(picture.dtype).max)


def psnr(original: Picture, other: Picture) -> float:
    """Return the peak signal-to-noise ratio in decibels.

    Parameters
    ----------
    original, other : ndarray (m, n) or (m, n, channels), uint8 or uint16
        Two pictures of the same shape and dtype.

    Returns
    -------
    float
        10 log10(peak^2 / mean squared error); infinite for equal pictures. The peak is 255 or 65535, and the
        mean includes all channels.

    Raises
    ------
    UsageError
        The shapes or dtypes differ, the dtype is not uint8 or uint16, or the pictures are empty.

    Examples
    --------
    >>> a = np.zeros((2, 2), np.uint8)
    >>> round(psnr(a, a + np.uint8(1)), 2)     # every pixel differs by one: 20 log10(255)
    48.13
    """
    _check_pair("psnr", original, other)
    error = float(np.mean((original.astype(np.float64) - other.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(peak_of(original) ** 2 / error))


def ssim(original: Picture, other: Picture) -> float | None:
    """Return the mean structural similarity of the brightness of two pictures.

    Parameters
    ----------
    original, other : ndarray (m, n) or (m, n, channels), uint8 or uint16
        Two pictures of the same shape and dtype. Of colour, 0.299 R + 0.587 G + 0.114 B is compared. Alpha is
        ignored.

    Returns
    -------
    float or None
        1 for equal pictures; None if a side is shorter than 11 pixels.

    Raises
    ------
    UsageError
        The shapes or dtypes differ, the dtype is not uint8 or uint16, or the pictures are empty.

    Notes
    -----
    Equation 13 of the paper, with its window and constants, averaged over all windows inside the picture.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE Transactions on Image Processing 13 (2004) 600-612.

    Examples
    --------
    >>> a = np.arange(256, dtype=np.uint8).reshape(16, 16)
    >>> ssim(a, a)
    1.0
    >>> ssim(a, np.uint8(255) - a) < 0
    True
    """
    _check_pair("ssim", original, other)
    x, y = luma(original), luma(other)
    if min(x.shape) < WINDOW:
        return None
    c1, c2 = (K1 * peak_of(original)) ** 2, (K2 * peak_of(original)) ** 2
    mx, my = _blur(x), _blur(y)
    vx, vy = _blur(x * x) - mx * mx, _blur(y * y) - my * my
    both = _blur(x * y) - mx * my
    similarity = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(similarity.mean())


def luma(picture: Picture) -> Floats:
    """Return the brightness of each pixel, (m, n)."""
    wide = picture.astype(np.float64)
    if wide.ndim == 2:
        return wide
    if wide.shape[2] < 3:
        return np.asarray(wide[..., 0])
    return np.asarray(wide[..., :3] @ np.array([0.299, 0.587, 0.114]))


def _blur(plane: Floats) -> Floats:
    """Average each 11 x 11 window inside the plane with Gaussian weights."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    m, n = plane.shape
    tall = sum(w * plane[i : m - WINDOW + 1 + i] for i, w in enumerate(weights))
    return np.asarray(sum(w * tall[:, i : n - WINDOW + 1 + i] for i, w in enumerate(weights)))


def _check_pair(call: str, original: Picture, other: Picture) -> None:
    if original.shape != other.shape or original.dtype != other.dtype:
        raise UsageError(
            f"{call}(original, other)",
            "expected two pictures of the same shape and dtype, "
            f"got {original.shape} {original.dtype} and {other.shape} {other.dtype}",
        )
    if original.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{call}(original, other)", f"expected uint8 or uint16 pixels, got {original.dtype}")
    if original.size == 0:
        raise UsageError(
            f"{call}(original, other)", f"the pictures are empty: their shape is {original.shape}"
        )
