"""Run a command as a child process and measure its seconds, its peak memory and its exit code.

This file, run as a program, starts the command; the benchmark itself does not. Linux counts the memory of the
process that calls exec into the peak of the program it turns into, and the benchmark is large.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

INTERVAL = 0.01  # seconds between two samples of the private memory


class Usage(NamedTuple):
    """The resources that a child used. `peak` includes mapped files, `private` (sampled) does not."""

    seconds: float
    peak: int  # bytes
    private: int  # bytes
    code: int
    tail: str  # the last lines of its output


def run(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and write its output to `log`. Nothing else should run at the same time."""
    result = log.with_suffix(".usage.json")
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(result), *command]
    with log.open("wb") as output:
        subprocess.run(launcher, stdout=output, stderr=output, env=env, check=True)
    measured = json.loads(result.read_text("utf-8"))
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return Usage(**measured, tail="\n".join(lines[-15:]))


def _launch(result: str, command: list[str]) -> None:
    private_peak = [0]
    started = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    watcher = threading.Thread(target=_watch, args=(pid, private_peak), daemon=True)
    watcher.start()
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    measured = {
        "seconds": seconds,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "private": private_peak[0],
        "code": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w", encoding="utf-8") as file:
        json.dump(measured, file)


def _watch(pid: int, private_peak: list[int]) -> None:
    """Record the largest RssAnon, in bytes. It stays 0 on systems without /proc."""
    while True:
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                lines = [line for line in file if line.startswith(b"RssAnon")]
        except OSError:
            return
        if lines:
            private_peak[0] = max(private_peak[0], int(lines[0].split()[1]) * 1024)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    _launch(sys.argv[1], sys.argv[2:])
