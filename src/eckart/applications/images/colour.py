"""Conversion between pictures and the planes that are coded separately; the way back uses integers only."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eckart.arrays import Floats, Ints
from eckart.errors import UsageError

Picture: TypeAlias = NDArray[np.uint8 | np.uint16]

# The conversion of JPEG (ITU-T T.871) from Y, Cb, Cr (brightness and two colour differences) to R, G, B,
# rounded to units of 2^-14. FORWARD is the inverse of these rounded numbers, so a round trip loses nothing.
RED_CR, GREEN_CB, GREEN_CR, BLUE_CB = 22970, 5638, 11700, 29032
UNIT = 14
BACK = np.array([[1 << UNIT, 0, RED_CR], [1 << UNIT, -GREEN_CB, -GREEN_CR], [1 << UNIT, BLUE_CB, 0]])
FORWARD: Floats = np.asarray(np.linalg.inv(BACK / (1 << UNIT)), np.float64)

NAMES = {1: ("grey",), 2: ("grey", "alpha"), 3: ("Y", "Cb", "Cr"), 4: ("Y", "Cb", "Cr", "alpha")}


def check_picture(picture: ArrayLike, call: str) -> Picture:
    """Return a picture as an array (m, n, channels), after checking its dtype and shape.

    Parameters
    ----------
    picture : array_like (m, n) or (m, n, channels)
        Samples of uint8 or uint16 in either byte order.
    call : str
        The name of the calling function, for the error message.
    """
    array = np.asarray(picture)
    if array.dtype.kind == "u":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.uint8, np.uint16):
        raise UsageError(
            call,
            f"expected pixels of uint8 or uint16, got {array.dtype}",
            "Scale to 0..255 and convert with numpy.rint(x).astype(numpy.uint8)",
        )
    full = array[..., None] if array.ndim == 2 else array
    if full.ndim != 3 or 0 in full.shape or full.shape[2] > 4:
        raise UsageError(
            call,
            f"expected shape (rows, columns) or (rows, columns, 1 to 4), got {array.shape}",
            "Use a last axis of grey; grey, alpha; R, G, B; or R, G, B, alpha",
        )
    return full


def to_planes(picture: Picture) -> list[Floats]:
    """Return the planes of a picture (m, n, channels), shifted so that mid-grey is zero."""
    middle = float(1 << (8 * picture.dtype.itemsize - 1))
    wide = picture.astype(np.float64)
    if picture.shape[2] < 3:
        return [wide[..., i] - middle for i in range(picture.shape[2])]
    colours = wide[..., :3] @ FORWARD.T
    planes = [colours[..., 0] - middle, colours[..., 1], colours[..., 2]]
    return [*planes, *(wide[..., i] - middle for i in range(3, picture.shape[2]))]


def to_picture(planes: list[Ints], depth: int, fraction: int) -> Picture:
    """Return the picture (m, n, channels) of some planes, using integer arithmetic only.

    Parameters
    ----------
    planes : list of int64 (m, n)
        The planes in units of 2^-fraction.
    depth : {8, 16}
        Bits per sample.
    fraction : int
        Fractional bits of the planes.
    """
    middle = np.int64(1) << (depth - 1 + fraction)
    if len(planes) < 3:
        channels = [_round(plane + middle, fraction) for plane in planes]
    else:
        y, cb, cr = ((planes[0] + middle) << UNIT), planes[1], planes[2]
        channels = [
            _round(y + RED_CR * cr, fraction + UNIT),
            _round(y - GREEN_CB * cb - GREEN_CR * cr, fraction + UNIT),
            _round(y + BLUE_CB * cb, fraction + UNIT),
            *(_round(plane + middle, fraction) for plane in planes[3:]),
        ]
    pixels = np.clip(np.stack(channels, -1), 0, (1 << depth) - 1)
    return pixels.astype(np.uint8 if depth == 8 else np.uint16)


def _round(values: Ints, bits: int) -> Ints:
    return np.asarray((values + (1 << (bits - 1))) >> bits)
