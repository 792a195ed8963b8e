"""A command that is killed, or finds the disk full, at any change leaves the old output or the new one."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from support.kills import Report, reports_of
from support.terminal import start, tree
from support.workshop import COMMANDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts the calls of Linux")
each_command = pytest.mark.parametrize("name", COMMANDS)
IN_MEMORY = "/dev/shm"  # runs that wait for a real disk are slow
WITHOUT_EXCHANGE = ("convert", "merge")
QUOTA = ("convert-file", "merge")


@pytest.fixture(scope="module")
def reports(inputs) -> Callable[[str], dict[str, Report]]:
    """Return a function that runs a command in every situation, once, and returns the reports."""

    @cache
    def run_all(name: str) -> dict[str, Report]:
        situations = ["fresh", "overwrite", "full"]
        situations += ["without-exchange"] * (name in WITHOUT_EXCHANGE) + ["quota"] * (name in QUOTA)
        place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=place) as scratch:
            return reports_of(inputs, name, Path(scratch), situations)

    def reports_on(name: str) -> dict[str, Report]:
        if COMMANDS[name].extra:
            pytest.importorskip(COMMANDS[name].extra)
        return run_all(name)

    return reports_on


@each_command
def test_a_command_killed_at_any_change_leaves_the_old_output_or_the_new_one(reports, name):
    """Or nothing, if there was no old one. The same command then gives the same bytes and leaves nothing."""
    fresh, overwrite = reports(name)["fresh"], reports(name)["overwrite"]
    assert fresh.problems == []
    assert overwrite.problems == []
    # The script has seen what it is about.
    is_folder = COMMANDS[name].is_folder
    new, replaced = ("os.rename", "exchange") if is_folder else ("rename to a free name", "os.rename")
    assert {"os.mkdir", "open", "fsync", new} <= set(fresh.events)
    assert replaced in overwrite.events


@pytest.mark.parametrize("name", WITHOUT_EXCHANGE)
def test_without_an_atomic_exchange_the_next_run_restores_the_old_output(reports, name):
    report = reports(name)["without-exchange"]
    assert report.problems == []
    assert report.restored >= 1
    assert "exchange" not in report.events


@each_command
def test_a_disk_that_is_full_at_any_change_is_reported_and_keeps_the_old_output(reports, name):
    report = reports(name)["full"]
    assert report.problems == []
    assert {"open", "os.mkdir", "fsync"} <= set(report.events)


@pytest.mark.parametrize("name", QUOTA)
def test_a_quota_that_is_used_up_is_reported_and_leaves_nothing(reports, name):
    report = reports(name)["quota"]
    assert report.problems == []
    assert {"open", "os.mkdir", "fsync"} <= set(report.events)


@pytest.mark.parametrize("name", ["plan", "explain", "merge", "demo"])
def test_a_write_that_the_system_refuses_is_reported(inputs, tmp_path, name):
    """A limit on the size of files also stops the writes that a Python file object buffers."""
    import resource

    if COMMANDS[name].extra:
        pytest.importorskip(COMMANDS[name].extra)
    out = tmp_path / COMMANDS[name].name
    done = start(
        *COMMANDS[name].argv(inputs, 2),
        "-o",
        out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"eckart: `{out}") and done.stderr.count("\n") == 1
    assert f"it cannot be written ({os.strerror(27)})" in done.stderr  # EFBIG
    assert tree(tmp_path) == {}
