"""The page docs/explain.md: its commands, run, and the lines it shows, looked for as they stand."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

from cli.terminal import run

PAGE = Path(__file__).parents[2] / "docs" / "explain.md"


def sessions():
    """Return (command, lines shown) for every `$` in the console blocks."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def test_commands():
    assert len(sessions()) >= 10
    for command, shown in sessions():
        program, *words = shlex.split(command)
        assert program == "eckart" and shown
        done = run(*words)
        assert done.code == 0, done.err
        printed = iter(done.out.splitlines())
        for line in shown:  # in this order
            assert line in printed, f"{command} does not print {line!r}"


def test_python():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted and not result.failed
