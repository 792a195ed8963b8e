"""Read ratings from MovieLens files and from any CSV. The format is recognised by the content."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from eckart.arguments import argument
from eckart.arrays import Floats
from eckart.errors import RatingsError
from eckart.paths import user_path
from eckart.text import clip, count, either

USUAL_FILES = ("u.data", "ratings.dat", "ratings.csv")  # names in the MovieLens archives, oldest first
DELIMITERS = ("::", "\t", ";", ",")  # the first of these that occurs in the first line is used
LARGEST = 1e30  # largest absolute rating; the squares of the float32 factors must not overflow
SHOWN = 5  # number of bad lines that a message describes
EXAMPLE = "Use lines of user, item and rating, such as 196,242,3"
# Names of the columns in a header, in lower case without spaces and underscores. They are those of MovieLens,
# Netflix, Amazon, Goodbooks, Book-Crossing, Yelp, Last.fm, MyAnimeList, Food.com, Jester and Steam.
NAMES = {
    "user": {"user", "userid", "uid", "useridx", "username", "reviewer", "reviewerid"}
    | {"customer", "customerid", "cust", "custid"},
    "item": {"item", "itemid", "iid", "movie", "movieid", "film", "filmid", "product", "productid"}
    | {"asin", "parentasin", "isbn", "book", "bookid", "track", "trackid", "song", "songid"}
    | {"artist", "artistid", "business", "businessid", "anime", "animeid", "recipe", "recipeid"}
    | {"place", "placeid", "joke", "jokeid", "game", "gameid", "appid"},
    "rating": {"rating", "ratings", "score", "stars", "value", "bookrating", "overall"}
    | {"weight", "plays", "playcount", "hours"},
}
LOOKED_FOR = "user (or user_id, ...), item (or item_id, movie_id, isbn, ...) and rating (or score, ...)"
NETFLIX = re.compile(r"\d+:\s*")  # the line above the ratings of a film in the files of the Netflix prize

HOLDOUT = 0.2  # share of the ratings on which the stated error of a recommender is measured


@dataclass(frozen=True, eq=False)
class Ratings:
    """A table of ratings. Use `read_ratings` or `Ratings.of` to create one.

    Parameters
    ----------
    users, items : ndarray (n,) of int
        Indices into ``user_ids`` and ``item_ids``. No pair of user and item occurs twice.
    values : ndarray (n,) of float64
        The ratings, of absolute value at most 1e30.
    user_ids, item_ids : tuple of str
        Ids as written in the file, in the order of first appearance.
    notes : tuple of str
        Irregularities that were tolerated.

    Examples
    --------
    >>> r = Ratings.of(["ann", "bob", "ann"], ["tea", "tea", "rum"], [5, 3, 1])
    >>> len(r), r.shape, r.user_ids
    (3, (2, 2), ('ann', 'bob'))
    """

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    values: Floats
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and number of items."""
        return len(self.user_ids), len(self.item_ids)

    @classmethod
    def of(cls, users: Sequence[object], items: Sequence[object], values: Iterable[float]) -> Ratings:
        """Build ratings from three sequences of equal length.

        Parameters
        ----------
        users, items : sequence
            Ids, which are converted to strings.
        values : iterable of float
            The ratings. If a pair of user and item occurs more than once, its last rating is kept.

        Returns
        -------
        Ratings

        Raises
        ------
        RatingsError
            If the lengths differ, there are no ratings, or a rating is not a number of absolute value at most
            1e30.
        """
        numbers = np.asarray(list(values), np.float64)
        if not len(users) == len(items) == len(numbers):
            lengths = f"{len(users)} users, {len(items)} items and {len(numbers)} ratings"
            raise RatingsError("Ratings.of", f"expected three sequences of equal length, got {lengths}")
        bad = np.flatnonzero(~(np.abs(numbers) <= LARGEST))
        if len(bad):
            defect = f"values[{bad[0]}] is {numbers[bad[0]]}"
            what = f"{defect}, but a rating must be a number of absolute value at most {LARGEST:g}"
            raise RatingsError("Ratings.of", what, "Remove this rating")
        table = _Table()
        for user, item, value in zip(users, items, numbers.tolist(), strict=True):
            table.add(str(user), str(item), value)
        return table.ratings("Ratings.of", [])


