"""`compress` and `decompress`: encode a picture for a given quality or size, and decode it exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from eckart.applications.images.blocks import PIXEL_FRACTION
from eckart.applications.images.colour import NAMES, Picture, check_picture, to_picture
from eckart.applications.images.entropy import Decoder, Encoder
from eckart.applications.images.factors import decode_factors
from eckart.applications.images.file import COPY_AGAIN, Header, check_size, checksum, pack, unpack
from eckart.applications.images.layers import Layer, LayerKind, Session, decode_blocks
from eckart.applications.images.quality import psnr, ssim
from eckart.applications.images.search import LOSSLESS_DB, MAX_TRIES, Source, find_step, step_for_rank
from eckart.checks import is_number
from eckart.errors import ImageError, UsageError
from eckart.linalg import Goal

CALL = "eckart.applications.images.compress"
DEFAULT_PSNR = 38.0
CLOSE_DB = 0.1  # the search stops when a quality is exceeded by less than this
CLOSE_SIZE = 0.02  # the search stops when the size is within this of the limit, in octaves: 98.6 % is used


@dataclass(frozen=True)
class CompressedImage:
    """A compressed picture.

    Attributes
    ----------
    bytes : bytes
        The .eki file.
    shape : tuple of int
        Shape of the original, (m, n) or (m, n, channels).
    layers : tuple of Layer
        How each plane is coded: kind, block size, rank, step.
    psnr, ssim : float or None
        Quality of the decoded picture against the original; None if only the bytes are known.
    energy : float or None
        1 - |decoded - original|^2 / |original - means of its channels|^2; None if only the bytes are known.
    samples : ndarray (m, n, channels) or None
        The decoded samples, which the encoder has computed already; None if only the bytes are known.
    """

    bytes: bytes
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    psnr: float | None = None
    ssim: float | None = None
    energy: float | None = None
    samples: Picture | None = field(default=None, repr=False, compare=False)

    def decode(self) -> Picture:
        """Return the decoded picture; the samples are the same on every machine."""
        samples = decompress(self.bytes) if self.samples is None else self.samples
        return samples.reshape(self.shape).copy()

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the file divided by the pixels of the picture."""
        return 8 * len(self.bytes) / (self.shape[0] * self.shape[1])

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes, in the order of ``layers``."""
        return NAMES[len(self.layers)]

    def __repr__(self) -> str:
        quality = "" if self.psnr is None else f", {self.psnr:.2f} dB"
        return f"CompressedImage({'x'.join(map(str, self.shape))}, {len(self.bytes):,} bytes{quality})"


@dataclass(frozen=True)
class Target:
    """What a compressed picture has to reach. At most one field is given; if none is, 38 dB."""

    rank: int | None = None
    energy: float | None = None
    psnr: float | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        if len(given) > 1:
            what = f"expected one of rank, energy, psnr, size, got {' and '.join(given)}"
            raise UsageError(CALL, what, "Pass only one of them")
        if self.rank is not None:
            Goal("rank", self.rank)
        if self.energy is not None:
            Goal("energy", self.energy)
        if self.psnr is not None and (not is_number(self.psnr) or not 0 < self.psnr <= 100):
            raise UsageError(f"psnr={self.psnr!r}", "expected decibels above 0 and at most 100")
        if self.size is not None and not _is_positive_integer(self.size):
            raise UsageError(f"size={self.size!r}", "expected a whole number of bytes, at least 1")


def _is_positive_integer(value: float) -> bool:
    return is_number(value) and value == int(value) and value >= 1


def compress(
    picture: ArrayLike,
    *,
    rank: int | None = None,
    energy: float | None = None,
    psnr: float | None = None,
    size: int | None = None,
) -> CompressedImage:
    """Compress a picture by the SVD of its blocks, or of whole planes where that is smaller.

    Parameters
    ----------
    picture : array_like (m, n) or (m, n, channels), uint8 or uint16
        Grey; grey and alpha; R, G, B; or R, G, B and alpha.
    rank : int, optional
        Keep this many of the 64 components of each 8 x 8 block.
    energy : float, optional
        Keep this share of the sum of squared deviations from the mean of each channel.
    psnr : float, optional
        Reach this quality in decibels. The default, if no target is given, is 38.
    size : int, optional
        Use at most this many bytes, and most of them.

    Returns
    -------
    CompressedImage
        Its ``psnr``, ``ssim`` and ``energy`` are measured on the decoded samples.

    Raises
    ------
    UsageError
        Two targets are given, one is invalid or cannot be reached, or the array is not a picture.
    ImageError
        The picture has more than 2^26 pixels.
    MissingExtraError
        constriction is not installed.

    Notes
    -----
    Colour is converted to Y, Cb, Cr. Each plane is cut into 8 x 8 or 16 x 16 blocks, whichever costs less.
    Each block is written in the basis of the SVD of all blocks of the plane, minus their means, which are
    coded separately. Alternatively the whole plane is written as the factors of its own truncated SVD. All
    coefficients are quantised with one step: squared errors add up, so a given number of bits leaves the
    least error when every component has the same slope of error against bits, and the step determines that
    slope (reverse water-filling). The rank follows from it: a component is dropped if it reduces the error by
    less than its bits are worth. Each coefficient becomes the integer for which error + BIT_PRICE step^2 bits
    is lowest. The step is searched for until the decoded picture reaches the target.

    Cost: three to six microseconds per colour pixel on one core, more at higher quality. Decoding takes a
    tenth of that. Memory: about 200 bytes per colour pixel.

    Limits: quality is measured as squared error, not as seen by the eye. Flat graphics with sharp edges are
    smaller as PNG or WebP, which predict pixels from their neighbours.

    References
    ----------
    Eckart and Young (1936). Cover and Thomas, "Elements of Information Theory", 10.3.3 (water-filling).
    Sullivan and Wiegand, IEEE Signal Processing Magazine 15 (1998) 74-90 (choices by error + lambda bits).

    Examples
    --------
    >>> y, x = np.mgrid[0:64, 0:64]
    >>> picture = (120 + 60 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    >>> small = compress(picture, psnr=40)
    >>> small.psnr >= 40, len(small.bytes) < picture.size / 10
    (True, True)
    >>> bool((decompress(small.bytes) == small.decode()).all())
    True
    """
    full = check_picture(picture, CALL)
    check_size(full.shape[0], full.shape[1], CALL)
    target = Target(rank, energy, psnr, size)
    with threadpool_limits(1, user_api="blas"):  # for products of 8 x 8, more threads only slow it down
        source = Source(full)
        image = _compress(source, np.shape(picture), target)
        return replace(image, ssim=ssim(full, image.decode().reshape(full.shape)))


def _compress(source: Source, shape: tuple[int, ...], target: Target) -> CompressedImage:
    if target.rank is not None:
        rank = int(target.rank)
        return _encode(source, shape, step_for_rank(source, rank), rank)
    if target.size is not None:
        return _to_size(source, shape, int(target.size))
    if target.energy is not None:
        energy = float(target.energy)
        quality = Quality(f"energy={energy:g}", source.psnr_at_energy(energy), energy=energy)
        return _to_quality(source, shape, quality)
    decibels = DEFAULT_PSNR if target.psnr is None else float(target.psnr)
    return _to_quality(source, shape, Quality(f"psnr={decibels:g}", decibels, psnr=decibels))


def decompress(data: bytes, where: str = "decompress(data)") -> Picture:
    """Decode an .eki file.

    Parameters
    ----------
    data : bytes
        The content of the file.
    where : str
        The name of the file, for error messages.

    Returns
    -------
    ndarray (m, n) or (m, n, channels), uint8 or uint16
        The picture.

    Raises
    ------
    ImageError
        The data is not an .eki file, is damaged, or has more than 2^26 pixels.
    MissingExtraError
        constriction is not installed.

    Notes
    -----
    The same bytes give the same samples on every machine: the decoder computes with integers, kept below 2^53
    where float64 is used for speed. The file contains a checksum of the samples, which is verified every
    time.
    """
    header, payload = unpack(bytes(data), where)
    try:
        picture = _decode(header, payload)
    except ImageError as error:
        raise ImageError(where, error.what) from None
    except (AssertionError, ValueError, OverflowError, IndexError) as error:
        raise ImageError(where, f"the coded data is invalid ({error})", COPY_AGAIN) from None
    if checksum(picture) != header.samples_crc:
        raise ImageError(
            where,
            "the decoded samples differ from those that were written",
            "Compress the original again with this release",
        )
    return picture[..., 0] if header.channels == 1 else picture


def _decode(header: Header, payload: bytes) -> Picture:
    session = Session(Decoder(payload))
    shape = (header.rows, header.columns)
    planes = []
    for layer in header.layers:
        decode = decode_blocks if layer.kind == LayerKind.BLOCKS else decode_factors
        planes.append(decode(session, layer, shape))
    return to_picture(planes, header.depth, PIXEL_FRACTION)


def _encode(source: Source, shape: tuple[int, ...], step: int, rank: int | None = None) -> CompressedImage:
    """Encode with one step, decode again, and measure everything but the SSIM."""
    coder = Encoder()
    layers = tuple(source.encode(Session(coder), step, rank)[0])
    payload, picture = coder.bytes(), source.picture
    header = Header(picture.shape[0], picture.shape[1], picture.shape[2], source.depth, 0, layers)
    decoded = _decode(header, payload)
    data = pack(replace(header, samples_crc=checksum(decoded)), payload)
    error = float(((picture.astype(np.float64) - decoded) ** 2).sum())
    energy = 1 - error / source.energy if source.energy else float(error == 0)
    return CompressedImage(data, shape, layers, psnr(picture, decoded), None, energy, decoded)


@dataclass(frozen=True)
class Quality:
    """A quality to reach.

    Attributes
    ----------
    name : str
        The target as the user gave it, for error messages.
    decibels : float
        The PSNR at which the search starts.
    psnr, energy : float
        The least PSNR and energy of the result; 0 if not required.
    """

    name: str
    decibels: float
    psnr: float = 0.0
    energy: float = 0.0

    def is_met(self, image: CompressedImage) -> bool:
        """Whether the decoded picture reaches the quality."""
        has_energy = self.energy == 0.0 or (image.energy or 0.0) >= self.energy
        return (image.psnr or 0.0) >= self.psnr and has_energy


def _to_quality(source: Source, shape: tuple[int, ...], quality: Quality) -> CompressedImage:
    tried: dict[int, CompressedImage] = {}

    def excess(step: int) -> float:
        tried[step] = _encode(source, shape, step)
        return min(tried[step].psnr or 0.0, LOSSLESS_DB) - quality.decibels

    _approach(lambda shift: find_step(source, psnr=quality.decibels + shift), excess, CLOSE_DB)
    if not any(map(quality.is_met, tried.values())):
        excess(source.finest)
    good = [step for step, image in tried.items() if quality.is_met(image)]
    if good:
        return tried[max(good)]
    best = tried[source.finest]
    raise UsageError(
        quality.name,
        f"this cannot be reached: the finest step gives {best.psnr:.2f} dB, energy {best.energy:.8g}",
        "Use a lower target, or PNG",
    )


def _to_size(source: Source, shape: tuple[int, ...], size: int) -> CompressedImage:
    tried: dict[int, CompressedImage] = {}

    def excess(step: int) -> float:
        tried[step] = _encode(source, shape, step)
        return float(np.log2(size / len(tried[step].bytes)))

    _approach(lambda shift: find_step(source, size=size * 2.0**-shift), excess, CLOSE_SIZE)
    good = [image for image in tried.values() if len(image.bytes) <= size]
    if not good and excess(source.coarsest) >= 0:
        good = [tried[source.coarsest]]
    if good:
        return max(good, key=lambda image: image.psnr or 0.0)
    smallest = len(tried[source.coarsest].bytes)
    raise UsageError(
        f"size={size}", f"this cannot be reached: the smallest file has {smallest} bytes", "Allow more bytes"
    )


def _approach(find: Callable[[float], int], excess: Callable[[int], float], close: float) -> None:
    """Try steps until a target is exceeded by less than ``close``.

    Parameters
    ----------
    find : callable
        Returns the step at which the estimate exceeds the target by a given amount.
    excess : callable
        Encodes at a step and returns by how much the target is exceeded.
    close : float
        The search stops when the target is exceeded by less than this.

    Notes
    -----
    `find_step` estimates from a sample of the picture and from sums over its planes. The error of the
    estimate changes little from step to step. It is added to the next estimate (``shift``), and the second
    try is usually the last.
    """
    shift, seen = 0.0, set[int]()
    for _ in range(MAX_TRIES):
        step = find(shift)
        if step in seen:
            return
        seen.add(step)
        margin = excess(step)
        if 0 <= margin < close:
            return
        shift += close / 2 - margin
