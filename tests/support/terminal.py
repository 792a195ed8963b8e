"""The program as a user runs it: as a separate process, or, faster, in this one; and what it printed."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import eckart
from eckart.cli.app import main

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "ECKART_DEBUG", "NO_COLOR")},
    "PYTHONPATH": str(Path(eckart.__file__).parents[1]),
    "OPENBLAS_NUM_THREADS": "1",
}
STYLE = r"\x1b\[[0-9;]*m"  # bold and the like, which NO_COLOR does not switch off
LARGE_FILE = 1 << 24  # bytes from which `tree` compares only sizes


@dataclass(frozen=True)
class Ran:
    """The exit code of a command, and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


class Screen(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def run(*argv: object, width: int | None = None) -> Ran:
    """Call `main` with these arguments, as the installed script does.

    With a width, stdout is a terminal of that many columns. Without one, it is a pipe.
    """
    out, err = io.StringIO() if width is None else Screen(), io.StringIO()
    settings = {"TERM": "dumb", "COLUMNS": "80"}
    if width is not None:
        settings = {"TERM": "xterm", "COLUMNS": str(width), "NO_COLOR": "1"}
    with (
        mock.patch.object(sys, "argv", ["eckart", *map(str, argv)]),
        mock.patch.dict(os.environ, settings),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int)
    text = out.getvalue()
    return Ran(code or 0, text if width is None else re.sub(STYLE, "", text), err.getvalue())


def start(*argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m eckart`` with these arguments; the options are those of `subprocess.run`."""
    options = {"env": ENVIRONMENT, "timeout": 120, "text": True, **options}
    return subprocess.run([sys.executable, "-m", "eckart", *map(str, argv)], capture_output=True, **options)


def table_rows(text: str) -> dict[str, list[str]]:
    """Return the cells of a printed table by the first cell of each row.

    Cells are separated by spaces, so a header of two words counts as two cells.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return {first: cells for first, *cells in rows}


def tree(folder: Path) -> dict[str, object]:
    """Return everything under a folder: the bytes of files, the targets of links, None for the rest.

    A file of `LARGE_FILE` bytes or more is represented by its size: the tests write such files with holes.
    """
    contents: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            contents[name] = os.readlink(path)
        elif not path.is_file():  # a folder; or a pipe, which would block a reader forever
            contents[name] = None
        else:
            size = path.stat().st_size
            contents[name] = path.read_bytes() if size < LARGE_FILE else size
    return contents
