"""The part of the fuzzer that `make test` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = 2_000  # cases of all families together


def assert_no_fault(family: str) -> None:
    """Run the cases of a family; the fuzzer prints those that fail, and a line of totals.

    They run in a process of their own, because the fuzzer forks, which a process with threads must not do.
    """
    pytest.importorskip("resource", reason="the fuzzer limits memory and time as Unix does")
    command = [sys.executable, "-m", "tests.fuzz", "--count", str(COUNT), "--family", family, "--jobs", "1"]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-3_000:]
    assert ": 0 internal errors, 0 over 5 s, 0 over 1 GB, 0 other faults;" in done.stdout, done.stdout
