"""Run a pass again and again, killed at its first, second, third ... step to the disk.

Usage: ``python crash.py BASE TUNED FOLDER``. Makes ``FOLDER/0``, ``FOLDER/1``, ...: the store of a
pass that was killed (SIGKILL) just before that call of ``fsync``, ``replace`` or ``unlink``, until
one ends by itself. One process per pass, forked from this one to save the start of Python.
"""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eckart import factor


def die_before(step: int) -> None:
    """Let this process be killed before the given call, counted from 0."""
    left = [step]

    def mortal(call):
        def wrapped(*args, **kwargs):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*args, **kwargs)

        return wrapped

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, mortal(getattr(os, name)))


def main(base: str, tuned: str, folder: str) -> None:
    step = 0
    while True:
        child = os.fork()
        if child == 0:
            die_before(step)
            with ThreadPoolExecutor(1) as pool:
                factor(base, tuned, Path(folder, str(step)), executor=pool)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"step {step} ended with status {status}")
        step += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
