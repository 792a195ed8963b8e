"""Ratings from a file: MovieLens' three formats and any CSV, told apart by what they hold."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eckart.errors import RatingsError

USUAL = ("u.data", "ratings.dat", "ratings.csv")  # what MovieLens' archives hold, oldest first
DELIMITERS = ("::", "\t", ";", ",")  # in this order: the first that stands in the first line
LARGEST = 1e30  # of a rating: factors are float32, whose squares must not overflow
SHOWN = 5  # bad lines that are named; the rest are counted
NAMES = {  # what the columns of a header are called, without case, spaces and underscores
    "user": {"user", "userid", "uid", "useridx", "reviewer", "reviewerid", "customer", "customerid"},
    "item": {"item", "itemid", "iid", "movie", "movieid", "product", "productid", "asin", "isbn", "book",
             "bookid", "track", "trackid", "song", "songid", "business", "businessid"},
    "rating": {"rating", "ratings", "score", "stars", "value", "bookrating", "overall"},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ratings:
    """Who rated what, and how high. Made by `read_ratings` or `Ratings.of`.

    Parameters
    ----------
    users, items : ndarray (n,) of int
        Places in ``user_ids`` and ``item_ids``.
    values : ndarray (n,) of float64
        Of at most 1e30; a pair of user and item occurs once.
    user_ids, item_ids : tuple of str
        As they stand in the file, in the order of first appearance.
    notes : tuple of str
        What was tolerated, in sentences.

    Examples
    --------
    >>> r = Ratings.of(["ann", "bob", "ann"], ["tea", "tea", "rum"], [5, 3, 1])
    >>> len(r), r.shape, r.user_ids
    (3, (2, 2), ('ann', 'bob'))
    """

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    values: NDArray[np.float64]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        return len(self.user_ids), len(self.item_ids)

    @classmethod
    def of(cls, users: Sequence[object], items: Sequence[object], values: Iterable[float]) -> Ratings:
        """Build ratings from three sequences of one length; ids become strings, the last of a pair wins.

        Raises
        ------
        RatingsError
            If the lengths differ, there is no rating, or one is not a number of at most 1e30.
        """
        numbers = np.asarray(list(values), np.float64)
        if not len(users) == len(items) == len(numbers):
            found = f"{len(users)} users, {len(items)} items and {len(numbers)} ratings"
            raise RatingsError("Ratings.of", f"expected three sequences of one length, got {found}")
        bad = np.flatnonzero(~(np.abs(numbers) <= LARGEST))
        if len(bad):
            raise RatingsError("Ratings.of", f"values[{bad[0]}] is {numbers[bad[0]]}", "Leave it out")
        table = _Table()
        for user, item, value in zip(users, items, numbers.tolist(), strict=True):
            table.add(str(user), str(item), value)
        return table.ratings("Ratings.of", [])


def read_ratings(path: str | Path, skip_bad: bool = False) -> Ratings:
    """Read ratings from a text file, whatever its dialect.

    Parameters
    ----------
    path : str or Path
        ``u.data`` (tabs), ``ratings.dat`` (``::``), ``ratings.csv`` (a header), any text with the
        columns user, item, rating and perhaps a timestamp, parted by tabs, ``::``, semicolons or commas;
        or a folder that holds one of the first three. A header may order its columns as it likes.
    skip_bad : bool
        Leave bad lines out, and say how many, instead of refusing the file.

    Raises
    ------
    RatingsError
        If the file is missing, not text, empty, or has lines without a user, an item and a number of at
        most 1e30; the first few are named by number.

    Notes
    -----
    Ids are text: ``7`` and ``07`` are two users. A pair that is rated again keeps the rating of its last
    line. Takes about two seconds per million lines and 50 bytes a rating, plus the ids.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "ratings.csv"
    >>> _ = path.write_text("userId,movieId,rating,timestamp\\n1,31,2.5,12607591\\n1,1029,3.0,12607591\\n")
    >>> r = read_ratings(path)
    >>> r.item_ids, r.values.tolist()
    (('31', '1029'), [2.5, 3.0])
    """
    path = _file(Path(path))
    try:
        # Bytes that are not UTF-8 come through as surrogates, and are refused below where an id holds one.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return _read(path, file, skip_bad)
    except OSError as error:
        what = (
            "there is no such file or folder"
            if isinstance(error, FileNotFoundError)
            else f"it cannot be read ({error.strerror or error})"
        )
        raise RatingsError(str(path), what, "Check the path") from error


def _file(path: Path) -> Path:
    """Find the file of a folder, and refuse what is no text."""
    if path.is_dir():
        found = [path / name for name in USUAL if (path / name).is_file()]
        if not found:
            raise RatingsError(str(path), f"the folder holds none of {', '.join(USUAL)}", "Give the file")
        path = found[0]
    if path.exists() and not path.is_file():  # a pipe would block for ever
        raise RatingsError(str(path), "expected a file of ratings, found something else")
    if path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(1024)
        except OSError:
            return path  # the caller meets it again, and names it
        if head.startswith(b"PK\x03\x04"):
            raise RatingsError(str(path), "it is a zip archive", f"Unpack it: unzip {path.name}")
        if b"\0" in head:
            raise RatingsError(str(path), "it is not text", "Give a file with user,item,rating on each line")
    return path


class _Table:
    """Ratings in the making: ids become places in the order they come."""

    def __init__(self) -> None:
        self.user_places: dict[str, int] = {}
        self.item_places: dict[str, int] = {}
        self.users, self.items, self.values = array("q"), array("q"), array("d")

    def add(self, user: str, item: str, value: float) -> None:
        self.users.append(self.user_places.setdefault(user, len(self.user_places)))
        self.items.append(self.item_places.setdefault(item, len(self.item_places)))
        self.values.append(value)

    def ratings(self, where: str, notes: list[str]) -> Ratings:
        if not self.values:
            raise RatingsError(where, "it holds no rating", "Give lines of user,item,rating")
        users = np.array(self.users, np.intp)
        items = np.array(self.items, np.intp)
        pairs = users * len(self.item_places) + items
        _, last = np.unique(pairs[::-1], return_index=True)  # the first of the reversed is the last
        keep = np.sort(len(pairs) - 1 - last)
        twice = len(pairs) - len(keep)
        if twice:
            notes = [*notes, f"{twice:,} ratings repeat a user and an item; the last of each pair is kept"]
        return Ratings(
            users[keep], items[keep], np.array(self.values)[keep],
            tuple(self.user_places), tuple(self.item_places), tuple(notes),
        )  # fmt: skip


def _read(path: Path, file: IO[str], skip_bad: bool) -> Ratings:
    first = next((line for line in file if line.strip()), "")
    delimiter = next((d for d in DELIMITERS if d in first), "")
    if not first:
        raise RatingsError(str(path), "the file is empty", "Give lines of user,item,rating")
    if not delimiter:
        raise RatingsError(
            str(path), f"expected user, item and rating in the first line, found {_clip(first)}",
            "Part them by tabs, ::, semicolons or commas",
        )  # fmt: skip
    file.seek(0)
    table, bad_count = _Table(), 0
    bad: list[str] = []
    columns: tuple[int, int, int] | None = None
    width = 0
    try:
        for number, fields in _lines(file, delimiter):
            if columns is None:
                header = _header(fields)
                columns, width = header or (0, 1, 2), len(fields) if header else 0
                if header:
                    continue
            defect = _add(table, fields, columns, width)
            if defect:
                bad_count += 1
                if len(bad) < SHOWN:
                    bad.append(f"line {number}: {defect}")
    except csv.Error as error:
        raise RatingsError(
            str(path), f"it is not CSV ({error})", "Look for a quote that is not closed"
        ) from None
    if bad and not skip_bad:
        more = f"; and {bad_count - len(bad):,} more bad lines" if bad_count > len(bad) else ""
        raise RatingsError(str(path), "; ".join(bad) + more, "Mend them, or leave them out with --skip-bad")
    notes = [f"{bad_count:,} bad lines are left out, the first is {bad[0]}"] if bad else []
    _check_text(path, table)
    return table.ratings(str(path), notes)


def _lines(file: IO[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Give the number and the fields of every line that is not blank."""
    if len(delimiter) > 1:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip("\r\n").split(delimiter)
        return
    # Tabs come from programs that do not quote; a quote there is a part of an id.
    how: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if delimiter == "\t" else {"strict": True}
    reader = csv.reader(file, delimiter=delimiter, **how)
    for fields in reader:
        if fields and (len(fields) > 1 or fields[0].strip()):
            yield reader.line_num, fields


