"""docs/recommender.md, run: its Python as doctests, and its commands in the folder that it fills."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from cli.terminal import run
from test_readme import same

PAGE = Path(__file__).parents[2] / "docs" / "recommender.md"


def test_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted and not result.failed
    shown = 0
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        for command in block.removeprefix("$ eckart ").split("\n$ eckart "):
            words, *lines = command.strip().splitlines()
            done = run(*words.split())
            assert done.code == 0, done.err
            printed = (done.out + done.err).splitlines()
            for line in lines:
                shown += 1
                assert any(same(line, p) for p in printed), f"{words!r} does not print {line!r}"
    assert shown
