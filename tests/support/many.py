"""Run many command lines in one process: it reads a JSON list of them and prints the results as JSON.

Usage: ``python many.py < command_lines.json``. Each result is an exit code, and what was printed
on stdout and on stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.terminal import ENVIRONMENT, Ran, run

PR_CAPBSET_DROP = 24  # from linux/prctl.h
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2  # from linux/capability.h


def run_many(lines: Sequence[Sequence[object]], folder: Path) -> list[Ran]:
    """Run command lines in one process in this folder, which obeys the permissions of files."""
    process = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps([[str(word) for word in line] for line in lines]),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        preexec_fn=obey_permissions if hasattr(os, "geteuid") else None,
        check=True,
    )
    return [Ran(*result) for result in json.loads(process.stdout)]


def obey_permissions() -> None:
    """Take from root the right to read and write everything; call it between fork and exec."""
    if os.geteuid() == 0 and sys.platform == "linux":
        for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, right, 0, 0, 0)


if __name__ == "__main__":
    results = [run(*line) for line in json.load(sys.stdin)]
    print(json.dumps([[done.code, done.out, done.err] for done in results]))
