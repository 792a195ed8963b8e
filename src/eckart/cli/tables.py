"""Tables on stdout that fit the terminal without cutting a digit.

A table that is too wide for the terminal is narrowed in this order: titles wrap between words, names are
shortened in the middle, and columns are left out, beginning with the least important. If the columns that
must stay are still too wide, the table is printed at its full width, and the terminal wraps its lines.
Tables that go to a file or a pipe are never narrowed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest

from rich.cells import cell_len
from rich.text import Text

from eckart.cli import console
from eckart.cli.shorten import least_width, shorten_all
from eckart.text import escape

GAP = "  "
NARROWEST_WORDS = 18  # terminal columns to which a cell of words may be wrapped
Cell = str | int | None


class Cells(Enum):
    """What the cells of a column are, which decides how they are narrowed. Room is given in this order."""

    NAME = "shortened in the middle, as long as different names stay different"
    WORDS = "wrapped between words"
    PHRASE = "never narrowed, aligned to the left"
    VALUE = "never narrowed, aligned to the right"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    title : str
        Its title, which may wrap between words.
    cells : Cells
        How its cells may be narrowed, and how they are aligned.
    short : str
        Its meaning in a few words, for the legend below a table.
    full : str
        Its meaning in a sentence.
    """

    title: str
    cells: Cells = Cells.VALUE
    short: str = ""
    full: str = ""


@dataclass(frozen=True)
class Layout:
    """The columns of a table that are shown.

    Parameters
    ----------
    widths : dict of int to int
        The width in terminal columns, by position of the column.
    """

    widths: dict[int, int]


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, drop: Sequence[str] = ()
) -> list[Column]:
    """Print a table on stdout, no wider than the terminal if that is possible.

    Parameters
    ----------
    columns : sequence of Column
        The columns.
    rows : iterable of sequences of str, int or None
        The cells of each row. None is shown as "-".
    drop : sequence of str
        Titles of the columns that may be left out on a narrow terminal, the least important first.

    Returns
    -------
    list of Column
        The columns that are shown.
    """
    out = console.out()
    cells = [["-" if cell is None else escape(str(cell)) for cell in row] for row in rows]
    layout = fit(columns, cells, out.width if sys.stdout.isatty() else None, drop)
    header, *lines = render(columns, cells, layout)
    out.print(Text(header, "bold"), soft_wrap=True)
    if lines:
        out.print(Text("\n".join(lines)), soft_wrap=True)
    hidden = [column.title for i, column in enumerate(columns) if i not in layout.widths]
    if hidden:
        out.print(
            f"Hidden at this width: {', '.join(hidden)}. Use a wider terminal or --json, or pipe the output.",
            markup=False,
        )
    return [columns[i] for i in layout.widths]


def print_legend(columns: Sequence[Column], shown: Sequence[Column], explain: bool) -> None:
    """Print what the columns of a table mean: briefly on a terminal, in full if asked, else nothing.

    Parameters
    ----------
    columns, shown : sequence of Column
        All columns, and those that are shown; the brief legend is about the latter.
    explain : bool
        Explain every column in full.
    """
    out = console.out()
    if explain:
        out.print()
        titles: dict[str, list[str]] = {}  # columns of one meaning share a row
        for column in columns:
            titles.setdefault(column.full, []).append(column.title)
        rows = [(", ".join(of_meaning), meaning) for meaning, of_meaning in titles.items()]
        print_table((Column("column", Cells.WORDS), Column("meaning", Cells.WORDS)), rows)
    elif sys.stdout.isatty():
        meanings = "; ".join(f"{column.title}: {column.short}" for column in shown if column.short)
        out.print(f"{meanings}. --explain describes every column.", markup=False, style="dim")


def fit(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int | None, drop: Sequence[str]
) -> Layout:
    """Choose the columns to show, and their widths.

    Parameters
    ----------
    columns : sequence of Column
        The columns.
    cells : sequence of sequences of str
        The text of every cell, by row.
    width : int or None
        Width of the terminal; None for no limit.
    drop : sequence of str
        Titles of the columns that may be left out, the least important first.

    Returns
    -------
    Layout
        All columns at full width if there is no limit, and if the columns that must stay do not fit.
    """
    texts = [[row[i] for row in cells] for i in range(len(columns))]
    full = {i: _widest([column.title, *texts[i]]) for i, column in enumerate(columns)}
    if width is None or _total(full) <= width:
        return Layout(full)
    widths = {i: _least(column, texts[i]) for i, column in enumerate(columns)}
    titles = [column.title for column in columns]
    for title in drop:
        if _total(widths) <= width:
            break
        del widths[titles.index(title)]
    spare = width - _total(widths)
    if spare < 0:
        return Layout(full)
    kinds = list(Cells)
    for i in sorted(widths, key=lambda i: kinds.index(columns[i].cells)):
        more = min(spare, full[i] - widths[i])
        widths[i] += more
        spare -= more
    return Layout(widths)


def render(columns: Sequence[Column], cells: Sequence[Sequence[str]], layout: Layout) -> Iterator[str]:
    """Yield the header, then each row. A text of several lines is one with wrapped cells.

    Parameters
    ----------
    columns : sequence of Column
        The columns.
    cells : sequence of sequences of str
        The text of every cell, by row.
    layout : Layout
        The columns to show.

    Yields
    ------
    str
        Lines without spaces at their ends.
    """
    shown = [(columns[i].cells, width) for i, width in layout.widths.items()]
    titles = [console.wrap(columns[i].title, width) for i, width in layout.widths.items()]
    height = max(map(len, titles))
    yield _lines(shown, [[""] * (height - len(title)) + title for title in titles])
    by_column: list[list[list[str]]] = []  # for each column, the lines of each cell
    for i, width in layout.widths.items():
        texts = [row[i] for row in cells]
        if columns[i].cells is Cells.WORDS:
            by_column.append([console.wrap(text, width) for text in texts])
        else:
            by_column.append([[text] for text in shorten_all(texts, width)])
    for row in zip(*by_column, strict=True):
        yield _lines(shown, row)


def _lines(shown: Sequence[tuple[Cells, int]], row: Sequence[list[str]]) -> str:
    """Return one row of cells, each of which may have several lines."""
    lines = []
    for parts in zip_longest(*row, fillvalue=""):
        padded = []
        for (kind, width), part in zip(shown, parts, strict=True):
            space = " " * (width - cell_len(part))
            padded.append(space + part if kind is Cells.VALUE else part + space)
        lines.append(GAP.join(padded).rstrip())
    return "\n".join(lines)


def _least(column: Column, texts: Sequence[str]) -> int:
    """Return the smallest width at which a column can be shown."""
    title = _widest(column.title.split())
    if column.cells is Cells.NAME:
        return max(title, least_width(texts))
    if column.cells is Cells.WORDS:
        longest = _widest([word for text in texts for word in text.split()])
        return max(title, longest, min(_widest(texts), NARROWEST_WORDS))
    return max(title, _widest(texts))


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)
