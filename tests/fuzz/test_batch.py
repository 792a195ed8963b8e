"""The fuzzer notices what a command must not do. The command here is a function that misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource", reason="the fuzzer limits memory and time as Unix does")

from fuzz import guard
from fuzz.batch import run_all
from fuzz.case import Case, copy_inputs
from fuzz.kinds import KINDS, Kind


def work_forever():
    while True:
        pass


def wait_forever():
    time.sleep(3600)


def take_memory():
    np.ones(3 << 26)  # 1.6 GB, all of it used


def promise_memory():
    np.empty(1 << 40)


def crash():
    os.abort()


def raise_an_error():
    raise KeyError("x")


def print_an_internal_error():
    print("eckart: internal error: KeyError: x", file=sys.stderr)
    sys.exit(2)


def fail_without_a_line():
    sys.exit(2)


def exit_oddly():
    sys.exit(3)


def warn():
    print("x.py:1: RuntimeWarning: overflow", file=sys.stderr)  # as Python does; pytest collects warnings


def write_elsewhere():
    Path("../elsewhere").write_text("")


def write_through_a_link():
    Path("out/link").symlink_to("..")
    Path("out/link/../elsewhere").write_text("")


def change_an_input():
    Path("in/a").write_text("changed")


def remove_an_input():
    Path("in/a").unlink()


def run_a_program():
    subprocess.run(["true"])


BAD = {
    take_memory: "over 1 GB",
    promise_memory: "internal error: MemoryError",
    crash: "internal error: died (SIGABRT)",
    raise_an_error: "internal error: KeyError",
    print_an_internal_error: "internal error",
    fail_without_a_line: "exit code 2 without its line",
    exit_oddly: "exit code 3",
    warn: "a warning of Python",
    write_elsewhere: "did something forbidden: open",
    write_through_a_link: "did something forbidden: open",
    change_an_input: "changed its inputs",
    remove_an_input: "changed its inputs",
    run_a_program: "did something forbidden: subprocess.Popen",
}


def do_nothing():
    Path("out/new").write_text("")
    Path(os.devnull).write_text("")


def write_inputs(folder):
    (folder / "in").mkdir()
    (folder / "in" / "a").write_text("")


@pytest.fixture
def run_command(monkeypatch, tmp_path):
    """Return a function that runs a function as the command of two cases."""
    monkeypatch.setitem(KINDS, "test", Kind("stores", write_inputs, ("test in/a",)))
    monkeypatch.setattr(Case, "of", classmethod(lambda cls, seed: cls(seed, "test", "test in/a")))
    monkeypatch.setattr(Case, "prepare", lambda self, valid, place: copy_inputs(valid, place))

    def run(command):
        monkeypatch.setattr("eckart.cli.app.main", command)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork next to the threads of pytest
            return list(run_all([5, 6], tmp_path / "kept"))

    return run


@pytest.mark.parametrize("command", BAD, ids=lambda command: command.__name__)
def test_a_fault_is_noticed_and_the_cases_after_it_run(command, run_command, tmp_path):
    results = run_command(command)
    assert [result.seed for result in results] == [5, 6]
    for result in results:
        assert any(fault.startswith(BAD[command]) for fault in result.faults), result
    assert sorted(os.listdir(tmp_path / "kept")) == ["5", "6"]


def test_a_command_that_keeps_the_rules_has_no_fault(run_command, tmp_path):
    results = run_command(do_nothing)
    assert [(result.seed, result.code, result.faults) for result in results] == [(5, 0, []), (6, 0, [])]
    assert not (tmp_path / "kept").exists()


def test_a_case_that_computes_forever_ends_and_shows_where_it_was(run_command, monkeypatch):
    monkeypatch.setattr(guard, "CPU_SECONDS", 1)
    for result in run_command(work_forever):
        assert result.faults == ["over 5 s (SIGXCPU)"] and "in work_forever" in result.output


def test_a_case_that_waits_forever_ends_and_shows_where_it_was(run_command, monkeypatch):
    monkeypatch.setattr(guard, "WALL_SECONDS", 3)
    for result in run_command(wait_forever):
        assert result.faults == ["over 5 s: it waited for over a minute (exit 1)"]
        assert "in wait_forever" in result.output
