"""The files of a store: their names, and a check of the recorded sources."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from eckart.documents import Document
from eckart.errors import StoreError
from eckart.strictjson import JsonObject

FORMAT = 2
KIND = "eckart factor store"
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
SPECTRA = "spectra.safetensors"
FACTORS = "factors"
LOCK = ".lock"

FACTOR_AGAIN = "Factor again: eckart factor BASE TUNED -o STORE --overwrite"
"""The fix for a store of which nothing can be used: damaged as a whole, or outdated."""

REPAIR = "Run eckart factor BASE TUNED -o STORE to factor the damaged tensors again"
"""The fix for a store in which the data of single tensors is damaged."""


def factor_file(name: str, values: str, factors: str) -> str:
    """Return the path of a tensor's factors inside a store.

    Parameters
    ----------
    name : str
        Name of the tensor. One that is not a safe file name is hashed.
    values, factors : str
        The checksums of its singular values, and of its factors; the latter is empty if there are none.

    Returns
    -------
    str
        A path with ``/``. Because it contains the checksums, a file is never replaced by one with other
        contents, and a manifest that refers to it stays valid.
    """
    plain = name if re.fullmatch(r"[A-Za-z0-9_.\-]{1,160}", name) and name[0] != "." else ""
    return f"{FACTORS}/{plain or hashlib.sha256(name.encode()).hexdigest()}.{values}{factors}.safetensors"


@dataclass(frozen=True)
class StoredFile:
    """A file of a checkpoint, as it was when the checkpoint was opened; see `Checkpoint.fingerprint`."""

    name: str
    size: int
    mtime_ns: int
    header: str


@dataclass(frozen=True)
class StoredCheckpoint:
    """What a store records about a checkpoint."""

    path: str
    parameters: int
    files: list[StoredFile]


@dataclass(frozen=True)
class StoredSources:
    """What a store records about its checkpoints; the base is None if there is only one."""

    tuned: StoredCheckpoint
    base: StoredCheckpoint | None = None


SOURCES = Document(StoredSources, "the record of the checkpoints", StoreError, FACTOR_AGAIN, is_ours=True)


def check_sources(sources: JsonObject, where: str) -> JsonObject:
    """Return what a store records about its sources; raise StoreError if that is damaged."""
    SOURCES.convert(sources, f"{where}: sources")
    return {"base": None, **sources}
