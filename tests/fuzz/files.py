"""Mutations of a file: by its format, as plain bytes, or as an entry of its folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz import containers, documents

Mutation = Callable[[Random, bytes], bytes]

BY_SUFFIX: dict[str, Mutation] = {
    ".json": documents.mutate_json,
    ".jsonl": documents.mutate_json_lines,
    ".safetensors": containers.mutate_safetensors,
    ".npy": containers.mutate_npy,
    ".eki": containers.mutate_eki,
    ".png": containers.mutate_png,
    ".csv": containers.mutate_text,
    ".tsv": containers.mutate_text,
    ".dat": containers.mutate_text,
    ".data": containers.mutate_text,
    ".txt": containers.mutate_text,
}


def mutate_file(random: Random, path: Path, intact: list[Path]) -> str:
    """Change one file and return what was done to it.

    Parameters
    ----------
    random : Random
        Chooses the change.
    path : Path
        The file.
    intact : list of Path
        Valid files from which content is taken.
    """
    chance = random.random()
    by_format = BY_SUFFIX.get(path.suffix)
    if not path.is_file() or path.is_symlink():
        return "left alone"
    if chance < 0.05:
        return _change_entry(random, path, intact)
    data = path.read_bytes()
    if by_format is not None and chance < 0.75:
        path.write_bytes(by_format(random, data))
        return by_format.__name__
    name, new = _change_bytes(random, data, random.choice(intact).read_bytes)
    path.write_bytes(new)
    return name


def _change_bytes(random: Random, data: bytes, other: Callable[[], bytes]) -> tuple[str, bytes]:
    at = random.randrange(len(data) + 1)
    step = random.randrange(7)
    if step == 0:
        flipped = bytearray(data or b"\0")
        for _ in range(random.choice((1, 1, 8))):
            flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
        return "bits flipped", bytes(flipped)
    if step == 1:
        return "cut short", data[:at]
    if step == 2:
        return "bytes inserted", data[:at] + random.randbytes(random.choice((1, 4, 100))) + data[at:]
    if step == 3:
        return "bytes removed", data[:at] + data[at + random.choice((1, 8, 100)) :]
    if step == 4:
        spliced = other()
        return "spliced", data[:at] + spliced[random.randrange(len(spliced) + 1) :]
    if step == 5:
        word = random.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(
            4, random.choice(("little", "big"))
        )
        return "a word replaced", data[:at] + word + data[at + 4 :]
    return "bytes appended", data + random.choice((b"\0" * 8, b"\n", data[:1_000], b"\xff" * 100))


def _change_entry(random: Random, path: Path, intact: list[Path]) -> str:
    """Replace a file by something that is not a file, or by another file."""
    step = random.randrange(7)
    path.unlink()
    if step == 0:
        return "removed"
    if step == 1:
        path.mkdir()
        return "replaced by a folder"
    if step == 2:
        path.symlink_to(path.name)
        return "replaced by a link to itself"
    if step == 3:
        os.mkfifo(path)
        return "replaced by a pipe"
    if step == 4:
        path.write_bytes(b"")
        return "emptied"
    if step == 5:
        path.symlink_to("/dev/zero")
        return "replaced by a link to a device"
    shutil.copyfile(random.choice(intact), path)
    return "replaced by another file"
