"""A full disk or a used-up quota is one line about the output; the old output stays, and nothing is left."""

from __future__ import annotations

import os
import sys

import pytest

from support.kills import reports_of
from support.terminal import start, tree
from support.workshop import COMMANDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts the calls of Linux")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_full_at_any_change_is_reported_and_keeps_the_old_output(inputs, name, scratch):
    if COMMANDS[name].extra:
        pytest.importorskip(COMMANDS[name].extra)
    situations = ["full", *(["quota"] if name in ("convert-file", "merge") else [])]
    reports = reports_of(inputs, name, scratch, situations)
    assert [(each, report.problems) for each, report in reports.items() if report.problems] == []
    assert {"open", "os.mkdir", "fsync"} <= set(reports["full"].events)


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
