"""One case: inputs with a few changes, one command, and the judgement of what it did."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from unittest import mock

import typer.main

from eckart.cli import app
from fuzz.files import mutate_file
from fuzz.guard import CPU_SECONDS, MEMORY, Memory, Watch
from fuzz.kinds import FAMILIES, KINDS
from support.terminal import tree

ANSWER = re.compile(r"^eckart: `|^Usage: eckart", re.MULTILINE)
WARNING = re.compile(r"^\S+\.py:\d+: \w*Warning", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A case before it runs: all of it follows from the seed."""

    seed: int
    kind: str
    command: str

    @classmethod
    def of(cls, seed: int) -> Case:
        """Return the case of a seed: its family in turn, its kind and command by chance."""
        random = Random(seed)
        family = FAMILIES[seed % len(FAMILIES)]
        kind = random.choice([name for name, kind in KINDS.items() if kind.family == family])
        return cls(seed, kind, random.choice((*KINDS[kind].commands, *KINDS[kind].refused)))

    def prepare(self, valid: Path, place: Path) -> list[str]:
        """Copy the valid inputs to a place and change them; return what was changed.

        Parameters
        ----------
        valid : Path
            The valid inputs.
        place : Path
            A folder that does not exist.
        """
        random = Random(self.seed + 0.5)
        copy_inputs(valid, place)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        read = _files_read(files, self.command, place)
        intact = sorted(path for path in valid.rglob("*") if path.is_file())
        changes = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            path = random.choice(read)
            changes.append(f"{path.relative_to(place)}: {mutate_file(random, path, intact)}")
        return changes


@dataclass
class Result:
    """What a case did."""

    seed: int
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0
    code: int | None = None
    output: str = ""


def copy_inputs(valid: Path, place: Path) -> None:
    """Copy inputs, and create the folders that a command writes into."""
    shutil.copytree(valid, place)
    for name in ("in", "work", "out", "tmp"):
        (place / name).mkdir(exist_ok=True)


def _files_read(files: list[Path], command: str, place: Path) -> list[Path]:
    """Return the files below the paths of a command."""
    named = [place / word for word in command.split() if word.startswith(("in/", "work/"))]
    return [path for path in files if any(path == top or top in path.parents for top in named)]


@cache
def quick_typer() -> None:
    """Build the tree of commands once, which otherwise takes longer than most cases."""
    typer.main.get_command = cache(typer.main.get_command)  # type: ignore[assignment]


def run(case: Case, place: Path, watch: Watch) -> Result:
    """Run a prepared case in this process and judge it."""
    quick_typer()
    result = Result(case.seed)
    before = tree(place / "in")
    out, err = io.StringIO(), io.StringIO()
    argv = ["eckart", *shlex.split(case.command)]
    environment = {"TERM": "dumb", "COLUMNS": "80"}
    os.chdir(place)
    memory, start = Memory(), time.process_time()
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(tempfile, "tempdir", str(place / "tmp")),
        mock.patch.object(os, "fsync", lambda descriptor: None),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        watch.over(place) as actions,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for shown in (UserWarning, RuntimeWarning, SyntaxWarning):
            warnings.simplefilter("always", shown)
        try:
            app.main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    result.seconds, result.memory = time.process_time() - start, memory.grown()
    result.code = code if isinstance(code, int) else None
    result.output = f"{out.getvalue()[-2_000:]}{err.getvalue()[-2_000:]}"
    result.faults = [
        *_faults(code, err.getvalue()),
        *(f"did something forbidden: {action}" for action in actions),
    ]
    if tree(place / "in") != before:
        result.faults.append("changed its inputs")
    if result.seconds > CPU_SECONDS:
        result.faults.append(f"over {CPU_SECONDS} s: {result.seconds:.1f} s")
    if result.memory > MEMORY or "out of memory" in err.getvalue():
        result.faults.append(f"over 1 GB: {result.memory / 1e9:.2f} GB")
    return result


def _faults(code: object, err: str) -> list[str]:
    """Return what is wrong with an exit code and the text on stderr."""
    if "internal error" in err or "Traceback" in err or not isinstance(code, int):
        return [f"internal error: {code if not isinstance(code, int) else err.strip()[-300:]}"]
    faults = [f"a warning of Python: {found[0]}" for found in [WARNING.search(err)] if found]
    if code not in (0, 1, 2):
        faults.append(f"exit code {code}")
    elif code and not ANSWER.search(err):
        faults.append(f"exit code {code} without its line: {err.strip()[-300:]}")
    return faults
