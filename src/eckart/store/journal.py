"""The journal of an unfinished pass: a header, and one line per finished tensor, each with its checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from eckart.documents import Document
from eckart.errors import StoreError
from eckart.store.checksum import checksum_of_text, seal, unseal
from eckart.store.files import FACTOR_AGAIN, FORMAT, JOURNAL, KIND, check_sources
from eckart.store.manifest import check_format, refuse_old_format
from eckart.store.record import Demand, TensorRecord
from eckart.strictjson import JsonObject, read_bytes

MAX_BYTES = 1 << 30  # of a journal; one of 140,000 tensors has 70 MB


@dataclass(frozen=True)
class PassHeader:
    """What a pass is about.

    Parameters
    ----------
    sources : dict
        The checkpoints, as `PairSources.describe` returns them.
    starts_over : bool
        Whether the pass uses nothing of an older manifest, which stays valid until the pass is complete.
    demands : str
        Checksum of what the pass must learn; see `checksum_of_demands`.
    """

    sources: JsonObject
    starts_over: bool = False
    demands: str = ""


@dataclass(frozen=True)
class JournalState:
    """What the journal of an interrupted pass holds.

    Parameters
    ----------
    header : PassHeader
        What the pass was about.
    records : dict of str to TensorRecord
        The tensors that it had finished, without those whose line is damaged or was truncated by a crash.
    """

    header: PassHeader
    records: dict[str, TensorRecord]


@dataclass(frozen=True)
class FirstLine(PassHeader):
    """The first line of a journal, without its checksum: the header, after what the file is."""

    kind: str = field(kw_only=True)
    format: int = field(kw_only=True)


@dataclass(frozen=True)
class Line:
    """Any other line of a journal, without its checksum."""

    tensor: TensorRecord


FIRST_LINE = Document(FirstLine, "the first line", StoreError, FACTOR_AGAIN, is_ours=True)
LINE = Document(Line, "a line", StoreError, FACTOR_AGAIN, is_ours=True)


def read_journal(folder: Path) -> JournalState | None:
    """Read the journal of a store.

    Parameters
    ----------
    folder : Path
        Folder of the store.

    Returns
    -------
    JournalState or None
        None if there is no journal.

    Raises
    ------
    StoreError
        If its first line is damaged, or of another format.
    """
    path = folder / JOURNAL
    where = str(path)
    if not path.exists():
        return None
    header, *lines = read_bytes(path, StoreError, MAX_BYTES).split(b"\n")
    data = unseal(header, where)
    if data is None:
        refuse_old_format(header, where)
        raise StoreError(where, "the first line is damaged: its checksum does not match", FACTOR_AGAIN)
    check_format(data, where)
    records: dict[str, TensorRecord] = {}
    for line in lines[:-1]:  # what follows the last newline is incomplete
        entry = unseal(line, where)
        if entry is not None:
            record = LINE.convert(entry, where).tensor
            records[record.name] = record
    first = FIRST_LINE.convert(data, where)
    return JournalState(
        PassHeader(check_sources(first.sources, where), first.starts_over, first.demands), records
    )


class Journal:
    """A context manager that writes the journal of a pass, which holds the lock of the store.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    header : PassHeader
        What the pass is about.
    records : iterable of TensorRecord
        The tensors that an earlier, interrupted part of the pass has finished.
    durable : bool
        Whether to wait until each line has reached the disk.

    Notes
    -----
    On entry, a new file with the header and the known records replaces the journal atomically. It is kept
    open, and lines are written to this open file only.
    """

    def __init__(
        self, folder: Path, header: PassHeader, records: Iterable[TensorRecord], durable: bool = True
    ) -> None:
        self.path, self.header, self.records, self.durable = folder / JOURNAL, header, records, durable
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        header: JsonObject = {"kind": KIND, "format": FORMAT, **asdict(self.header)}
        lines = [seal(header), *(seal({"tensor": record.to_json()}) for record in self.records)]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            self._sync(file)
        temporary.replace(self.path)
        self._file = self.path.open("ab")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, record: TensorRecord) -> None:
        """Add one finished tensor. The line is on the disk when this returns, if the journal is durable."""
        assert self._file is not None  # the journal is entered before the pass starts
        self._file.write(seal({"tensor": record.to_json()}) + b"\n")
        self._sync(self._file)

    def _sync(self, file: IO[bytes]) -> None:
        file.flush()
        if self.durable:
            os.fsync(file.fileno())


def checksum_of_demands(demands: Mapping[str, Demand]) -> str:
    """Return a checksum by which a pass recognises that an interrupted one had the same demands."""
    plain = {name: asdict(demand) for name, demand in sorted(demands.items())}
    return checksum_of_text(json.dumps(plain).encode())
