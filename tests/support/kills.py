"""Run a command repeatedly, and kill it (SIGKILL) at its first, second, third, ... change of the disk.

Usage: ``python kills.py INPUTS COMMAND SCRATCH SITUATION...`` with a command of `workshop.COMMANDS` and
values of `Situation`. Prints a `Report` for each as JSON. Every run is forked from this process, which has
loaded everything; this saves the start of Python. Linux only.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

import typer.main

from eckart.checkpoint import exchange
from support.terminal import ENVIRONMENT, Ran, run, tree
from support.workshop import COMMANDS, Command

MOST = 400  # changes of the disk by one command; more are an error of this script
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
AUDITED = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")


class Situation(Enum):
    """What is there when a command starts, and what the file system can do."""

    FRESH = "fresh"
    OVERWRITE = "overwrite"
    WITHOUT_EXCHANGE = "without-exchange"  # as OVERWRITE, where replacing a folder takes two renames
    FULL = "full"  # as OVERWRITE; in place of a kill, the disk is full from this change on
    QUOTA = "quota"  # as FRESH; in place of a kill, the quota is used up from this change on


ERRORS = {Situation.FULL: errno.ENOSPC, Situation.QUOTA: errno.EDQUOT}


@dataclass
class Report:
    """What happened: the changes at which the command was killed, and what was wrong afterwards."""

    events: list[str] = field(default_factory=list)
    reruns: int = 0
    restored: int = 0  # kills after which the old output had to be moved back
    problems: list[str] = field(default_factory=list)


def reports_of(inputs: Path, name: str, scratch: Path, situations: list[str]) -> dict[str, Report]:
    """Run this script, and return its report on each situation."""
    done = subprocess.run(
        [sys.executable, __file__, str(inputs), name, str(scratch), *situations],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return {situation: Report(**report) for situation, report in json.loads(done.stdout).items()}


def main(inputs: str, name: str, scratch: str, *situations: str) -> None:
    typer.main.get_command = cache(typer.main.get_command)  # builds all commands in 20 ms
    command, folder = COMMANDS[name], Path(scratch)
    known = _make_known_outputs(Path(inputs), command, folder)
    gc.freeze()  # collecting in a child would copy the memory that it shares with this process
    reports = {
        each: kill_everywhere(Path(inputs), command, Situation(each), folder, known) for each in situations
    }
    print(json.dumps({each: asdict(report) for each, report in reports.items()}))


def kill_everywhere(
    inputs: Path, command: Command, situation: Situation, scratch: Path, known: tuple[object, object]
) -> Report:
    """Kill a command at each of its changes, check the disk, and run it again."""
    report = Report()
    old, new = known
    before = _fingerprint(inputs)
    is_fresh = situation is Situation.FRESH
    seen = set()
    for step in range(MOST):
        place, out = _place(scratch, command, is_fresh)
        argv = [*command.argv(inputs, 2), "-o", out, *([] if is_fresh else ["--overwrite"])]
        witness = scratch / "event"
        status = _fork(argv, situation, partial(_die_at, step, place, witness))
        if status == 0:
            return report
        event = witness.read_text()
        report.events.append(event)

        def note(problem: str, at: str = f"killed at {step} ({event})") -> None:
            report.problems.append(f"{at}: {problem}")

        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            note(f"the command ended with status {status}")
        state = _content(out)
        if situation is Situation.WITHOUT_EXCHANGE and state is None:
            report.restored += 1
            refused = _fork([a for a in argv if a != "--overwrite"], situation)  # it only restores
            state = _content(out)
            if os.waitstatus_to_exitcode(refused) != 2:
                note("the command without --overwrite did not refuse what it restored")
        if state not in ([None, new] if is_fresh else [old, new]):
            note("the output is neither the old nor the new one")
        if _fingerprint(inputs) != before:
            note("an input changed")
        # What a killed run leaves differs from step to step only inside its hidden folder, which the next run
        # removes as a whole. So the command is run again once for each kind of change and of remains.
        remains = (event, state == old, state == new, *(path.name.split("-")[0] for path in place.iterdir()))
        if remains in seen:
            continue
        seen.add(remains)
        report.reruns += 1
        if is_fresh and state == new:
            if os.waitstatus_to_exitcode(_fork(argv, situation)) != 2:
                note("a complete output was not refused without --overwrite")
        elif os.waitstatus_to_exitcode(_fork(argv, situation)) != 0:
            note("the command failed when it was run again")
        if _content(out) != new:
            note("the command gave other bytes when it was run again")
        left = sorted(path.name for path in place.iterdir() if path != out)
        if left:
            note(f"{', '.join(left)} left after the command was run again")
    raise SystemExit(f"the command did not end within {MOST} changes")


def fill_everywhere(
    inputs: Path, command: Command, situation: Situation, scratch: Path, known: tuple[object, object]
) -> Report:
    """Fill the disk before each change of a command, and check what it prints and leaves."""
    report = Report()
    old, new = known
    before = _fingerprint(inputs)
    is_fresh = situation is Situation.QUOTA
    for step in range(MOST):
        place, out = _place(scratch, command, is_fresh)
        argv = [*command.argv(inputs, 2), "-o", out, *([] if is_fresh else ["--overwrite"])]
        witness, result = scratch / "event", scratch / "result"
        witness.unlink(missing_ok=True)
        _fork(argv, situation, partial(_fill_at, step, place, witness, ERRORS[situation]), result)
        if not witness.is_file():
            return report
        event = witness.read_text()
        report.events.append(event)

        def note(problem: str, at: str = f"full at {step} ({event})") -> None:
            report.problems.append(f"{at}: {problem}")

        done = Ran(**json.loads(result.read_text()))
        # A name that is not synced to the disk is no error: the output is complete.
        is_done = done.code == 0 and event == "fsync"
        if not is_done:
            line = f"eckart: `{out}"
            if done.code != 2 or done.out or done.err.count("\n") != 1 or not done.err.startswith(line):
                note(f"not one line about the output: {done}")
            if os.strerror(ERRORS[situation]) not in done.err or ".tmp-" in done.err:
                note(f"the line does not name the reason, or names a hidden folder: {done.err}")
        if _content(out) != (new if is_done else None if is_fresh else old):
            note("the output is not what the exit code tells")
        if _fingerprint(inputs) != before:
            note("an input changed")
        left = sorted(path.name for path in place.iterdir() if path != out)
        if left:
            note(f"{', '.join(left)} left")
    raise SystemExit(f"the command did not end within {MOST} changes")


def _place(scratch: Path, command: Command, is_fresh: bool) -> tuple[Path, Path]:
    """Return an empty folder, and the output in it; with a copy of the old output unless it is fresh."""
    place = scratch / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    out = place / command.name
    if not is_fresh:
        (shutil.copytree if command.is_folder else shutil.copyfile)(scratch / "old" / command.name, out)
    return place, out


def _make_known_outputs(inputs: Path, command: Command, scratch: Path) -> tuple[object, object]:
    """Return the contents of two outputs of undisturbed runs; this also loads what the command needs."""
    contents = []
    for number, side in ((1, "old"), (2, "new")):
        (scratch / side).mkdir(parents=True)
        out = scratch / side / command.name
        done = run(*command.argv(inputs, number), "-o", out)
        if done.code:
            raise SystemExit(f"the undisturbed command failed: {done.err}")
        contents.append(_content(out))
    return contents[0], contents[1]


def _content(out: Path) -> object:
    """Return the bytes of a file or of the files in a folder; None if it does not exist."""
    if not os.path.lexists(out):
        return None
    return tree(out) if out.is_dir() else out.read_bytes()


def _fingerprint(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return what changes if anything in a folder is written."""
    entries = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        entries.append((str(path), status.st_ino, status.st_mtime_ns, size))
    return entries


