"""Mutations of binary files that keep their outer form: lengths, checksums and headers fit again."""

from __future__ import annotations

import struct
import zlib
from random import Random
from typing import Any

from fuzz import values
from fuzz.documents import dump, mutate_json, parse
from fuzz.values import Pairs, Raw

DTYPES = ("F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2", "F4", "I64", "U8", "BOOL", "C64", "X", "")
EXTREMES = (0, 1, 2, 7, 8, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def mutate_safetensors(random: Random, data: bytes) -> bytes:
    """Change the header of a safetensors file, its length field, or the numbers behind it."""
    if len(data) < 8:
        return b"\x02\0\0\0\0\0\0\0{}"
    length = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + length], data[8 + length :]
    step = random.randrange(10)
    if step == 0:
        wrong = random.choice((0, 1, length - 1, length + 1, len(data), 2**31, 2**40, 2**63, 2**64 - 1))
        return struct.pack("<Q", wrong % 2**64) + header + body
    if step == 1:
        return data[: 8 + length] + _hostile_numbers(random, body)
    header = _changed_entry(random, header) if step <= 5 else mutate_json(random, header)
    return struct.pack("<Q", len(header)) + header + body


def _hostile_numbers(random: Random, body: bytes) -> bytes:
    """Put NaN, infinity, huge or tiny numbers into tensors, in the bytes of several dtypes."""
    patterns = (
        "00000000",
        "ff",
        "0000c07f",
        "0000807f",
        "007e",
        "007c",
        "c07f",
        "ffff7f7f",
        "01000000",
        "80",
    )
    pattern = bytes.fromhex(random.choice(patterns))
    at = random.randrange(len(body) // 4 + 1) * 4
    times = random.choice((1, 16, len(body) // len(pattern) + 1))
    return (body[:at] + pattern * times)[: len(body)] + body[at + len(pattern) * times :]


def _changed_entry(random: Random, header: bytes) -> bytes:
    """Change the name, dtype, shape or offsets of one tensor."""
    entries = parse(header)
    if not isinstance(entries, Pairs) or not entries:
        return mutate_json(random, header)
    at = random.randrange(len(entries))
    name, entry = entries[at]
    fields: dict[str, Any] = dict(entry) if isinstance(entry, Pairs) else {}
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    step = random.randrange(9)
    if step == 0:
        fields["dtype"] = random.choice(DTYPES)
    elif step <= 2 and isinstance(shape, list):
        fields["shape"] = _changed_shape(random, shape)
    elif step == 3 and isinstance(offsets, list):
        fields["data_offsets"] = [
            random.choice((-8, -4, 0, 4, 2**20, 2**40)) + (x if isinstance(x, int) else 0) for x in offsets
        ]
    elif step == 4:
        other = random.choice(entries)[1]
        fields = dict(other) if isinstance(other, Pairs) else {}
    elif step == 5:
        name = random.choice((values.name(random), name + values.name(random), name.replace(".", "..")))
    elif step == 6:
        parts = name.split(".")
        random.shuffle(parts)
        name = ".".join(parts)
    elif step == 7:
        name = random.choice(entries)[0]
    else:
        count = random.choice((10, 1_000, 20_000))
        empty = Raw('{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}')
        entries += [(f"{name}{i}", empty) for i in range(count)]
    entries[at] = (name, fields)
    return dump(entries).encode("utf-8", "surrogatepass")


def _changed_shape(random: Random, shape: list[int]) -> list[int] | Raw:
    """Return a shape of the same or of another number of entries."""
    step = random.randrange(7)
    if step == 0:
        return shape[::-1]
    if step == 1:
        return [1, *shape] if random.random() < 0.5 else [*shape, 1, 1]
    if step == 2:
        size = 1
        for n in shape:
            size *= n if isinstance(n, int) else 1
        return random.choice(([size], [1, size], [size, 1], [2, size // 2]))
    if step == 3:
        return [0, 2**33]
    if step == 4:
        return [*shape[:-1], values.number(random)]  # type: ignore[list-item]
    if step == 5:
        return [1] * random.choice((33, 65, 10_000))
    return [2**32, 2**32, 0] if random.random() < 0.5 else []


def mutate_npy(random: Random, data: bytes) -> bytes:
    """Change the header of an .npy file."""
    length = struct.unpack("<H", data[8:10])[0] if len(data) >= 10 else 0
    header, body = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    step = random.randrange(6)
    if step == 0:
        wrong = random.choice((0, 1, length - 1, length + 1, 2**16 - 1))
        return data[:8] + struct.pack("<H", wrong % 2**16) + data[10:]
    if step == 1:
        return data[:6] + bytes([random.choice((0, 1, 2, 3, 4, 255)), random.choice((0, 1, 255))]) + data[8:]
    if step == 2:
        kind = random.choice(
            ("|O", "<U99999999", "|V2147483647", "<c16", ">f4", "<M8[ns]", "|S0", "<i8", "f", "\\'")
        )
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (2, 2), }}"
    elif step == 3:
        shape = ", ".join(str(values.number(random)) for _ in range(random.randrange(4)))
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape},), }}"
    elif step == 4:
        header = random.choice(
            ("(" * 3_000, "{" * 200, "-" * 9_000, "{'descr': [('a', '<f8', 9)]}", "[]", "1" * 9_000)
        )
    else:
        at = random.randrange(len(header) + 1)
        header = header[:at] + random.choice("(){}',:0a\n\\\0") + header[at + random.randrange(2) :]
    text = header.encode("latin1", "replace")[: 2**16 - 1]
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + body


