"""Run one command as a child and measure it: seconds, peak memory, exit code.

The command is started by this file run as a program, not by the benchmark itself: Linux counts the
memory of the process that calls exec into the peak of what it becomes, and the benchmark is large.
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

INTERVAL = 0.01  # seconds between two looks at the child's private memory


class Usage(NamedTuple):
    """What a child took: ``peak`` counts mapped files too, ``private`` (sampled) does not."""

    seconds: float
    peak: int
    private: int
    code: int
    tail: str


def run(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end, its output going to ``log``; nothing else should run meanwhile."""
    result = log.with_suffix(".usage.json")
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(result), *command]
    with log.open("wb") as output:
        subprocess.run(launcher, stdout=output, stderr=output, env=env, check=True)
    found = json.loads(result.read_text("utf-8"))
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return Usage(**found, tail="\n".join(lines[-15:]))


def _launch(result: str, command: list[str]) -> None:
    peak = [0]
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    watcher = threading.Thread(target=_watch, args=(pid, peak), daemon=True)
    watcher.start()
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    found = {
        "seconds": seconds,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "private": peak[0],
        "code": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w", encoding="utf-8") as file:
        json.dump(found, file)


def _watch(pid: int, peak: list[int]) -> None:
    """Keep the largest RssAnon seen, in bytes; stays 0 where there is no /proc."""
    while True:
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                lines = [line for line in file if line.startswith(b"RssAnon")]
        except OSError:
            return
        if lines:
            peak[0] = max(peak[0], int(lines[0].split()[1]) * 1024)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    _launch(sys.argv[1], sys.argv[2:])
