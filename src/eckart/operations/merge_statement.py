"""The statement of a merged model: what was added to the base, and the rounding error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eckart.adapter.statement import FORMAT, SourceStatement
from eckart.checkpoint.target import FileKind
from eckart.strictjson import parse_object, read_bytes


@dataclass(frozen=True)
class TensorChange:
    """The change of one tensor of the base.

    Parameters
    ----------
    update : float
        Norm of the update, ||dW||_F.
    rounding : float
        ||W' - W - dW||_F / ||dW||_F, where W' is the merged tensor as stored.
    """

    update: float
    rounding: float


@dataclass(frozen=True)
class MergeStatement:
    """The contents of a merged model's ``eckart.json``.

    Parameters
    ----------
    base : str
        The base model, as the caller gave it.
    sources : tuple of SourceStatement
        The adapters that were added.
    rounding : float
        Rounding error of all updated tensors together, relative to their updates.
    tensors : mapping of str to TensorChange
        The updated tensors, by name.
    whole : tuple of str
        Tensors that an adapter replaced or added whole.
    rows : mapping of str to tuple of int
        Tables in which an adapter replaced rows, and the rows.
    versions : mapping of str to str
        Versions of the software that computed the numbers.
    """

    base: str
    sources: tuple[SourceStatement, ...]
    rounding: float
    tensors: Mapping[str, TensorChange]
    whole: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the statement as plain data."""
        return {
            "format": FORMAT,
            "base": self.base,
            "of": [asdict(source) for source in self.sources],
            "rounding": self.rounding,
            "tensors": {name: asdict(change) for name, change in self.tensors.items()},
            "whole": list(self.whole),
            "rows": {name: list(indices) for name, indices in self.rows.items()},
            "versions": dict(self.versions),
        }


def is_merge_statement(path: Path) -> bool:
    """Whether a file is the statement of a merged model, rather than that of an adapter."""
    return {"rounding", "tensors"} <= parse_object(read_bytes(path), path, "the statement").keys()


MERGE_STATEMENT = FileKind("the statement of a merged model", is_merge_statement)
