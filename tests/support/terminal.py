"""The program as a user runs it: as a process of its own, or, quicker, in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import eckart
from eckart.cli.app import main

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "ECKART_DEBUG", "NO_COLOR")},
    "PYTHONPATH": str(Path(eckart.__file__).parents[1]),
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Ran:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def run(*argv: object) -> Ran:
    """Call `main` with these words, as the installed script does."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["eckart", *map(str, argv)]),
        mock.patch.dict(os.environ, {"TERM": "dumb"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int)
    return Ran(code or 0, out.getvalue(), err.getvalue())


def start(*argv: object, **how: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m eckart`` with these words."""
    how = {"env": ENVIRONMENT, "timeout": 120, **how}
    return subprocess.run(
        [sys.executable, "-m", "eckart", *map(str, argv)], capture_output=True, text=True, **how
    )


def tree(folder: Path) -> dict[str, object]:
    """Everything under a folder: the bytes of files, where links lead, None for folders."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif not path.is_file():  # a folder, or a pipe, which would wait for ever
            found[name] = None
        else:  # a hole of gigabytes is told by its size
            found[name] = path.read_bytes() if path.stat().st_size < 1 << 24 else path.stat().st_size
    return found
