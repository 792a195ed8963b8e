"""`compress` and `decompress`: a picture to bytes at a quality or a size, and the very same picture back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from eckart.applications.images.blocks import PIXEL_FRACTION
from eckart.applications.images.colour import NAMES, check_picture, to_picture
from eckart.applications.images.entropy import Decoder, Encoder
from eckart.applications.images.factors import receive_factors
from eckart.applications.images.file import Head, check_size, checksum, pack, unpack
from eckart.applications.images.layers import BLOCKS, Layer, Session, receive_blocks
from eckart.applications.images.quality import psnr, ssim
from eckart.applications.images.search import EXACTLY, TRIES, Source, find_step, step_for_rank
from eckart.checks import is_number
from eckart.errors import ImageError, UsageError
from eckart.linalg import Goal

CALL = "eckart.applications.images.compress"
DEFAULT_PSNR = 38.0
CLOSE_DB = 0.1  # a quality exceeded by no more than this is met
CLOSE_SIZE = 0.02  # octaves: a size is met when 98.6 % of it are used


@dataclass(frozen=True)
class CompressedImage:
    """A picture as bytes.

    Attributes
    ----------
    bytes : bytes
        The .eki file.
    shape : tuple of int
        Of the picture that came in.
    layers : tuple of Layer
        Of each plane: kind, size of its blocks, rank, step.
    psnr, ssim : float or None
        Of the decoded picture against the original; None where only the bytes are known.
    energy : float or None
        1 - |decoded - original|^2 / |original - its channels' means|^2.
    """

    bytes: bytes
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    psnr: float | None = None
    ssim: float | None = None
    energy: float | None = None

    @cached_property
    def _picture(self) -> NDArray[Any]:
        return decompress(self.bytes)

    def decode(self) -> NDArray[Any]:
        """Return the picture: the same samples wherever it is decoded."""
        return self._picture.reshape(self.shape).copy()

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the file over pixels of the picture."""
        return 8 * len(self.bytes) / (self.shape[0] * self.shape[1])

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes, as ``layers`` has them."""
        return NAMES[len(self.layers)]

    def __repr__(self) -> str:
        quality = "" if self.psnr is None else f", {self.psnr:.2f} dB"
        return f"CompressedImage({'x'.join(map(str, self.shape))}, {len(self.bytes):,} bytes{quality})"


def compress(
    picture: ArrayLike,
    *,
    rank: int | None = None,
    energy: float | None = None,
    psnr: float | None = None,
    size: int | None = None,
) -> CompressedImage:
    """Compress a picture by the SVD of its blocks, or of its planes where that is smaller.

    Parameters
    ----------
    picture : array_like (m, n) or (m, n, channels), uint8 or uint16
        Grey; grey and alpha; R, G, B; or R, G, B and alpha.
    rank : int, optional
        Keep this many of the 64 components of each 8 x 8 block.
    energy : float, optional
        Keep this share of the sum of squares about the channels' means.
    psnr : float, optional
        Reach this quality in decibels. 38 if nothing is asked for.
    size : int, optional
        Use at most this many bytes, and most of them.

    Returns
    -------
    CompressedImage
        Its ``psnr``, ``ssim`` and ``energy`` are measured on the decoded samples.

    Raises
    ------
    UsageError
        Two goals at once, one out of range or out of reach, or an array that is no picture.
    ImageError
        More than 2^26 pixels.
    MissingExtraError
        constriction is not installed.

    Notes
    -----
    Colour becomes Y, Cb, Cr. Each plane is cut into 8 x 8 or 16 x 16 blocks, whichever costs less, and each
    block is written in the basis of the SVD of all of them (less their means, which are coded apart);
    or the whole plane is written as the factors of its own truncated SVD. All coefficients are
    quantised with one step: where squared errors add up, bits are spent best where every component has
    the same slope of error against bits, and that slope depends on the step alone (reverse water-filling).
    The rank follows: components that lessen the error by less than their bits are worth are left out.
    Each coefficient becomes the integer for which error + BIT step^2 bits is least. The step is searched
    for until the goal is met on the decoded picture.

    Cost: three to six microseconds a pixel of colour on one core, more at higher quality; decoding, a tenth.
    Memory: some 200 bytes a pixel of colour.
    The weak points: quality is counted in squared error, not by eye; flat graphics with sharp edges are
    better as PNG or WebP, which predict from pixel to pixel.

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
    shape = np.shape(picture)
    given = {
        k: v for k, v in {"rank": rank, "energy": energy, "psnr": psnr, "size": size}.items() if v is not None
    }
    if len(given) > 1:
        raise UsageError(CALL, f"expected one of rank, energy, psnr, size, got {' and '.join(given)}")
    _check_goal(given)
    with threadpool_limits(1, user_api="blas"):  # of products of 8 x 8, more threads make a longer affair
        source = Source(full)
        return _with_ssim(_encoded(source, shape, rank, energy, psnr, size), source)


def _encoded(
    source: Source, shape: tuple[int, ...], rank: int | None, energy: float | None, psnr: float | None,
    size: int | None,
) -> CompressedImage:  # fmt: skip
    """Encode to the goal that was given, which has been checked."""
    if rank is not None:
        return _encode(source, shape, step_for_rank(source, int(rank)), int(rank))
    if size is not None:
        return _to_size(source, shape, int(size))
    if energy is not None:
        goal = Quality(f"energy={energy:g}", source.psnr_at_energy(float(energy)), energy=float(energy))
        return _to_quality(source, shape, goal)
    target = DEFAULT_PSNR if psnr is None else float(psnr)
    return _to_quality(source, shape, Quality(f"psnr={target:g}", target, psnr=target))