def _fork(
    argv: list[object],
    situation: Situation,
    prepare: Callable[[], None] = lambda: None,
    result: Path | None = None,
) -> int:
    """Run a command in a forked process; return its wait status, and write what it printed to a file."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 99
    with contextlib.suppress(BaseException):
        if situation is Situation.WITHOUT_EXCHANGE:
            exchange._function = lambda name: None
        prepare()
        done = run(*argv)
        if result is not None:
            result.write_text(json.dumps(asdict(done)))
        code = done.code
    os._exit(code)


def _die_at(step: int, place: Path, witness: Path) -> None:
    """Kill this process before its change of this number below a folder, or in the middle of it."""
    changes = [step]

    def count(event: str, tear: Callable[[], object]) -> None:
        changes[0] -= 1
        if changes[0] == -1:
            _write_witness(witness, event)
            tear()
            os.kill(os.getpid(), signal.SIGKILL)

    _watch(place, count)


def _fill_at(step: int, place: Path, witness: Path, number: int) -> None:
    """Let this and every later change below a folder that needs room on the disk fail with an error."""
    changes = [step]

    def count(event: str, tear: Callable[[], object]) -> None:
        if event in ("os.remove", "os.rmdir"):
            return
        changes[0] -= 1
        if changes[0] == -1:
            _write_witness(witness, event)
            tear()
        if changes[0] < 0:
            raise OSError(number, os.strerror(number))

    _watch(place, count)


def _write_witness(witness: Path, event: str) -> None:
    descriptor = os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, event.encode())
    os.close(descriptor)


def _watch(place: Path, count: Callable[[str, Callable[[], object]], None]) -> None:
    """Call a function before every change below a folder, with its name and with a part of a write."""
    below = os.fsencode(place)

    def is_below(path: Any) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsencode(path).startswith(below)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & WRITING and is_below(arguments[0]):
            count("open", _nothing)
        elif event in AUDITED and (is_below(arguments[0]) or arguments[-1] not in (-1, None)):
            count(event, _nothing)

    pwrite, fsync, call = os.pwrite, os.fsync, exchange._call

    def counted_pwrite(descriptor: int, data: memoryview, position: int) -> int:
        count("pwrite", lambda: pwrite(descriptor, data[: len(data) // 2], position))
        return pwrite(descriptor, data, position)

    def counted_fsync(descriptor: int) -> None:
        count("fsync", _nothing)
        fsync(descriptor)

    def counted_call(name: str, new: Path, target: Path, flags: int) -> None:
        if exchange._function(name) is not None:
            count("exchange" if flags == exchange._LINUX_EXCHANGE else "rename to a free name", _nothing)
        call(name, new, target, flags)

    os.pwrite, os.fsync, exchange._call = counted_pwrite, counted_fsync, counted_call
    sys.addaudithook(audit)


def _nothing() -> None:
    """Stand for a change that is made as a whole."""


if __name__ == "__main__":
    main(*sys.argv[1:])
