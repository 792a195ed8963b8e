"""Cases in a process of their own, so that one that hangs or exhausts its memory ends only that process."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from fuzz.case import Case, Result, run
from fuzz.guard import Watch, limit_memory, time_limit
from fuzz.kinds import KINDS

BATCH = 250  # cases after which the process is replaced
IMPORTED = ("PIL.ImageOps", "constriction", "eckart.explain", "re2", "scipy.linalg", "scipy.sparse.linalg")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk takes most of the time
DEATHS = {"SIGXCPU": "over 5 s", "exit 1": "over 5 s: it waited for over a minute"}


class Scratch:
    """A folder in which cases run one after another, at one path, because stores hold absolute paths."""

    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        self.place, self.trace = folder / "case", folder / "trace.txt"
        self._valid, self._kept = folder / "valid", kept

    def valid(self, kind: str) -> Path:
        """Return the valid inputs of a kind, written at first use."""
        inputs = self._valid / kind
        if not inputs.exists():
            self._valid.mkdir(exist_ok=True)
            self.place.mkdir()
            KINDS[kind].write(self.place)
            self.place.rename(inputs)
        return inputs

    def clear(self, seed: int, keep: bool) -> None:
        """Remove the folder of a case, or move it to where failing inputs are kept."""
        if keep and self._kept is not None:
            shutil.rmtree(self._kept / str(seed), ignore_errors=True)
            self._kept.mkdir(parents=True, exist_ok=True)
            shutil.move(self.place, self._kept / str(seed))
        shutil.rmtree(self.place, ignore_errors=True)


def run_all(seeds: list[int], kept: Path | None = None) -> Iterator[Result]:
    """Run cases in the order of their seeds, and yield what each did.

    Parameters
    ----------
    seeds : list of int
        The cases.
    kept : Path, optional
        Where the inputs of cases with faults are kept.
    """
    left = list(seeds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eckart-fuzz-", dir=MEMORY)))
        scratch = Scratch(folder.resolve(), kept)
        while left:
            for result in _run_batch(left[:BATCH], scratch):
                assert result.seed == left.pop(0)
                yield result


def run_chunk(seeds: list[int], kept: Path) -> list[Result]:
    """Run cases in a process of a pool."""
    return list(run_all(seeds, kept))


def _run_batch(seeds: list[int], scratch: Scratch) -> Iterator[Result]:
    """Run cases in a child; the last result is that of the case in which the child died, if it did."""
    for name in IMPORTED:  # what commands import when they need it would otherwise be imported in every child
        importlib.import_module(name)
    cases = [Case.of(seed) for seed in seeds]
    for case in cases:
        scratch.valid(case.kind)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _run_here(cases, scratch, writer)
            os._exit(0)
        except BaseException:
            scratch.trace.write_text(traceback.format_exc())
            os._exit(3)
    os.close(writer)
    done = 0
    with open(reader, encoding="utf-8") as lines:
        for line in lines:
            done += 1
            yield Result(**json.loads(line))
    status = os.waitpid(child, 0)[1]
    if done < len(seeds):
        end = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
        stack = scratch.trace.read_text(errors="replace")[:2_000] if scratch.trace.exists() else ""
        scratch.clear(seeds[done], keep=True)
        yield Result(seeds[done], [f"{DEATHS.get(end, 'internal error: died')} ({end})"], output=stack)


def _run_here(cases: list[Case], scratch: Scratch, writer: int) -> None:
    """Run cases in this process, and write a line of JSON for each."""
    watch = Watch()
    limit_memory()
    with open(writer, "w", encoding="utf-8") as results:
        for case in cases:
            with open(scratch.trace, "w") as trace, time_limit(trace):
                case.prepare(scratch.valid(case.kind), scratch.place)
                result = run(case, scratch.place, watch)
            os.chdir(scratch.place.parent)
            scratch.clear(case.seed, keep=bool(result.faults))
            results.write(json.dumps(asdict(result)) + "\n")
            results.flush()
