"""Run the program with work that gets stuck, so that a test can interrupt it at a known moment.

Usage: ``python stuck.py MARKER WHERE ARGUMENT...``. WHERE is one of

- ``items:N``: every item that a worker thread starts after the first N sleeps for a minute; ``items:N:M`` in
  a pass that will then have counted M items, because an earlier one has finished some
- ``call:MODULE:NAME``: a function is replaced by one call of C that no signal interrupts
- ``cleanup:N``: as ``items:N``, and removing unfinished files takes a minute too

The file MARKER is created when the program is stuck and has counted the items that are done.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import threading
import time
from pathlib import Path

from eckart import workers
from eckart.cli import app, console, signals

MINUTE = 60


def stick_items(marker: Path, free: int, counted: int) -> None:
    """Let ``free`` items through; every later one sleeps."""
    submit, lock, started = workers.Workers.submit, threading.Lock(), [0]

    def submit_stuck(pool, work, /, *args):
        def run(*args):
            with lock:
                started[0] += 1
                is_free = started[0] <= free
            if is_free:
                return work(*args)
            time.sleep(MINUTE)
            raise AssertionError("this item was not interrupted")

        return submit(pool, run, *args)

    def mark() -> None:
        while started[0] <= free or done() < counted:
            time.sleep(0.01)
        marker.touch()

    workers.Workers.submit = submit_stuck
    threading.Thread(target=mark, daemon=True).start()


def done() -> int:
    """Return how many items the running pass has counted."""
    run = console._run
    return run.step.done if run is not None and run.step is not None else 0


def stick_call(marker: Path, module: str, name: str) -> None:
    """Replace a function by a call that neither a signal nor an exception ends."""

    def stuck(*args, **kwargs):
        marker.touch()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)
        raise AssertionError("this call was not interrupted")

    setattr(importlib.import_module(module), name, stuck)


def main(marker: str, where: str, *arguments: str) -> None:
    kind, _, rest = where.partition(":")
    if kind == "call":
        stick_call(Path(marker), *rest.split(":"))
    else:
        free, *counted = map(int, rest.split(":"))
        stick_items(Path(marker), free, *counted or [free])
    if kind == "cleanup":
        signals.remove_unfinished = lambda: time.sleep(MINUTE)
    sys.argv = ["eckart", *arguments]
    app.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
