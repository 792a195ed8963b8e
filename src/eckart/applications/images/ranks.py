"""The classic: a picture as the leading terms of its SVD, at several ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eckart.applications.images.colour import check_picture
from eckart.applications.images.quality import peak_of, psnr
from eckart.errors import UsageError
from eckart.linalg import LowRank, Spectrum, svd
from eckart.linalg.goal import Goal


@dataclass(frozen=True)
class RankImage:
    """A picture of rank r: every channel the sum of its leading r terms sigma_i u_i v_i^T.

    Attributes
    ----------
    rank : int
    picture : ndarray
        Rounded to the original's dtype.
    numbers : int
        What is stored: r (m + n + 1) to a channel, r columns of U and V and r singular values.
    share : float
        ``numbers`` over the m n of the pixels; over 1, nothing is saved.
    error, energy : float
        Relative Frobenius error, and share of sum sigma^2 kept, before rounding to pixels, over all channels.
    psnr : float
        Of ``picture``, in decibels.
    """

    rank: int
    picture: NDArray[Any]
    numbers: int
    share: float
    error: float
    energy: float
    psnr: float


def rank_images(picture: ArrayLike, ranks: Sequence[int]) -> list[RankImage]:
    """Return the best approximations of a picture at several ranks.

    Equivalent to ``U[:, :r] * s[:r] @ Vh[:r]`` of ``numpy.linalg.svd``, channel by channel.

    Parameters
    ----------
    picture : array_like (m, n) or (m, n, channels), uint8 or uint16
    ranks : sequence of int
        Each at least 1; over min(m, n) it counts as min(m, n).

    Notes
    -----
    One SVD a channel serves all ranks. No picture of rank r is nearer in the Frobenius norm (Eckart and
    Young, 1936), and yet few pictures are near to low rank: `compress`, which takes the SVD of blocks,
    needs far fewer bytes.

    Examples
    --------
    >>> y, x = np.mgrid[0:100, 0:80]
    >>> waves = np.rint(127 + 60 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    >>> two, five = rank_images(waves, [2, 5])
    >>> two.numbers, five.numbers                   # of 8,000 pixels
    (362, 905)
    >>> two.error < 0.003                           # the rounding of the original to pixels
    True
    """
    full = check_picture(picture, "rank_images(picture)")
    m, n, channels = full.shape
    wanted = [int(min(Goal("rank", rank).value, min(m, n))) for rank in ranks]
    if not wanted:
        raise UsageError("rank_images(ranks=[])", "expected at least one rank")
    whole = [svd(full[..., i].astype(np.float64), method="lapack") for i in range(channels)]
    total = sum(float((f.s**2).sum()) for f in whole)
    found = []
    for rank in wanted:
        cut = [f.truncate(rank=rank) if rank < f.rank else f for f in whole]
        left = sum(float(Spectrum(f.s).left[min(rank, f.rank)]) for f in whole)
        shown = to_pixels([f.dense() for f in cut], full)
        numbers = rank * (m + n + 1)
        found.append(
            RankImage(
                rank,
                shown.reshape(np.shape(picture)),
                channels * numbers,
                numbers / (m * n),
                float(np.sqrt(left / total)) if total else 0.0,
                1 - left / total if total else 1.0,
                psnr(full, shown),
            )
        )
    return found


def float16_image(picture: NDArray[Any], size: int) -> tuple[NDArray[Any], int]:
    """Return the truncated SVD that fits into ``size`` bytes as float16 factors, and the bytes it takes.

    What `compress` has to beat: B = U sqrt(S) and A = sqrt(S) Vh of every channel, 2 r (m + n) bytes each.
    The largest rank that fits is taken; at least 1, whether it fits or not.
    """
    full = check_picture(picture, "float16_image(picture)")
    m, n, channels = full.shape
    rank = int(np.clip(size // (2 * channels * (m + n)), 1, min(m, n)))
    planes = []
    for i in range(channels):
        B, A = _half(svd(full[..., i].astype(np.float64), rank=rank))
        planes.append(B @ A)
    return to_pixels(planes, full).reshape(picture.shape), 2 * channels * rank * (m + n)


def _half(factors: LowRank) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    B, A = factors.factors()
    return B.astype(np.float16).astype(np.float64), A.astype(np.float16).astype(np.float64)


def to_pixels(planes: list[NDArray[np.float64]], like: NDArray[Any]) -> NDArray[Any]:
    """Round planes to pixels of a picture's dtype."""
    return np.clip(np.rint(np.stack(planes, -1)), 0, peak_of(like)).astype(like.dtype)
