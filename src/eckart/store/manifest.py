"""The manifest of a finished store: its sources, and one record per tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eckart.checkpoint.write import write_bytes
from eckart.errors import StoreError
from eckart.store.checksum import seal, unseal
from eckart.store.files import FACTOR_AGAIN, FORMAT, KIND, MANIFEST, check_sources
from eckart.store.record import TensorRecord
from eckart.strictjson import JsonObject


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
    try:
        text = (folder / MANIFEST).read_bytes()
        data = unseal(text.removesuffix(b"\n"))
        if data is None:
            refuse_old_format(text, where)
            raise StoreError(where, "the file is damaged: its checksum does not match", FACTOR_AGAIN)
        check_format(data, where)
        sources, tensors = data["sources"], list(data["tensors"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as reason:
        raise StoreError(where, f"the file is damaged ({type(reason).__name__})", FACTOR_AGAIN) from None
    records = [TensorRecord.from_json(entry, where) for entry in tensors]
    return Manifest(check_sources(sources, where), {r.name: r for r in records})


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
    return StoreError(where, f"expected format {FORMAT}, found {number!r}", FACTOR_AGAIN)
