"""The same picture in the same bytes, by others: JPEG, WebP, and the plain truncated SVD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.applications.images.codec import CompressedImage
from eckart.applications.images.pictures import decode_picture, encode_picture
from eckart.applications.images.quality import psnr, ssim
from eckart.applications.images.ranks import float16_image

Encode = Callable[[NDArray[Any], int], bytes]


@dataclass(frozen=True)
class Rival:
    """What another format makes of a picture; None where it cannot hold it, or not in so few bytes."""

    name: str
    bytes: int | None = None
    psnr: float | None = None
    ssim: float | None = None
    why_not: str = ""


def compare(picture: NDArray[Any], done: CompressedImage, size: int | None = None) -> list[Rival]:
    """Return a compressed picture and its rivals, each in at most as many bytes.

    Parameters
    ----------
    picture : ndarray
        The original.
    done : CompressedImage
        Of that picture.
    size : int, optional
        The bytes that the rivals may take; those of ``done`` by default.

    Notes
    -----
    JPEG: Pillow's (libjpeg-turbo) with optimised Huffman tables, the highest quality that fits, with full or
    halved chroma, whichever has the higher PSNR. WebP: libwebp's slowest method, the highest quality that
    fits; its chroma is always halved. Both serve the eye: they spend less on colour and on fine detail than
    squared error would have them. Truncated SVD: float16 factors; see `float16_image`.
    """
    size = len(done.bytes) if size is None else size
    rivals = [Rival("eckart", len(done.bytes), done.psnr, done.ssim)]
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    wide = picture.dtype == np.uint16
    if wide or channels in (2, 4):
        rivals.append(Rival("JPEG", why_not="8 bits, no alpha"))
    else:
        chromas = (0, 2) if channels == 3 else (0,)  # Pillow's words for full and halved
        jpegs = [_best("JPEG", picture, size, _jpeg(chroma)) for chroma in chromas]
        rivals.append(max(jpegs, key=lambda rival: rival.psnr or 0))
    if wide:
        rivals.append(Rival("WebP", why_not="8 bits"))
    else:
        rivals.append(_best("WebP", picture, size, _webp))
    plain, taken = float16_image(picture, size)
    if taken <= size:
        rivals.append(Rival("SVD, float16", taken, psnr(picture, plain), ssim(picture, plain)))
    else:
        rivals.append(Rival("SVD, float16", why_not=f"rank 1 takes {taken} bytes"))
    return rivals


def _jpeg(chroma: int) -> Encode:
    def encode(picture: NDArray[Any], quality: int) -> bytes:
        return encode_picture(picture, "JPEG", quality=quality, optimize=True, subsampling=chroma)

    return encode


def _webp(picture: NDArray[Any], quality: int) -> bytes:
    return encode_picture(picture, "WEBP", quality=quality, method=6)


def _best(name: str, picture: NDArray[Any], size: int, encode: Encode) -> Rival:
    """Return the highest quality whose bytes fit, found by halving."""
    low, high, best = 1, 100, b""
    while low <= high:
        middle = (low + high) // 2
        data = encode(picture, middle)
        if len(data) <= size:
            low, best = middle + 1, data
        else:
            high = middle - 1
    if not best:
        return Rival(name, why_not=f"its least is {len(encode(picture, 1))} bytes")
    shown = decode_picture(best)
    if picture.ndim == 2 and shown.ndim == 3:  # WebP knows no grey
        shown = shown[..., 0]
    if shown.shape != picture.shape:
        return Rival(name, why_not="does not keep the channels")
    return Rival(name, len(best), psnr(picture, shown), ssim(picture, shown))
