"""A command killed at any change of the disk leaves the old output or the new one, and can be run again."""

from __future__ import annotations

import sys

import pytest

from support.kills import reports_of
from support.workshop import COMMANDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts the calls of Linux")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_any_change_leaves_the_old_output_or_the_new_one(inputs, name, scratch):
    """Or nothing, if there was no old one. The same command then gives the same bytes and leaves nothing."""
    command = COMMANDS[name]
    if command.extra:
        pytest.importorskip(command.extra)
    situations = ["fresh", "overwrite", *(["without-exchange"] if name in ("convert", "merge") else [])]
    reports = reports_of(inputs, name, scratch, situations)
    assert [(each, report.problems) for each, report in reports.items() if report.problems] == []
    # The script has seen what it is about.
    new, replaced = ("os.rename", "exchange") if command.is_folder else ("rename to a free name", "os.rename")
    assert {"os.mkdir", "open", "fsync", new} <= set(reports["fresh"].events)
    assert replaced in reports["overwrite"].events
    if "without-exchange" in reports:
        assert reports["without-exchange"].restored >= 1
        assert "exchange" not in reports["without-exchange"].events
