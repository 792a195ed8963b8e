"""A command killed at any change of the disk leaves the old output or the new one, and can be run again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import eckart
from support import kills
from support.terminal import ENVIRONMENT
from support.workshop import COMMANDS, add_pictures, make_inputs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts the calls of Linux")


IN_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    folder = make_inputs(tmp_path_factory.mktemp("inputs"))
    with contextlib.suppress(eckart.errors.MissingExtraError):
        add_pictures(folder)
    return folder


@pytest.fixture
def scratch(tmp_path) -> Iterator[Path]:
    """A folder in memory if the system has one: each run waits for the disk several times."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_any_change_leaves_the_old_output_or_the_new_one(inputs, name, scratch):
    """Or nothing, if there was no old one. The same command then gives the same bytes and leaves nothing."""
    command = COMMANDS[name]
    if command.extra:
        pytest.importorskip(command.extra)
    situations = ["fresh", "overwrite", *(["without-exchange"] if name in ("convert", "merge") else [])]
    done = subprocess.run(
        [sys.executable, kills.__file__, str(inputs), name, str(scratch), *situations],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    reports = {each: kills.Report(**report) for each, report in json.loads(done.stdout).items()}
    assert [(each, report.problems) for each, report in reports.items() if report.problems] == []
    # The script has seen what it is about.
    new, replaced = ("os.rename", "exchange") if command.is_folder else ("rename to a free name", "os.rename")
    assert {"os.mkdir", "open", "fsync", new} <= set(reports["fresh"].events)
    assert replaced in reports["overwrite"].events
    if "without-exchange" in reports:
        assert reports["without-exchange"].restored >= 1
        assert "exchange" not in reports["without-exchange"].events