def _header(fields: list[str]) -> tuple[int, int, int] | None:
    """Give the places of user, item and rating if this line names them."""
    words = [re.sub(r"[\W_]", "", field).lower() for field in fields]
    places = [next((i for i, word in enumerate(words) if word in NAMES[kind]), -1) for kind in NAMES]
    return None if -1 in places else (places[0], places[1], places[2])


def _add(table: _Table, fields: list[str], columns: tuple[int, int, int], width: int) -> str:
    """Add a line to the table; the answer says what is wrong with it, or nothing."""
    if len(fields) != width and (width or len(fields) not in (3, 4)):
        expected = f"the header's {width}" if width else "3 (user, item, rating) or 4 (a timestamp)"
        return f"expected {expected} fields, found {len(fields)}"
    user, item, text = fields[columns[0]].strip(), fields[columns[1]].strip(), fields[columns[2]]
    if not user or not item:
        return f"the {'item' if user else 'user'} is empty"
    try:
        value = float(text) if "_" not in text else math.nan  # Python alone reads 1_000 as a number
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:  # a NaN is not either
        return f"expected a rating, found {_clip(text)}"
    table.add(user, item, value)
    return ""


def _check_text(path: Path, table: _Table) -> None:
    for name in (*table.user_places, *table.item_places):
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError:
                fix = "Convert it: iconv -f latin1 -t utf8"
                raise RatingsError(str(path), f"the id {name!a} is not UTF-8 text", fix) from None


def _clip(text: str) -> str:
    shown = ascii(text.strip())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
