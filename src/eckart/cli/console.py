"""Printing: tables and JSON on stdout, progress and remarks on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from eckart.parallel import OnProgress, Progress
from eckart.text import escape
from eckart.text import size as size

WIDE = 220  # columns if stdout is not a terminal, enough for lines in files and pipes not to be broken


class _Console(Console):
    """A console that prints no control characters."""

    def print(self, *objects: Any, **options: Any) -> None:  # Any: the signature of rich
        super().print(*(escape(o, keep="\n") if isinstance(o, str) else o for o in objects), **options)


class _Pipe(_Console):
    """A console whose reader may close the pipe."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _leave()


def _leave() -> None:
    """Discard all further output: the reader closed the pipe, as `head` does.

    The command continues, so that its exit code still reports the result.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def out() -> Console:
    """Return the console for results."""
    return _Pipe(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=True)


def err() -> Console:
    """Return the console for progress and remarks."""
    return _Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print one JSON document."""
    text = json.dumps(data, indent=1, allow_nan=False, default=str)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _leave()


def print_text(text: str) -> None:
    """Print text unchanged; as UTF-8 where the encoding of stdout cannot represent it."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
        sys.stdout.write(text)
        sys.stdout.flush()
    except UnicodeEncodeError:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _leave()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table; all columns but the first are right-aligned."""
    table = Table(title=title and _plain(title), title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(
            _plain(column, "bold"), justify="left" if i == 0 else "right", no_wrap=True, overflow="fold"
        )
    for row in rows:
        table.add_row(*("-" if cell is None else _plain(str(cell)) for cell in row))
    console = out()
    console.print(table, soft_wrap=False, crop=False)


def _plain(text: str, style: str = "") -> Text:
    """Return text without markup, in which control characters are escaped."""
    return Text(escape(text), style)


def say(message: str, quiet: bool = False) -> None:
    """Print a remark on stderr."""
    if not quiet:
        err().print(message, markup=False)


class _Detail(ProgressColumn):
    """Items done of the total; also bytes and their speed, if bytes are counted."""

    def render(self, task: Task) -> Text:
        step: Progress | None = task.fields["step"]
        if step is None or step.total is None:
            return Text("")
        text = f"{step.done}/{step.total}"
        if step.bytes_total:
            text += f"  {size(step.bytes_done)} of {size(step.bytes_total)}"
            if task.speed:
                text += f"  {size(task.speed)}/s"
        return Text(text, style="progress.download")


@contextmanager
def progress_bar(quiet: bool, title: str) -> Iterator[OnProgress | None]:
    """Show a progress bar with counts and the time left; nothing if quiet or not a terminal."""
    console = err()
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Detail(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, step=None)

        def update(step: Progress) -> None:
            done, total = (step.bytes_done, step.bytes_total) if step.bytes_total else (step.done, step.total)
            bar.update(task, completed=done, total=total, step=step)

        yield update


def percent(share: float | None, digits: int = 1) -> str | None:
    """Return a share as a percentage."""
    return None if share is None else f"{100 * share:.{digits}f}%"


def share(number: float) -> str:
    """Return a share as a percentage to two significant digits: 0.00358 -> '0.36 %'."""
    return f"{100 * number:.2g} %"


def figure(number: float | None, digits: int = 3) -> str | None:
    """Return a number with a few significant digits."""
    return None if number is None else f"{number:.{digits}g}"


def shape(axes: Sequence[int]) -> str:
    """Return a shape: (3, 4) gives '3x4'."""
    return "x".join(str(n) for n in axes)