def decompress(data: bytes, where: str = "decompress(data)") -> NDArray[Any]:
    """Return the picture of an .eki file, (m, n) or (m, n, channels).

    Raises
    ------
    ImageError
        Not an .eki file, a damaged one, or one of more than 2^26 pixels.

    Notes
    -----
    The same bytes give the same samples on every machine: the decoder's arithmetic is on whole numbers,
    kept below 2^53 where float64 is used for speed. The file holds a checksum of the samples, which proves
    it each time.
    """
    head, payload = unpack(bytes(data), where)
    try:
        picture = _decode(head, payload)
    except ImageError as error:
        raise ImageError(where, error.what) from None
    except (AssertionError, ValueError, OverflowError, IndexError) as error:
        raise ImageError(where, f"its bits make no picture ({error})", "Fetch it again") from None
    if checksum(picture) != head.samples_crc:
        raise ImageError(
            where, "decodes to other samples than were written", "Write it again with this version"
        )
    return picture[..., 0] if head.channels == 1 else picture


def _decode(head: Head, payload: bytes) -> NDArray[Any]:
    session = Session(Decoder(payload))
    shape = (head.rows, head.columns)
    planes = [
        (receive_blocks if layer.kind == BLOCKS else receive_factors)(session, layer, shape)
        for layer in head.layers
    ]
    return to_picture(planes, head.depth, PIXEL_FRACTION)


def _encode(source: Source, shape: tuple[int, ...], step: int, rank: int | None = None) -> CompressedImage:
    """Encode with one step, decode again, and measure all but SSIM."""
    coder = Encoder()
    layers = source.send(Session(coder), step, rank)[0]
    payload, picture = coder.bytes(), source.picture
    head = Head(picture.shape[0], picture.shape[1], picture.shape[2], source.depth, 0, tuple(layers))
    decoded = _decode(head, payload)
    data = pack(replace(head, samples_crc=checksum(decoded)), payload)
    quality = psnr(picture, decoded)
    error = float(((picture.astype(np.float64) - decoded) ** 2).sum())
    energy = 1 - error / source.energy if source.energy else float(error == 0)
    done = CompressedImage(data, shape, tuple(layers), quality, None, energy)
    vars(done)["_picture"] = decoded  # what `decode` would find out again
    return done


def _with_ssim(done: CompressedImage, source: Source) -> CompressedImage:
    said = replace(done, ssim=ssim(source.picture, done._picture))
    vars(said)["_picture"] = done._picture
    return said


@dataclass(frozen=True)
class Quality:
    """A quality that was asked for: what it is called, the decibels to look for it at, and when it is met."""

    name: str
    decibels: float
    psnr: float = 0.0
    energy: float = 0.0

    def is_met(self, done: CompressedImage) -> bool:
        """Whether an encoded picture has it, as it decodes."""
        return (done.psnr or 0.0) >= self.psnr and (self.energy == 0.0 or (done.energy or 0.0) >= self.energy)


def _to_quality(source: Source, shape: tuple[int, ...], goal: Quality) -> CompressedImage:
    tried: dict[int, CompressedImage] = {}

    def over(step: int) -> float:
        tried[step] = _encode(source, shape, step)
        return min(tried[step].psnr or 0.0, EXACTLY) - goal.decibels

    _approach(lambda shift: find_step(source, psnr=goal.decibels + shift), over, CLOSE_DB)
    if not any(map(goal.is_met, tried.values())):
        over(source.finest)
    good = [step for step, done in tried.items() if goal.is_met(done)]
    if good:
        return tried[max(good)]
    best = tried[source.finest]
    raise UsageError(
        goal.name,
        f"is out of reach: the finest step gives {best.psnr:.2f} dB, energy {best.energy:.8g}",
        "Ask for less, or use PNG",
    )


def _to_size(source: Source, shape: tuple[int, ...], size: int) -> CompressedImage:
    tried: dict[int, CompressedImage] = {}

    def over(step: int) -> float:
        tried[step] = _encode(source, shape, step)
        return float(np.log2(size / len(tried[step].bytes)))

    _approach(lambda shift: find_step(source, size=size * 2.0**-shift), over, CLOSE_SIZE)
    good = [done for done in tried.values() if len(done.bytes) <= size]
    if not good and over(source.coarsest) >= 0:
        good = [tried[source.coarsest]]
    if good:
        return max(good, key=lambda done: done.psnr or 0.0)
    least = len(tried[source.coarsest].bytes)
    raise UsageError(f"size={size}", f"is out of reach: the least is {least} bytes", "Allow more bytes")


def _approach(find: Callable[[float], int], over: Callable[[int], float], close: float) -> None:
    """Try steps until a goal is exceeded by less than ``close``.

    The search by `find_step` goes by a sample of the picture and by sums over its planes. By how much
    that is off (``shift``) changes little from step to step, so that the second try is mostly the last.
    """
    shift, seen = 0.0, set[int]()
    for _ in range(TRIES):
        step = find(shift)
        if step in seen:
            return
        seen.add(step)
        miss = over(step)
        if 0 <= miss < close:
            return
        shift += close / 2 - miss


def _check_goal(given: dict[str, Any]) -> None:
    for kind in ("rank", "energy"):
        if kind in given:
            Goal(kind, given[kind])
    if "psnr" in given and (not is_number(given["psnr"]) or not 0 < given["psnr"] <= 100):
        raise UsageError(f"psnr={given['psnr']!r}", "expected decibels above 0 and at most 100")
    if "size" in given and (
        not is_number(given["size"]) or given["size"] != int(given["size"]) or given["size"] < 1
    ):
        raise UsageError(f"size={given['size']!r}", "expected a whole number of bytes")
