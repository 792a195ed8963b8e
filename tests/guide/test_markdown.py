"""No page of the guide contains an accident of Markdown, and every page is rendered as it was meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.markdown import accidents, blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])

ACCIDENTS = {
    "quotation": ("An eigenvalue problem with cond V\n> 6 fails.\n", 2, "begins with '>'"),
    "list": ("The sum of a\n+ b is large.\n", 2, "begins with '+'"),
    "list of dashes": ("The difference of a\n- b is large.\n", 2, "begins with '-'"),
    "numbered list": ("It was published in\n1936. Others followed.\n", 2, "begins with '1936.'"),
    "heading": ("The number\n# 3 is odd.\n", 2, "begins with '#'"),
    "heading by a line": ("A title\n---\n", 2, "begins with '---'"),
    "quotation in a list": ("- one, where x\n  > 2\n", 2, "begins with '>'"),
    "backtick": ("Use `rank=4 here.\n", 1, "a backtick"),
    "bold": ("This is **bold.\n", 1, "bold without its end"),
    "tag": ("Pass <model> twice.\n", 1, "the tag <model>"),
    "indented": ("Text.\n\n    more text\n", 3, "rendered as code"),
    "table": ("| a | b |\n|---|---|\n| 1 |\n", 3, "another number of cells"),
    "bar in code": ("| a | b |\n|---|---|\n| `x|y` | 1 |\n", 3, "another number of cells"),
    "table without a line": ("| a | b |\n| 1 | 2 |\n", 1, "without a line under its header"),
    "dollar": ("It costs $5.\n", 1, "a dollar sign"),
}
FINE = [
    "```text\n> 6\n+ 3\n<x>\n```\n",
    "Use `a > b`, `<x>` and ``a`b``.\n",
    "- one\n- two, which\n  goes on\n    - nested\n",
    "1. one\n2. two\n",
    "| a | b |\n|---|---|\n| `x\\|y` | 1 |\n",
    "# Title\n\nText with $a > b$ and\n\n$$\na < b\n$$\n",
    "<!-- a comment\n> with a line -->\nText.\n",
    "a < b and c > d\n",
]


@pytest.mark.parametrize("name", ACCIDENTS)
def test_every_kind_of_accident_is_found(name):
    text, line, what = ACCIDENTS[name]
    assert [(a.line, what in a.what) for a in accidents(text)] == [(line, True)]


@pytest.mark.parametrize("text", FINE)
def test_what_is_meant_is_no_accident(text):
    assert accidents(text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_page_has_no_accident(page):
    found = accidents(page.read_text("utf-8"))
    assert not found, "; ".join(f"line {a.line}: {a.what}" for a in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_page_is_rendered_with_the_structure_of_its_source(page):
    """The library that builds the guide makes no quotation, and as many headings, tables and code blocks."""
    markdown = pytest.importorskip("markdown")
    text = page.read_text("utf-8")
    html = markdown.markdown(text, extensions=["admonition", "md_in_html", "tables", "fenced_code"])
    source = [line for _, lines in blocks(text) for line in lines]
    assert "<blockquote" not in html
    assert len(re.findall(r"<h[1-6]", html)) == sum(line.startswith("#") for line in source)
    assert html.count("<table") == len(re.findall(r"^\|[-| :]+\|$", "\n".join(source), re.MULTILINE))
    fences = len(re.findall(r"^ *```\w", text, re.MULTILINE))
    assert html.count("<pre") == fences
