"""Printing: text and JSON on stdout, progress and remarks on stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGINT
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from eckart.parallel import OnProgress, Progress
from eckart.text import count, escape
from eckart.text import size as size

WIDE = 220  # columns if stdout is not a terminal, enough for lines in files and pipes not to be broken


class _Console(Console):
    """A console that prints no control characters, and wraps text for a terminal between words."""

    def print(self, *objects: Any, **options: Any) -> None:  # Any: the signature of rich
        escaped = [escape(o, keep="\n") if isinstance(o, str) else o for o in objects]
        if not self.soft_wrap and "soft_wrap" not in options:
            escaped = ["\n".join(wrap(o, self.width)) if isinstance(o, str) else o for o in escaped]
        super().print(*escaped, **{"soft_wrap": True, **options})


def wrap(text: str, width: int) -> list[str]:
    """Break a text between words into lines of this width. A longer word gets a line of its own, uncut.

    Parameters
    ----------
    text : str
        One or more lines without control characters.
    width : int
        Columns of the terminal.

    Returns
    -------
    list of str
    """
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and cell_len(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def out() -> Console:
    """Return the console for results."""
    is_terminal = sys.stdout.isatty()
    return _Console(width=None if is_terminal else WIDE, highlight=False, soft_wrap=not is_terminal)


def err() -> Console:
    """Return the console for progress and remarks."""
    return _Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(data: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(data, indent=1, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


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


def say(message: str, quiet: bool = False) -> None:
    """Print a remark on stderr."""
    if not quiet:
        err().print(message, markup=False)


def say_next(*words: object, quiet: bool = False) -> None:
    """Print on stderr the command to type next, in one line that can be copied.

    Parameters
    ----------
    *words : object
        The command and its arguments, which are quoted for a shell.
    quiet : bool
        Print nothing.
    """
    if not quiet:
        command = shlex.join(["eckart", *map(str, words)])
        err().print(f"Next: {command}", markup=False, soft_wrap=True)


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


@dataclass
class _Run:
    """The pass that is running, for the last words of an interrupted program."""

    resumes: bool
    step: Progress | None = None
    has_bar: bool = False


_run: _Run | None = None


@contextmanager
def progress_bar(quiet: bool, title: str, *, resumes: bool = False) -> Iterator[OnProgress]:
    """Show a progress bar with counts and the time left; nothing if quiet or not a terminal.

    ``resumes`` tells whether the same command, given again after an interruption, continues where it was.
    """
    global _run
    console, run = err(), _Run(resumes)
    _run = run
    if quiet or not console.is_terminal:

        def count_step(step: Progress) -> None:
            run.step = step

        yield count_step
        _run = None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Detail(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        run.has_bar = True
        task = bar.add_task(title, total=None, step=None)

        def update(step: Progress) -> None:
            run.step = step
            done, total = (step.bytes_done, step.bytes_total) if step.bytes_total else (step.done, step.total)
            bar.update(task, completed=done, total=total, step=step)

        yield update
    _run = None


def last_words(number: int) -> str:
    """Return what an interrupted program prints: how far it was, and whether the same command resumes."""
    run = _run or _Run(resumes=False)
    return f"{_clear_line(number)}{interruption(run.step, run.resumes)}\n"


def interruption(step: Progress | None, resumes: bool) -> str:
    """Return the line that reports an interruption after a step of a pass.

    >>> interruption(Progress(18, 21), resumes=True)
    'Interrupted: 18 of 21 tensors done; the same command resumes.'
    """
    text = "Interrupted"
    if step is None and resumes:
        step = Progress(0, None)
    if step is not None and step.total is None:
        text += f": {count(step.done, step.noun)} done"
    elif step is not None:
        text += f": {step.done:,} of {count(step.total or 0, step.noun)} done"
    return text + ("; the same command resumes." if resumes else ".")


def _clear_line(number: int) -> str:
    """Return what removes a progress bar from the terminal, or moves below the ^C that a terminal prints."""
    if not err().is_terminal:
        return ""
    if _run is not None and _run.has_bar:
        return "\r\x1b[2K\x1b[?25h"
    return "\n" if number == SIGINT else ""


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
