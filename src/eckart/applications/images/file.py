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
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from eckart.applications.images.blocks import SIZES
from eckart.applications.images.colour import Picture
from eckart.applications.images.layers import Layer, LayerKind
from eckart.errors import ImageError

MAGIC, VERSION = b"EKI", 1
HEADER = struct.Struct("<3sBBBIII")
ENTRY = struct.Struct("<BBHIbb")
CHECK = struct.Struct("<I")
MAX_PIXELS = 1 << 26  # 67 million: without a limit, a small file could exhaust the memory
MAX_SIDE = 1 << 20
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
    whole = start + entries + payload
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
    return Header(rows, columns, channels, depth, samples_crc, layers), payload


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
