"""Checksums of what a store holds: arrays, and JSON documents that begin with their own checksum.

CRC-32 finds every flipped bit and every damaged run of up to 32 bits, and misses other damage once in 4
billion times. It protects against faulty disks, not against people. It was measured as five times as fast as
BLAKE2b, and it is part of Python's library, unlike faster ones.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from eckart.arrays import Array
from eckart.errors import StoreError
from eckart.store.files import FACTOR_AGAIN
from eckart.strictjson import JsonObject, parse_object

_ENCODERS = {
    indent: json.JSONEncoder(indent=indent, allow_nan=False, ensure_ascii=False) for indent in (None, 1)
}
_SEAL = re.compile(rb'\{\s*"checksum": "([0-9a-f]{8})",')


def checksum_of(arrays: Mapping[str, Array]) -> str:
    """Return the checksum of named arrays: of their names, dtypes, shapes and bytes.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The arrays, in any order.

    Returns
    -------
    str
        Eight hexadecimal digits.
    """
    value = 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name], arrays[name].dtype.newbyteorder("<"), order="C")
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), value)
        value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)
    return f"{value:08x}"


def checksum_of_text(text: bytes) -> str:
    """Return the checksum of a text as eight hexadecimal digits."""
    return f"{zlib.crc32(text):08x}"


def seal(document: JsonObject, indent: Literal[1] | None = None) -> bytes:
    """Return a JSON document whose first key is the checksum of all other bytes.

    Parameters
    ----------
    document : dict
        The document, which must not be empty.
    indent : {1}, optional
        Spaces per level; by default, the document is one line.

    Returns
    -------
    bytes
        The text in UTF-8, without a newline at the end.
    """
    text = _ENCODERS[indent].encode(document).encode()
    gap, rest = (b"", b" " + text[1:]) if indent is None else (b"\n ", text[1:])
    return b"{" + gap + b'"checksum": "' + checksum_of_text(rest).encode() + b'",' + rest


def unseal(text: bytes, where: str = "the document") -> JsonObject | None:
    """Return the document that `seal` wrote, without its checksum; None if any byte has changed.

    Parameters
    ----------
    text : bytes
        The text, without a newline at the end.
    where : str
        The file, for messages.

    Returns
    -------
    dict or None

    Raises
    ------
    StoreError
        If the checksum matches, but the text is not a JSON object within the limits of `parse_object`.
    """
    match = _SEAL.match(text)
    if match is None or checksum_of_text(text[match.end() :]) != match[1].decode():
        return None
    document = parse_object(text, where, "the file", StoreError, FACTOR_AGAIN)
    del document["checksum"]
    return document
