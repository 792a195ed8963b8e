"""The README's commands, run; the lines it shows must be among those printed."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md"]


def sessions() -> list[tuple[str, list[str]]]:
    """Return (command, lines shown) for every `$` in the console blocks."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def same(shown: str, printed: str) -> bool:
    """Whether two lines agree in words, and in numbers to 2 %: the last digits depend on the LAPACK."""
    number = r"-?\d[\d,]*\.?\d*"
    ours, theirs = re.findall(number, shown), re.findall(number, printed)
    words = re.sub(number, "#", shown).split() == re.sub(number, "#", printed).split()
    pairs = zip(ours, theirs, strict=False)
    near = all(
        abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= 0.02 * abs(float(b.replace(",", "")))
        for a, b in pairs
    )
    return words and len(ours) == len(theirs) and near


def test_commands(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    assert sessions(), "the README shows no commands"
    for command, shown in sessions():
        command, _, remark = command.partition("  # exits ")
        program, *arguments = shlex.split(command)
        assert program == "eckart"
        run = subprocess.run(
            [sys.executable, "-m", "eckart", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == int(remark or 0), run.stderr
        printed = run.stdout.splitlines()
        for line in shown:
            assert any(same(line, p) for p in printed), f"{command!r} does not print {line!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted and not result.failed


def test_lines_are_told_apart() -> None:
    assert same("rank 3, error 0.50", "rank 3, error 0.504")
    assert not same("rank 3, error 0.50", "rank 4, error 0.50")
    assert not same("rank 3", "ranks 3")
