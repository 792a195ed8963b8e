"""The worked models of docs/calculus: every example runs, and prints what the page says."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "calculus"
PAGES = sorted(FOLDER.glob("*.md"))


def examples(page: Path) -> doctest.DocTest:
    """Return the examples of a page as one test; line numbers are those of the page."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        fence = line.startswith("```")
        lines.append("" if fence or not inside else line)
        inside = (line == "```pycon") if fence else inside
    return doctest.DocTestParser().get_doctest("\n".join(lines) + "\n", {}, page.name, str(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))  # transformer.md imports the file beside it
    monkeypatch.delitem(sys.modules, "transformer", raising=False)
    test = examples(page)
    shown = page.read_text("utf-8").count("\n>>> ")
    assert len(test.examples) == shown > 10, "an example stands outside a pycon block"
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(test, out=report.append)
    assert not result.failed, "".join(report)


def test_a_wrong_number_would_be_found() -> None:
    page = FOLDER / "softmax.md"
    test = examples(page)
    example = next(e for e in test.examples if "0.1739" in e.want)
    example.want = example.want.replace("0.1739", "0.1738")
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=lambda text: None).failed == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (FOLDER / target).exists(), target


def test_every_page_is_in_the_guide() -> None:
    nav = (FOLDER.parents[1] / "mkdocs.yml").read_text("utf-8")
    index = (FOLDER.parent / "index.md").read_text("utf-8")
    for page in PAGES:
        assert f"calculus/{page.name}" in nav and f"calculus/{page.name}" in index
