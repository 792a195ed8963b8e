"""The manifest of a finished store: its sources, and one record per tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.write import write_bytes
from eckart.documents import Document
from eckart.errors import StoreError
from eckart.store.checksum import seal, unseal
from eckart.store.files import FACTOR_AGAIN, FORMAT, KIND, MANIFEST, check_sources
from eckart.store.record import TensorRecord
from eckart.strictjson import JsonObject, read_bytes
from eckart.text import clip


@dataclass(frozen=True)
class Manifest:
    """What a finished store knows.

    Parameters
    ----------
    sources : dict
        The checkpoints of the pass, as `PairSources.describe` returns them.
    records : dict of str to TensorRecord
        Records by tensor name, in the order of the model.
    """

    sources: JsonObject
    records: dict[str, TensorRecord]


@dataclass(frozen=True)
class ManifestFile:
    """A manifest as the file holds it, without its checksum.

    Parameters
    ----------
    kind, format : str, int
        What the file is; see `check_format`.
    sources : dict
        See `check_sources`.
    tensors : tuple of TensorRecord
    """

    kind: str
    format: int
    sources: JsonObject
    tensors: tuple[TensorRecord, ...]


MANIFEST_FILE = Document(ManifestFile, "the manifest", StoreError, FACTOR_AGAIN, is_ours=True)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a store.

    Parameters
    ----------
    folder : Path
        Folder of the store.

    Returns
    -------
    Manifest

    Raises
    ------
    StoreError
        If the file is missing, damaged or of another format.
    """
    where = str(folder / MANIFEST)
    text = read_bytes(folder / MANIFEST, StoreError)
    data = unseal(text.removesuffix(b"\n"), where)
    if data is None:
        refuse_old_format(text, where)
        raise StoreError(where, "the file is damaged: its checksum does not match", FACTOR_AGAIN)
    check_format(data, where)
    file = MANIFEST_FILE.convert(data, where)
    return Manifest(check_sources(file.sources, where), {r.name: r for r in file.tensors})


def write_manifest(folder: Path, sources: JsonObject, records: Mapping[str, TensorRecord]) -> None:
    """Replace the manifest of a store atomically."""
    document = {
        "kind": KIND,
        "format": FORMAT,
        "sources": sources,
        "tensors": [record.to_json() for record in records.values()],
    }
    write_bytes(folder / MANIFEST, seal(document, indent=1) + b"\n")


def check_format(document: JsonObject, where: str) -> None:
    """Raise StoreError unless a document is of this kind and format."""
    if document.get("kind") != KIND:
        raise StoreError(where, "this is not a file of a factor store", FACTOR_AGAIN)
    if document.get("format") != FORMAT:
        raise _another_format(document.get("format"), where)


def refuse_old_format(text: bytes, where: str) -> None:
    """Raise StoreError if a text without a valid checksum is of format 1, which had none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    is_unsealed = isinstance(document, dict) and not {"checksum", "kind"} & document.keys()
    if is_unsealed and document.get("format") == 1:
        raise _another_format(1, where)


def _another_format(number: object, where: str) -> StoreError:
    return StoreError(where, f"expected format {FORMAT}, found {clip(repr(number), 40)}", FACTOR_AGAIN)
