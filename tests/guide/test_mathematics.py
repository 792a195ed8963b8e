"""The pages on the mathematics: every example runs and prints what the page says, every command too."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from cli.terminal import run

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted((DOCS / "mathematics").glob("*.md")), *DOCS.glob("notes.md")]


def examples(page: Path) -> doctest.DocTest:
    """Return the examples of a page as one test; line numbers are those of the page."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        fence = line.startswith("```")
        lines.append("" if fence or not inside else line)
        inside = (line == "```pycon") if fence else inside
    return doctest.DocTestParser().get_doctest("\n".join(lines) + "\n", {}, page.name, str(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python(page: Path) -> None:
    test = examples(page)
    assert len(test.examples) == page.read_text("utf-8").count("\n>>> ")
    report: list[str] = []
    result = doctest.DocTestRunner().run(test, out=report.append)
    assert not result.failed, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands(page: Path) -> None:
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            program, *words = shlex.split(command)
            assert program == "eckart" and shown
            done = run(*words)
            assert done.code == 0, done.err
            printed = iter(done.out.splitlines())
            for line in shown:  # in this order
                assert line in printed, f"{command} does not print {line!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_guide() -> None:
    nav = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    assert all(f"- {page.relative_to(DOCS).as_posix()}\n" in nav for page in PAGES)
