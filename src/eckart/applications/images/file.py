"""The file format .eki, version 1: a head of known size, the bits, and two checksums.

    bytes      what (integers little-endian)
    0..2       "EKI"
    3          version, 1
    4          channels: 1 grey; 2 grey, alpha; 3 colour; 4 colour, alpha
    5          bits of a sample: 8 or 16
    6..9       rows
    10..13     columns
    14..17     CRC-32 of the decoded samples, row by row, 16-bit samples little-endian
    18..       one entry of 10 bytes to a plane (grey or Y, Cb, Cr, then alpha):
                 kind (0 blocks, 1 factors), size of a block, rank (2 bytes), step in 2^-10 of a grey level
                 (4 bytes), by how much ones and greater magnitudes overstate, in 1/32 (a signed byte each)
    ..         the range coder's words
    last 4     CRC-32 of everything before

A reader checks the last sum before it decodes anything, and the first after it has decoded: it gives back
the very samples that the writer measured, or an error.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from eckart.applications.images.blocks import SIZES
from eckart.applications.images.layers import BLOCKS, FACTORS, Layer
from eckart.errors import ImageError

MAGIC, VERSION = b"EKI", 1
HEAD = struct.Struct("<3sBBBIII")
ENTRY = struct.Struct("<BBHIbb")
CHECK = struct.Struct("<I")
MAX_PIXELS = 1 << 26  # 67 million: beyond, a small file could ask for all memory there is
MAX_SIDE = 1 << 20


@dataclass(frozen=True)
class Head:
    """What a file says before its bits."""

    rows: int
    columns: int
    channels: int
    depth: int
    samples_crc: int
    layers: tuple[Layer, ...]


def pack(head: Head, payload: bytes) -> bytes:
    """Return a file."""
    start = HEAD.pack(MAGIC, VERSION, head.channels, head.depth, head.rows, head.columns, head.samples_crc)
    entries = b"".join(
        ENTRY.pack(layer.kind, layer.size, layer.rank, layer.step, *layer.overstated) for layer in head.layers
    )
    whole = start + entries + payload
    return whole + CHECK.pack(zlib.crc32(whole))


def unpack(data: bytes, where: str) -> tuple[Head, bytes]:
    """Return the head and the bits of a file, after all its checks; raises `ImageError`."""
    if data[:3] != MAGIC:
        raise ImageError(where, "is not an .eki file: it does not begin with EKI")
    if len(data) > 3 and data[3] != VERSION:
        raise ImageError(
            where, f"is of version {data[3]}, and this eckart reads version {VERSION}", "Update eckart"
        )
    if len(data) < HEAD.size + CHECK.size:
        raise ImageError(where, f"ends after {len(data)} bytes, within its head", "Fetch it again")
    _, _, channels, depth, rows, columns, samples_crc = HEAD.unpack_from(data)
    check_size(rows, columns, where)
    if zlib.crc32(data[: -CHECK.size]) != CHECK.unpack(data[-CHECK.size :])[0]:
        raise ImageError(where, "is damaged or cut short: its checksum does not match", "Fetch it again")
    at = HEAD.size + channels * ENTRY.size
    if channels not in (1, 2, 3, 4) or depth not in (8, 16) or at + CHECK.size > len(data):
        raise ImageError(where, f"says {channels} channels of {depth} bits, which cannot be")
    layers = []
    for i in range(channels):
        kind, size, rank, step, *over = ENTRY.unpack_from(data, HEAD.size + i * ENTRY.size)
        layers.append(Layer(kind, size, rank, step, (over[0], over[1])))
        most = size * size if kind == BLOCKS else min(rows, columns)
        if kind not in (BLOCKS, FACTORS) or (kind == BLOCKS and size not in SIZES) or not 1 <= rank <= most:
            raise ImageError(
                where, f"says of plane {i} kind {kind}, size {size}, rank {rank}, which cannot be"
            )
    payload = data[at : -CHECK.size]
    if len(payload) % 4:
        raise ImageError(where, f"holds {len(payload)} bytes of bits, not a multiple of 4")
    return Head(rows, columns, channels, depth, samples_crc, tuple(layers)), payload


def check_size(rows: int, columns: int, where: str) -> None:
    """Refuse a picture that would fill the memory, before any of it is read."""
    if rows < 1 or columns < 1:
        raise ImageError(where, f"has {rows} rows and {columns} columns: nothing to see")
    if rows * columns > MAX_PIXELS or max(rows, columns) > MAX_SIDE:
        raise ImageError(
            where, f"is {rows} x {columns} pixels: over {MAX_PIXELS:,} in all, or {MAX_SIDE:,} a side",
            "Cut it into parts, or scale it down",
        )  # fmt: skip


def checksum(samples: NDArray[Any]) -> int:
    """Return the CRC-32 of samples, the same on machines of either byte order."""
    return zlib.crc32(samples.astype(samples.dtype.newbyteorder("<"), order="C").tobytes())
