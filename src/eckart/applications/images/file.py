"""The file format .eki, version 1: a header of known size, the coded data, and two checksums.

    bytes      content (integers are little-endian)
    0..2       "EKI"
    3          version, 1
    4          channels: 1 grey; 2 grey, alpha; 3 colour; 4 colour, alpha
    5          bits per sample: 8 or 16
    6..9       rows
    10..13     columns
    14..17     CRC-32 of the decoded samples, row by row, 16-bit samples little-endian
    18..       one entry of 10 bytes per plane (grey or Y, Cb, Cr, then alpha):
                 kind (0 blocks, 1 factors), block size, rank (2 bytes), step in 2^-10 of a grey level
                 (4 bytes), reconstruction offsets of magnitude 1 and of greater ones in 1/32 step
                 (a signed byte each)
    ..         the words of the range coder
    last 4     CRC-32 of everything before

A reader checks the last checksum before decoding and the first one after decoding. It therefore returns
either exactly the samples that the writer measured, or an error.

A short file can describe a large picture. Before a reader decodes, it checks that the coded data can hold as
many numbers as the header promises, and that a picture of more than 2^20 pixels has at most 4096 pixels per
byte of the file. A writer appends zeros to the coded data of the rare picture that would exceed this.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from eckart.applications.images.blocks import SIZES, grid_of
from eckart.applications.images.colour import Picture
from eckart.applications.images.entropy import LEAST_BITS
from eckart.applications.images.layers import Layer, LayerKind
from eckart.errors import ImageError
from eckart.text import count

MAGIC, VERSION = b"EKI", 1
HEADER = struct.Struct("<3sBBBIII")
ENTRY = struct.Struct("<BBHIbb")
CHECK = struct.Struct("<I")
MAX_PIXELS = 1 << 26  # 67 million: without a limit, a small file could exhaust the memory
MAX_SIDE = 1 << 20
FREE_PIXELS = 1 << 20  # up to this size, a picture may have any number of pixels per byte
STATE_BITS = 64  # the range coder may hold back so many bits
PIXELS_PER_BYTE = 1 << 12  # photographs have at most a few hundred
COPY_AGAIN = "Download or copy the file again"


@dataclass(frozen=True)
class Header:
    """The header of a file: shape, bits per sample, checksum of the samples, and one layer per plane."""

    rows: int
    columns: int
    channels: int
    depth: int
    samples_crc: int
    layers: tuple[Layer, ...]


def pack(head: Header, payload: bytes) -> bytes:
    """Return the bytes of a file."""
    start = HEADER.pack(MAGIC, VERSION, head.channels, head.depth, head.rows, head.columns, head.samples_crc)
    entries = b"".join(
        ENTRY.pack(layer.kind, layer.size, layer.rank, layer.step, *layer.offsets) for layer in head.layers
    )
    lacking = least_bytes(head.rows, head.columns) - len(start) - len(entries) - len(payload) - CHECK.size
    whole = start + entries + payload + bytes(4 * -(-max(lacking, 0) // 4))  # in words of 4 bytes
    return whole + CHECK.pack(zlib.crc32(whole))


def unpack(data: bytes, where: str) -> tuple[Header, bytes]:
    """Return the header and the coded data of a file after checking both.

    Parameters
    ----------
    data : bytes
        The file.
    where : str
        The file name, for the error message.

    Raises
    ------
    ImageError
        The file is damaged, of another format or version, or too large.
    """
    if data[:3] != MAGIC:
        raise ImageError(where, "this is not an .eki file: it does not begin with EKI")
    if len(data) > 3 and data[3] != VERSION:
        raise ImageError(
            where,
            f"the file has format version {data[3]}, and this release reads version {VERSION}",
            "Update eckart",
        )
    if len(data) < HEADER.size + CHECK.size:
        raise ImageError(where, f"the file ends within its header, after {len(data)} bytes", COPY_AGAIN)
    _, _, channels, depth, rows, columns, samples_crc = HEADER.unpack_from(data)
    check_size(rows, columns, where)
    if zlib.crc32(data[: -CHECK.size]) != CHECK.unpack(data[-CHECK.size :])[0]:
        raise ImageError(where, "the file is damaged or cut short: its checksum does not match", COPY_AGAIN)
    at = HEADER.size + channels * ENTRY.size
    if channels not in (1, 2, 3, 4) or depth not in (8, 16) or at + CHECK.size > len(data):
        raise ImageError(where, f"the header is invalid: {channels} channels of {depth} bits")
    layers = tuple(_layer(data, i, rows, columns, where) for i in range(channels))
    payload = data[at : -CHECK.size]
    if len(payload) % 4:
        raise ImageError(where, f"expected coded data in words of 4 bytes, found {len(payload)} bytes")
    check_expansion(rows, columns, len(data), where)
    numbers = sum(numbers_in(layer, rows, columns) for layer in layers)
    if numbers * LEAST_BITS > 8 * len(payload) + STATE_BITS:
        raise ImageError(
            where,
            f"the header promises {count(numbers, 'coded number')}, more than "
            f"{count(len(payload), 'byte')} can hold",
            COPY_AGAIN,
        )
    return Header(rows, columns, channels, depth, samples_crc, layers), payload


def least_bytes(rows: int, columns: int) -> int:
    """Return the least size of a file that holds a picture of this shape."""
    pixels = rows * columns
    return 0 if pixels <= FREE_PIXELS else -(-pixels // PIXELS_PER_BYTE)


def check_expansion(rows: int, columns: int, size: int, where: str) -> None:
    """Raise `ImageError` for a picture that is too large for a file of this many bytes."""
    if size < least_bytes(rows, columns):
        raise ImageError(
            where,
            f"the header promises {rows} x {columns} pixels, too many for a file of {count(size, 'byte')}",
            COPY_AGAIN,
        )


def numbers_in(layer: Layer, rows: int, columns: int) -> int:
    """Return how many numbers are coded for a plane."""
    if layer.kind == LayerKind.FACTORS:
        return layer.rank * (rows + columns)
    down, across = grid_of((rows, columns), layer.size)
    return layer.rank * down * across + (layer.rank - 1) * layer.size**2


def _layer(data: bytes, plane: int, rows: int, columns: int, where: str) -> Layer:
    """Return the header entry of a plane after checking it."""
    kind, size, rank, step, *offsets = ENTRY.unpack_from(data, HEADER.size + plane * ENTRY.size)
    highest = size * size if kind == LayerKind.BLOCKS else min(rows, columns)
    is_known = kind == LayerKind.FACTORS or (kind == LayerKind.BLOCKS and size in SIZES)
    if not is_known or not 1 <= rank <= highest:
        raise ImageError(
            where, f"the header is invalid: plane {plane} has kind {kind}, block size {size}, rank {rank}"
        )
    return Layer(LayerKind(kind), size, rank, step, (offsets[0], offsets[1]))


def check_size(rows: int, columns: int, where: str) -> None:
    """Raise `ImageError` for an empty picture, or for one that could exhaust the memory."""
    if rows < 1 or columns < 1:
        raise ImageError(where, f"the picture is empty: {rows} x {columns} pixels")
    if rows * columns > MAX_PIXELS or max(rows, columns) > MAX_SIDE:
        raise ImageError(
            where,
            f"the picture has {rows} x {columns} pixels; "
            f"the limits are {MAX_PIXELS:,} in all and {MAX_SIDE:,} per side",
            "Scale it down, or cut it into parts",
        )


def checksum(samples: Picture) -> int:
    """Return the CRC-32 of samples; it does not depend on the byte order of the machine."""
    return zlib.crc32(samples.astype(samples.dtype.newbyteorder("<"), order="C").tobytes())
