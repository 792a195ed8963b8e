"""Tables as they are printed, read back cell by cell, and the names that they shorten."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

from rich.cells import cell_len

from eckart.cli import tables
from eckart.cli.tables import Cells, Column

HIDDEN = re.compile(r"Hidden at this width: (.*?)\. Use a wider terminal or --json, or pipe the output\.")


@dataclass
class Table:
    """The columns that a command passed to the printer, and the header and rows that it printed."""

    columns: Sequence[Column]
    printed: list[str] = field(default_factory=list)

    @property
    def is_legend(self) -> bool:
        return [column.title for column in self.columns] == ["column", "meaning"]

    @property
    def width(self) -> int:
        return max(cell_len(line) for text in self.printed for line in text.split("\n"))

    def read(self) -> tuple[list[str], list[list[str]]]:
        """Return the titles and the rows. A cell is what lies between columns of blanks.

        Two blanks stand between columns. Within a cell there is only ever one blank, so two positions that
        are blank in every line lie between columns.
        """
        lines = [[_cells(line) for line in text.split("\n")] for text in self.printed]
        width = max(len(line) for text in lines for line in text)
        padded = [[line + [" "] * (width - len(line)) for line in text] for text in lines]
        is_blank = [all(line[i] == " " for text in padded for line in text) for i in range(width)]
        spans, start = [], None
        for i in range(width + 2):
            blank = i >= width or is_blank[i]
            following = i + 1 >= width or is_blank[i + 1]
            if start is None and not blank:
                start = i
            elif start is not None and blank and following:
                spans.append((start, i))
                start = None
        texts = [
            [" ".join("".join(part) for line in text if (part := _strip(line[a:b]))) for a, b in spans]
            for text in padded
        ]
        return texts[0], texts[1:]


def _cells(line: str) -> list[str]:
    """Return what stands in each terminal column; a wide character takes two, an accent none."""
    columns: list[str] = []
    for character in line:
        width = cell_len(character)
        if width == 0:
            columns[-1] += character
        else:
            columns += [character] + [""] * (width - 1)
    return columns


def _strip(columns: list[str]) -> list[str]:
    return list("".join(columns).strip())


@contextmanager
def recorded() -> Iterator[list[Table]]:
    """Record every table that is printed in this block."""
    record: list[Table] = []
    render = tables.render

    def recording(columns, cells, layout):
        table = Table(columns)
        record.append(table)
        for text in render(columns, cells, layout):
            table.printed.append(text)
            yield text

    with mock.patch.object(tables, "render", recording):
        yield record


def hidden_columns(out: str) -> list[list[str]]:
    """Return the titles of the columns that each table says it hides, in order of the tables that do."""
    return [match.split(", ") for match in HIDDEN.findall(" ".join(out.split()))]


def is_shortened(shown: str, name: str) -> bool:
    """Whether ``shown`` is a name with its middle replaced by an ellipsis, and with no number cut."""
    head, ellipsis, tail = shown.partition("...")
    if not ellipsis or not name.startswith(head) or not name.endswith(tail):
        return False
    if len(head) + len(tail) >= len(name):
        return False
    rest = name[len(head) : len(name) - len(tail)]
    cuts_number = (head[-1:] + rest[:1]).isdigit() and head[-1:] and rest[:1]
    cuts_number_at_end = (rest[-1:] + tail[:1]).isdigit() and rest[-1:] and tail[:1]
    return not cuts_number and not cuts_number_at_end


def agrees(shown: str, expected: str, column: Column) -> bool:
    """Whether a cell shows all of its text, or a name in shortened form."""
    if shown == expected:
        return True
    return column.cells is Cells.NAME and is_shortened(shown, expected)
