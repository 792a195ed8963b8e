"""The textbook method: a picture as the leading terms of its SVD, at several ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eckart.applications.images.colour import Picture, check_picture
from eckart.applications.images.quality import peak_of, psnr
from eckart.arrays import Floats
from eckart.errors import UsageError
from eckart.linalg import LowRank, Spectrum, svd
from eckart.linalg.goal import Goal


@dataclass(frozen=True)
class RankImage:
    """A picture of rank r: each channel is the sum of its leading r terms sigma_i u_i v_i^T.

    Attributes
    ----------
    rank : int
        The rank of every channel.
    picture : ndarray (m, n) or (m, n, channels)
        The approximation, rounded to the dtype of the original.
    numbers : int
        Numbers stored: r (m + n + 1) per channel, for r columns each of U and V and r singular values.
    share : float
        ``numbers`` divided by the number of samples; at 1 or above, nothing is saved.
    error : float
        Relative Frobenius error over all channels, before rounding to pixels.
    energy : float
        Share of sum sigma^2 kept over all channels, before rounding to pixels.
    psnr : float
        Quality of ``picture`` in decibels.
    """

    rank: int
    picture: Picture
    numbers: int
    share: float
    error: float
    energy: float
    psnr: float


def rank_images(picture: ArrayLike, ranks: Sequence[int]) -> list[RankImage]:
    """Return the best approximations of a picture at several ranks.

    Equivalent to ``U[:, :r] * s[:r] @ Vh[:r]`` of ``numpy.linalg.svd`` for each channel.

    Parameters
    ----------
    picture : array_like (m, n) or (m, n, channels), uint8 or uint16
        The original.
    ranks : sequence of int
        Each at least 1; ranks above min(m, n) are reduced to min(m, n).

    Returns
    -------
    list of RankImage
        One for each rank, in the order given.

    Raises
    ------
    UsageError
        A rank is below 1, no rank is given, or the array is not a picture.

    Notes
    -----
    One SVD per channel is computed for all ranks. No picture of rank r is nearer in the Frobenius norm
    (Eckart and Young, 1936). Few pictures are close to low rank, however: `compress`, which uses the SVD of
    blocks, needs far fewer bytes.

    Examples
    --------
    >>> y, x = np.mgrid[0:100, 0:80]
    >>> waves = np.rint(127 + 60 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    >>> two, five = rank_images(waves, [2, 5])
    >>> two.numbers, five.numbers                   # of 8,000 pixels
    (362, 905)
    >>> two.error < 0.003                           # from rounding the original to pixels
    True
    """
    full = check_picture(picture, "rank_images(picture)")
    m, n, channels = full.shape
    wanted = [int(min(Goal("rank", rank).value, min(m, n))) for rank in ranks]
    if not wanted:
        raise UsageError("rank_images(ranks=[])", "expected at least one rank")
    whole = [svd(full[..., i].astype(np.float64), method="lapack") for i in range(channels)]
    total = sum(float((f.s**2).sum()) for f in whole)
    images = []
    for rank in wanted:
        truncated = [f.truncate(rank=rank) if rank < f.rank else f for f in whole]
        lost_energy = sum(float(Spectrum(f.s).tails[min(rank, f.rank)]) for f in whole)
        approximation = to_pixels([f.dense() for f in truncated], full)
        numbers = rank * (m + n + 1)
        images.append(
            RankImage(
                rank=rank,
                picture=approximation.reshape(np.shape(picture)),
                numbers=channels * numbers,
                share=numbers / (m * n),
                error=float(np.sqrt(lost_energy / total)) if total else 0.0,
                energy=1 - lost_energy / total if total else 1.0,
                psnr=psnr(full, approximation),
            )
        )
    return images


def float16_image(picture: Picture, size: int) -> tuple[Picture, int]:
    """Return the truncated SVD that fits into ``size`` bytes as float16 factors, and the bytes it needs.

    This is the baseline for `compress`. B = U sqrt(S) and A = sqrt(S) Vh of every channel take 2 r (m + n)
    bytes. The rank is the largest that fits, or 1 if none does.
    """
    full = check_picture(picture, "float16_image(picture)")
    m, n, channels = full.shape
    rank = int(np.clip(size // (2 * channels * (m + n)), 1, min(m, n)))
    planes = []
    for i in range(channels):
        B, A = _half(svd(full[..., i].astype(np.float64), rank=rank))
        planes.append(B @ A)
    return to_pixels(planes, full).reshape(picture.shape), 2 * channels * rank * (m + n)


def _half(factors: LowRank) -> tuple[Floats, Floats]:
    """Return the factors B and A after rounding to float16."""
    B, A = factors.factors()
    return B.astype(np.float16).astype(np.float64), A.astype(np.float16).astype(np.float64)


def to_pixels(planes: list[Floats], original: Picture) -> Picture:
    """Round planes (m, n) to pixels (m, n, channels) of the original's dtype."""
    return np.clip(np.rint(np.stack(planes, -1)), 0, peak_of(original)).astype(original.dtype)
