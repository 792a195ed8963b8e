"""Comparison of the codec with JPEG, WebP and the plain truncated SVD at the same number of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eckart.applications.images.codec import CompressedImage
from eckart.applications.images.colour import Picture
from eckart.applications.images.pictures import Subsampling, decode_picture, encode_jpeg, encode_webp
from eckart.applications.images.quality import psnr, ssim
from eckart.applications.images.ranks import float16_image

Encode = Callable[[Picture, int], bytes]
WEBP_METHOD = 6  # the slowest, which gives the smallest files


@dataclass(frozen=True)
class FormatResult:
    """The size and quality of a picture in one format.

    Attributes
    ----------
    name : str
        The format: ``"eckart"``, ``"JPEG"``, ``"WebP"`` or ``"SVD, float16"``.
    bytes : int or None
        Size of the file. None, like the next two, if the format cannot store the picture in the given size.
    psnr, ssim : float or None
        Quality of the decoded picture against the original; see `psnr` and `ssim`.
    why_not : str
        Why there is no result; empty if there is one.
    """

    name: str
    bytes: int | None = None
    psnr: float | None = None
    ssim: float | None = None
    why_not: str = ""


def compare(picture: Picture, compressed: CompressedImage, size: int | None = None) -> list[FormatResult]:
    """Compare a compressed picture with other formats that use at most as many bytes.

    Parameters
    ----------
    picture : ndarray (m, n) or (m, n, channels), uint8 or uint16
        The original.
    compressed : CompressedImage
        The result of `compress` for that picture.
    size : int, optional
        The number of bytes the other formats may use; by default, the size of ``compressed``.

    Returns
    -------
    list of FormatResult
        For this codec, JPEG, WebP, and the truncated SVD, in this order.

    Notes
    -----
    JPEG is Pillow's (libjpeg-turbo) with optimised Huffman tables, at the highest quality that fits, with
    full or halved chroma resolution, whichever has the higher PSNR. WebP is libwebp with its slowest method,
    at the highest quality that fits; it always halves the chroma resolution. Both are tuned for the eye: they
    spend fewer bits on colour and on fine detail than the least squared error requires. The truncated SVD has
    factors in float16; see `float16_image`.
    """
    size = len(compressed.bytes) if size is None else size
    results = [FormatResult("eckart", len(compressed.bytes), compressed.psnr, compressed.ssim)]
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    is_16_bit = picture.dtype == np.uint16
    if is_16_bit or channels in (2, 4):
        results.append(FormatResult("JPEG", why_not="it stores 8 bits per sample and no alpha"))
    else:
        choices = [Subsampling.NONE, Subsampling.HALVED] if channels == 3 else [Subsampling.NONE]
        jpegs = [_best("JPEG", picture, size, _jpeg(subsampling)) for subsampling in choices]
        results.append(max(jpegs, key=lambda result: result.psnr or 0))
    if is_16_bit:
        results.append(FormatResult("WebP", why_not="it stores 8 bits per sample"))
    else:
        results.append(_best("WebP", picture, size, _webp))
    plain, needed = float16_image(picture, size)
    if needed <= size:
        results.append(FormatResult("SVD, float16", needed, psnr(picture, plain), ssim(picture, plain)))
    else:
        results.append(FormatResult("SVD, float16", why_not=f"rank 1 needs {needed} bytes"))
    return results


def _jpeg(subsampling: Subsampling) -> Encode:
    def encode(picture: Picture, quality: int) -> bytes:
        return encode_jpeg(picture, quality, subsampling, optimize=True)

    return encode


def _webp(picture: Picture, quality: int) -> bytes:
    return encode_webp(picture, quality, WEBP_METHOD)


def _best(name: str, picture: Picture, size: int, encode: Encode) -> FormatResult:
    """Return the result at the highest quality that fits, found by bisection."""
    low, high, best = 1, 100, b""
    while low <= high:
        middle = (low + high) // 2
        data = encode(picture, middle)
        if len(data) <= size:
            low, best = middle + 1, data
        else:
            high = middle - 1
    if not best:
        return FormatResult(name, why_not=f"the smallest file has {len(encode(picture, 1))} bytes")
    decoded = decode_picture(best)
    if picture.ndim == 2 and decoded.ndim == 3:  # WebP has no grey pictures
        decoded = decoded[..., 0]
    if decoded.shape != picture.shape:
        return FormatResult(name, why_not="it does not keep the channels")
    return FormatResult(name, len(best), psnr(picture, decoded), ssim(picture, decoded))