def read_ratings(path: str | Path, skip_bad: bool = False) -> Ratings:
    """Read ratings from a text file.

    Parameters
    ----------
    path : str or Path
        ``u.data`` (separated by tabs), ``ratings.dat`` (by ``::``), ``ratings.csv`` (with a header), or any
        other text file with the columns user, item, rating and optionally a timestamp, separated by tabs,
        ``::``, semicolons or commas. With a header the columns may be in any order. A folder that holds one
        of the three named files is accepted too.
    skip_bad : bool
        Whether to skip invalid lines and report their number, instead of refusing the file.

    Returns
    -------
    Ratings
        The ratings in the order of the file.

    Raises
    ------
    RatingsError
        If the file is missing, is not text, is empty, or has lines without a user, an item and a number of
        absolute value at most 1e30. The message describes the first few such lines.

    Notes
    -----
    Ids are text: ``7`` and ``07`` are different users. If a pair of user and item is rated more than once,
    the last rating is kept. Reading takes about two seconds per million lines, and 50 bytes of memory for
    each rating plus the ids.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "ratings.csv"
    >>> _ = path.write_text("userId,movieId,rating,timestamp\\n1,31,2.5,12607591\\n1,1029,3.0,12607591\\n")
    >>> r = read_ratings(path)
    >>> r.item_ids, r.values.tolist()
    (('31', '1029'), [2.5, 3.0])
    """
    path = _find_file(user_path(path))
    try:
        # Bytes that are not UTF-8 are read as surrogates. `_check_text` refuses ids that contain them.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return _read(path, file, skip_bad)
    except FileNotFoundError as error:
        raise RatingsError(str(path), "there is no such file or folder", "Check the path") from error
    except OSError as error:
        what = f"the file cannot be read ({error.strerror or error})"
        raise RatingsError(str(path), what, "Check the path") from error


def _find_file(path: Path) -> Path:
    """Return the file to read, given a file or folder, and refuse files that are not text."""
    if path.is_dir():
        candidates = [path / name for name in USUAL_FILES if (path / name).is_file()]
        if not candidates:
            raise RatingsError(
                str(path), f"the folder holds none of {', '.join(USUAL_FILES)}", "Pass the path of a file"
            )
        path = candidates[0]
    if path.exists() and not path.is_file():  # reading a pipe would block forever
        raise RatingsError(str(path), "expected a file of ratings, found a pipe or a device")
    if path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(1024)
        except OSError:
            return path  # the caller opens the file again and reports the error
        if head.startswith(b"PK\x03\x04"):
            raise RatingsError(
                str(path), "expected text, found a zip archive", f"Unpack it: unzip {path.name}"
            )
        if b"\0" in head:
            raise RatingsError(str(path), "the file is not text", EXAMPLE)
    return path


class _Table:
    """Ratings under construction. Ids become indices in the order of first appearance."""

    def __init__(self) -> None:
        self.user_index: dict[str, int] = {}
        self.item_index: dict[str, int] = {}
        self.users, self.items, self.values = array("q"), array("q"), array("d")

    def add(self, user: str, item: str, value: float) -> None:
        self.users.append(self.user_index.setdefault(user, len(self.user_index)))
        self.items.append(self.item_index.setdefault(item, len(self.item_index)))
        self.values.append(value)

    def ratings(self, where: str, notes: list[str]) -> Ratings:
        if not self.values:
            raise RatingsError(where, "there are no ratings", EXAMPLE)
        users = np.array(self.users, np.intp)
        items = np.array(self.items, np.intp)
        pairs = users * len(self.item_index) + items
        _, last = np.unique(pairs[::-1], return_index=True)  # the first in reverse order is the last
        keep = np.sort(len(pairs) - 1 - last)
        repeated = len(pairs) - len(keep)
        if repeated:
            note = (
                f"dropped {count(repeated, 'repeated rating')}; the last rating of each user and item is kept"
            )
            notes = [*notes, note]
        return Ratings(
            users=users[keep],
            items=items[keep],
            values=np.array(self.values)[keep],
            user_ids=tuple(self.user_index),
            item_ids=tuple(self.item_index),
            notes=tuple(notes),
        )


