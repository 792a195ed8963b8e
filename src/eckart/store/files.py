"""The files of a store: their names, the factors of one tensor, and a check of the recorded sources."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from eckart.arrays import Array, Floats
from eckart.checkpoint import write_safetensors
from eckart.checkpoint.strictjson import JsonObject
from eckart.errors import StoreError
from eckart.linalg import LowRank
from eckart.workers import writing

FORMAT = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
SPECTRA = "spectra.safetensors"
FACTORS = "factors"

FACTOR_AGAIN = "Factor again: eckart factor BASE TUNED -o STORE --overwrite"
"""The fix for a damaged or outdated store."""


def factor_file(name: str) -> str:
    """Return the path of a tensor's factors inside a store; a name that is not a safe file name is hashed."""
    plain = name if re.fullmatch(r"[A-Za-z0-9_.\-]{1,180}", name) and name[0] != "." else ""
    return f"{FACTORS}/{plain or hashlib.sha256(name.encode()).hexdigest()}.safetensors"


def write_factors(
    folder: Path, name: str, factors: LowRank | None, values: Floats, durable: bool = True
) -> None:
    """Write the known singular values of a tensor and, if there are any, its factors."""
    arrays: dict[str, Array] = {"values": values}
    if factors is not None:
        arrays |= {"U": np.asarray(factors.U), "Vh": np.asarray(factors.Vh)}
    with writing():
        write_safetensors(folder / factor_file(name), arrays, durable=durable)


def check_sources(sources: object, where: str) -> JsonObject:
    """Return what a store records about its sources; raise StoreError if that is damaged."""
    if isinstance(sources, dict) and all(
        isinstance(side, dict)
        and isinstance(side.get("path"), str)
        and isinstance(side.get("parameters"), int)
        and isinstance(side.get("files"), list)
        for side in (sources.get("tuned"), sources.get("base") or sources.get("tuned"))
    ):
        return {"base": None, **sources}
    raise StoreError(where, "the file does not record which checkpoints it was made from", FACTOR_AGAIN)
