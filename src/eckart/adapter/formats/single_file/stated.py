"""The statement of an adapter in one file: an entry of the file's metadata, with a digest of its tensors.

A file and its statement are thus written in one step. The digest shows whether another program has changed
the tensors since and copied the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.statement import Statement
from eckart.checkpoint.stream import LateMetadata, tensors_digest
from eckart.errors import AdapterError
from eckart.strictjson import parse_object

ENTRY = "eckart.statement"
DIGEST = "eckart.sha256"  # of the tensors that the statement is about
LONGEST = 2.2250738585072014e-308  # no positive float64 has more digits in JSON


def late_statement(draft: Statement | None, statement: Callable[[], Statement | None]) -> LateMetadata | None:
    """Return the entries that state an adapter's errors, for the end of writing; None without a draft.

    Parameters
    ----------
    draft : Statement, optional
        The statement with any numbers in place of the errors.
    statement : callable
        Called after all tensors; returns the statement.
    """
    if draft is None:
        return None

    def final(digest: str) -> Mapping[str, str]:
        stated = statement()
        return {} if stated is None else {ENTRY: _text(stated.to_json()), DIGEST: digest}

    return LateMetadata({ENTRY: _text(_longest(draft.to_json())), DIGEST: "0" * 64}, final)


def read_stated(file: AdapterFile) -> tuple[Statement | None, tuple[str, ...]]:
    """Return the statement in a file's metadata, and remarks on one that is not used.

    Parameters
    ----------
    file : AdapterFile
        The file. All its tensors are read once if it holds a statement.

    Raises
    ------
    AdapterError
        If the entry is not a statement that Eckart wrote.
    """
    text = file.metadata.get(ENTRY)
    if text is None:
        return None, _note_on_separate(file.path)
    where = file.where(ENTRY)
    fix = "Remove the entry from the file's metadata"
    data = parse_object(text.encode(), Path(where), "the statement", AdapterError, fix)
    stated = Statement.from_json(data, where)
    if file.metadata.get(DIGEST) == tensors_digest({key: file.raw(key) for key in file.keys}):
        return stated, ()
    return None, (
        "The statement in the metadata is about other tensors and is ignored: "
        "another program has changed the file and copied its metadata",
    )


def _note_on_separate(path: Path) -> tuple[str, ...]:
    """Return a note on the separate statement that earlier versions wrote next to a file."""
    separate = path.with_name(f"{path.stem}.eckart.json")
    if not separate.is_file():
        return ()
    return (f"{separate.name} is ignored: it does not show which file it is about",)


def _longest(value: object) -> object:
    """Return JSON in which every number with a fraction is as long as it can be."""
    if isinstance(value, dict):
        return {key: _longest(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_longest(entry) for entry in value]
    return LONGEST if isinstance(value, float) else value


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