def _read(path: Path, file: IO[str], skip_bad: bool) -> Ratings:
    first = next((line for line in file if line.strip()), "")
    delimiter = next((d for d in DELIMITERS if d in first), "")
    if NETFLIX.fullmatch(first):
        raise RatingsError(
            str(path),
            f"expected user, item and rating in the first line, found {_quote(first)}, the number of a film",
            'Convert it: awk -F, \'/:/ {film = $1 + 0; next} {print $1 "," film "," $2}\' '
            f"{path.name} > ratings.csv",
        )
    if not first:
        raise RatingsError(str(path), "the file is empty", EXAMPLE)
    if not delimiter:
        raise RatingsError(
            str(path),
            f"expected user, item and rating in the first line, found {_quote(first)}",
            "Separate them with tabs, ::, semicolons or commas",
        )
    file.seek(0)
    table, bad_count = _Table(), 0
    bad: list[str] = []
    columns: tuple[int, int, int] | None = None
    width = 0
    try:
        for number, fields in _lines(file, delimiter):
            if columns is None:
                header = _header(path, fields)
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
            str(path), f"the file is not valid CSV ({error})", "Look for a quote that is not closed"
        ) from None
    if bad and not skip_bad:
        more = f"; and {count(bad_count - len(bad), 'more bad line')}" if bad_count > len(bad) else ""
        fix = f"Correct these lines, or skip them with {argument('skip_bad', True)}"
        if not any(character.isdigit() for character in first):
            fix = f"If the first line is a header, name its columns {LOOKED_FOR}"
        raise RatingsError(str(path), "; ".join(bad) + more, fix)
    notes = [f"skipped {count(bad_count, 'bad line')}; the first is {bad[0]}"] if bad else []
    _check_text(path, table)
    return table.ratings(str(path), notes)


def _lines(file: IO[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every line that is not blank."""
    if len(delimiter) > 1:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip("\r\n").split(delimiter)
        return
    if delimiter == "\t":
        # Programs that write tabs do not quote, so a quote is part of an id.
        reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(_with_doubled_quotes(file, delimiter), delimiter=delimiter, strict=True)
    for fields in reader:
        if fields and (len(fields) > 1 or fields[0].strip()):
            yield reader.line_num, fields


def _with_doubled_quotes(file: IO[str], delimiter: str) -> Iterator[str]:
    """Yield lines in which a quote within a field is doubled; Book-Crossing has a backslash before it."""
    inner = re.compile(rf'\\"(?![{delimiter}\r\n]|$)')
    for line in file:
        yield inner.sub('""', line) if '\\"' in line else line


def _header(path: Path, fields: list[str]) -> tuple[int, int, int] | None:
    """Return the columns of user, item and rating if a line is a header; None if it is a line of ratings.

    If one of the three is missing, it may be the only column that is left, or the only one named as an id.
    """
    titles = [re.sub(r"[\W_]", "", field).lower() for field in fields]
    columns = {kind: next((i for i, t in enumerate(titles) if t in NAMES[kind]), -1) for kind in NAMES}
    missing = [kind for kind, column in columns.items() if column < 0]
    if len(missing) == len(NAMES) or any(_number(field) is not None for field in fields):
        return None
    if missing == ["item"]:
        rest = [i for i in range(len(fields)) if i not in columns.values()]
        ids = [i for i in rest if titles[i].endswith("id")]
        if len(rest) == 1 or len(ids) == 1:
            columns["item"] = (ids if len(ids) == 1 else rest)[0]
            missing = []
    if missing:
        raise RatingsError(
            str(path),
            f"the header has no column for {either(missing)}: {clip(', '.join(fields), 200)}",
            f"Name the columns {LOOKED_FOR}, in any order",
        )
    return columns["user"], columns["item"], columns["rating"]


def _number(text: str) -> float | None:
    """Return a number; None if the text is not one. Only Python accepts 1_000 as a number."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _add(table: _Table, fields: list[str], columns: tuple[int, int, int], width: int) -> str:
    """Add a line to the table. Returns a description of its defect, or ``""`` if it is valid."""
    if len(fields) != width and (width or len(fields) not in (3, 4)):
        expected = f"the header's {width}" if width else "3 (user, item, rating) or 4 (with a timestamp)"
        return f"expected {expected} fields, found {len(fields)}"
    user, item, text = fields[columns[0]].strip(), fields[columns[1]].strip(), fields[columns[2]]
    if not user or not item:
        return f"the {'item' if user else 'user'} is empty"
    value = _number(text)
    if value is None or not math.isfinite(value):
        return f"expected a rating, found {_quote(text)}"
    if abs(value) > LARGEST:
        return f"expected a rating of absolute value at most {LARGEST:g}, found {_quote(text)}"
    table.add(user, item, value)
    return ""


def _check_text(path: Path, table: _Table) -> None:
    for name in (*table.user_index, *table.item_index):
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError:
                fix = "Convert the file: iconv -f latin1 -t utf8"
                raise RatingsError(str(path), f"the id {name!a} is not UTF-8 text", fix) from None


def _quote(text: str) -> str:
    return clip(repr(text.strip()), 60)
