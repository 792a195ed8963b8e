"""The .eki format: files of earlier releases, damaged files, and files that would exhaust the memory."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.applications.images import compress, decompress
from eckart.applications.images.file import FREE_PIXELS, HEADER, MAX_PIXELS, PIXELS_PER_BYTE, unpack
from eckart.errors import ImageError
from support.pictures import PICTURES

# Two files of version 1, with blocks and with factors, and the start of the SHA-256 of their samples. If a
# change, or another release of the range coder, decodes them differently, the format needs a new version.
BLOCKS = (
    "MN3Hm0|*oV000;O004WIG0Ff42LL`~000C400<WVK4bs@0RjLB2LL`~0002^4pb2Urt#p8E<6GN8h&wW-b`GkNjn8aEQ@A-<"
    "iDlx`cse+ji)zgSne6R_0<+8vjzibTt-+&i3TX#R+<0+kl_&vpjK@yN(KM`fgD0e2X*$fJo(rF!t<u%cNJV){Z+cjq0l4MOa"
    "%|hoP>V;8|+n{Ig4*j4qJskN*;;B+d{Y)uc0@1$s;6CnGK{3ZIz`Csbio)2bi$EJ=0CIdpZ@I>e=oDtyk7sR+;>K"
)
FACTORS = "MN3Hm0SG7n002M$007Z}(KP`80sut&0000009msD^SN=ftOPi7=5l$$><4?0miFDU-#0NE^n|ROXDl9gU3hUDqvu!lQo<)A"
GOLDEN = [(BLOCKS, (20, 24, 3), "390dfc2248e2cd08"), (FACTORS, (40, 64), "728193ecd8c9c8f3")]


@pytest.mark.parametrize(("text", "shape", "digest"), GOLDEN, ids=["blocks", "factors"])
def test_files_of_version_1_decode_to_the_same_samples(text, shape, digest):
    picture = decompress(base64.b85decode(text))
    assert picture.shape == shape and picture.dtype == np.uint8
    assert hashlib.sha256(picture.tobytes()).hexdigest()[:16] == digest


@pytest.fixture(scope="module")
def data():
    return compress(PICTURES["still"], psnr=32).bytes


def test_the_header_describes_the_picture(data):
    header, payload = unpack(data, "x")
    assert (header.rows, header.columns, header.channels, header.depth) == (64, 64, 3, 8)
    assert len(data) == HEADER.size + 3 * 10 + len(payload) + 4


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_detected(data, where, bit):
    broken = bytearray(data)
    broken[int(where * len(data))] ^= 1 << bit
    with pytest.raises(ImageError):
        decompress(bytes(broken))


@pytest.mark.parametrize("length", [0, 2, 3, 4, 17, 18, 21, 22, 47, 52, 100, -4, -1])
def test_a_truncated_file_is_refused(data, length):
    with pytest.raises(ImageError):
        decompress(data[:length])


def sealed(body: bytes) -> bytes:
    """Append the matching checksum to the content of a file."""
    return body + struct.pack("<I", zlib.crc32(body))


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_never_changes_the_picture(data, where, value):
    """With a matching checksum, a changed file gives an error, or the same picture if nothing was changed."""
    body = bytearray(data[:-4])
    at = 4 + int(where * (len(body) - 4))
    # A changed size may legitimately need much memory; these bytes have a test of their own.
    if 6 <= at < 14:
        return
    body[at] = value
    try:
        picture = decompress(sealed(bytes(body)))
    except ImageError:
        return
    assert (picture == decompress(data)).all()


def test_random_data_is_refused(data):
    random = np.random.default_rng(0)
    for words in (0, 1, 50):
        noise = random.integers(0, 256, 4 * words).astype(np.uint8).tobytes()
        with pytest.raises(ImageError):
            decompress(sealed(data[:48] + noise))


def test_huge_and_empty_pictures_are_refused_from_the_header(data):
    for rows, columns in ((1 << 16, 1 << 16), (MAX_PIXELS + 1, 1), (0, 5), (2**32 - 1, 2**32 - 1)):
        body = bytearray(data[:-4])
        body[6:14] = struct.pack("<II", rows, columns)
        message = "the picture is empty" if rows == 0 else "the limits are"
        with pytest.raises(ImageError, match=message):
            decompress(sealed(bytes(body)))


def test_other_formats_and_versions_are_refused(data):
    with pytest.raises(ImageError, match="does not begin with EKI"):
        decompress(b"\x89PNG....")
    with pytest.raises(ImageError, match="version 9"):
        decompress(data[:3] + b"\x09" + data[4:])


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(4, 5, "5 channels of 8 bits"), (5, 7, "3 channels of 7 bits"), (18, 2, "plane 0 has kind 2")],
)
def test_an_invalid_header_is_refused(data, at, value, message):
    body = bytearray(data[:-4])
    body[at] = value
    with pytest.raises(ImageError, match=f"the header is invalid: {message}"):
        decompress(sealed(bytes(body)))


def test_a_picture_that_is_too_large_is_refused_before_compression():
    huge = np.broadcast_to(np.uint8(0), (1 << 14, 1 << 13))  # this view takes no memory
    with pytest.raises(ImageError, match="16384 x 8192"):
        compress(huge)


def promising(rows, columns, kind, size, rank, payload):
    """Return a sealed file of one grey plane, whose header promises what it likes."""
    head = struct.pack("<3sBBBIII", b"EKI", 1, 1, 8, rows, columns, 0)
    return sealed(head + struct.pack("<BBHIbb", kind, size, rank, 1024, 0, 0) + bytes(payload))


@pytest.mark.parametrize(
    ("header", "payload", "message"),
    [
        ((8192, 8192, 1, 0, 8192), 400, "8192 x 8192 pixels, too many for a file of 432 bytes"),
        ((8192, 8192, 0, 8, 64), 400, "8192 x 8192 pixels, too many for a file of 432 bytes"),
        ((8192, 8192, 0, 16, 1), 16_000, "8192 x 8192 pixels, too many for a file of 16,032 bytes"),
        ((8192, 8192, 0, 8, 64), 40_000, "67,112,896 coded numbers, more than 40,000 bytes can hold"),
        ((1000, 1000, 1, 0, 1000), 400, "2,000,000 coded numbers, more than 400 bytes can hold"),
        ((1000, 1000, 0, 16, 256), 400, "1,081,344 coded numbers, more than 400 bytes can hold"),
        ((200, 200, 0, 8, 64), 4, "44,032 coded numbers, more than 4 bytes can hold"),
    ],
)
def test_what_a_header_promises_is_checked_against_the_size_of_the_file(header, payload, message):
    with pytest.raises(ImageError, match=message):
        decompress(promising(*header, payload))


@pytest.mark.parametrize("size", [1000, 1100])
def test_a_large_flat_picture_is_written_in_as_many_bytes_as_a_reader_asks_for(size):
    picture = np.full((size, size), 7, np.uint8)
    data = compress(picture, rank=1).bytes
    needed = -(-size * size // PIXELS_PER_BYTE)
    assert len(data) >= needed if size * size > FREE_PIXELS else len(data) < needed
    assert (decompress(data) == picture).all()
