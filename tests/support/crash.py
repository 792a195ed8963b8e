"""Run the same pass repeatedly, and kill it before its first, second, third, ... write to the disk.

Usage: ``python crash.py BASE TUNED FOLDER [TEMPLATE [OPTIONS]]``. ``FOLDER/0``, ``FOLDER/1``, ... are the
stores of passes that were killed (SIGKILL) before call number 0, 1, ... of one of `CALLS`. The last pass is
the first that finishes. Each store starts as a copy of the folder TEMPLATE, if there is one; OPTIONS are
keyword arguments of `factor`, as JSON. Each pass runs in a process forked from this one, which saves the
start of Python.
"""

import json
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock  # noqa: F401  # what a pass imports lazily is imported once, before the forks
import scipy.linalg.lapack  # noqa: F401

from eckart import factor

CALLS = ("fsync", "replace", "rename", "unlink", "mkdir")


def die_before(step: int) -> None:
    """Kill this process before a call that writes to the disk, counted from 0."""
    calls_left = [step]

    def counted(call):
        def wrapper(*args, **kwargs):
            if calls_left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            calls_left[0] -= 1
            return call(*args, **kwargs)

        return wrapper

    os.fsync = lambda descriptor: None  # what is written survives the death of a process without it
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def main(base: str, tuned: str, folder: str, template: str = "", options: str = "{}") -> None:
    step = 0
    while True:
        store = Path(folder, str(step))
        if template:
            shutil.copytree(template, store)
        child = os.fork()
        if child == 0:
            die_before(step)
            with ThreadPoolExecutor(1) as pool:  # one thread, so that every pass writes in the same order
                factor(base, tuned, store, executor=pool, **json.loads(options))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"step {step} ended with status {status}")
        step += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