def mutate_eki(random: Random, data: bytes) -> bytes:
    """Change a field of the header or a word of the coded data, mostly with the checksum that fits."""
    if len(data) < 32:
        return b"EKI\x01"
    body = bytearray(data[:-4])
    at, size = random.choice(
        ((4, 1), (5, 1), (6, 4), (10, 4), (14, 4), (18, 1), (19, 1), (20, 2), (22, 4), (26, 2))
    )
    step = random.randrange(4)
    if step == 0:
        body = body[: random.randrange(18, len(body)) // 4 * 4]
    elif step == 1:
        body[48:] = bytes(random.choice((0, 255)) for _ in range(random.choice((0, 4, 400))))
    else:
        small = random.choice((random.randrange(100), *EXTREMES))
        body[at : at + size] = (small % 256**size).to_bytes(size, "little")
    if random.random() < 0.9:
        return bytes(body) + struct.pack("<I", zlib.crc32(body))
    return bytes(body) + data[-4:]


def mutate_png(random: Random, data: bytes) -> bytes:
    """Change one chunk of a PNG file, with the checksum that fits."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])))
        at += 12 + length
    if not chunks:
        return data
    i = random.randrange(len(chunks))
    kind, content = chunks[i]
    step = random.randrange(5)
    if step == 0 and len(chunks[0][1]) == 13:
        field = random.choice((0, 4))
        chunks[0][1][field : field + 4] = struct.pack(">I", random.choice(EXTREMES))
    elif step == 1:
        chunks.insert(
            i,
            (
                random.choice((b"zTXt", b"iCCP", b"tEXt", b"acTL", b"PLTE", b"IDAT")),
                bytearray(b"x\0\0" + zlib.compress(bytes(1 << 24))),
            ),
        )
    elif step == 2:
        del chunks[i]
    elif step == 3:
        chunks.insert(random.randrange(len(chunks)), (kind, content))
    elif content:
        content[random.randrange(len(content))] = random.randrange(256)
    out = data[:8]
    for kind, content in chunks:
        out += (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )
    return out


def mutate_text(random: Random, data: bytes) -> bytes:
    """Change one line, cell or the encoding of a table of text."""
    lines = data.splitlines()
    at = random.randrange(len(lines)) if lines else 0
    if not lines or random.random() < 0.1:
        return random.choice(
            (
                data.decode("utf-8", "replace").encode("utf-16"),
                b"\xef\xbb\xbf" + data,
                data.replace(b"\n", b"\r"),
            )
        )
    step = random.randrange(6)
    if step == 0:
        opening = random.choice(
            (b"(1 1 1\n", b"(", b'"', b"1,", b",", b";", b"sqrt(", b"1/", b"-", b"9", b" ", b"((1) ")
        )
        lines[at] = opening * (65_000 // len(opening))
    elif step == 1:
        del lines[at]
    elif step == 2:
        lines.append(lines[at])
    else:
        separator = next((s for s in (b"::", b"\t", b";", b",") if s in lines[at]), b" ")
        cells = lines[at].split(separator)
        cell = random.randrange(len(cells))
        texts = (
            values.name(random),
            str(random.choice(values.NUMBERS[:18] + values.NUMBERS[20:])),
            random.choice(values.LITERALS),
        )
        extra = random.choice(
            (
                "nan",
                "inf",
                "1e308",
                "1_000",
                "\u0661",
                "1,5",
                '"',
                '"a\nb"',
                "1/0",
                "sqrt(-1)",
                "9**9**9",
                "1e9999999",
            )
        )
        cells[cell] = random.choice((*texts, extra)).encode("utf-8", "surrogatepass")
        lines[at] = random.choice((separator, separator, b";", b"\t", b",")).join(cells)
    return b"\n".join(lines) + b"\n"
