"""Every link of the README and the guide has a target, and every page can be reached.

Only the form of links to other sites is checked, so the tests need no network.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.pages import DOCS, ROOT, Page, pages

NAV = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2].partition("\nplugins:")[0]
FILES = [
    *pages(),
    Page(ROOT / "CHANGELOG.md"),
    Page(ROOT / "CONTRIBUTING.md"),
    *map(Page, sorted((ROOT / "benchmarks").glob("*.md"))),
]
LINK = re.compile(
    r"""\]\( \s* <? ([^)\s>]*) >? [^)]* \)   # [text](link 'title')
      | ^\[ [^\]]+ \]: \s* (\S+)            # [name]: link
      | (?:href|src)="([^"]*)"
      | <(https?:[^>]*)>""",
    re.MULTILINE | re.VERBOSE,
)


def links(page: Page) -> list[str]:
    """Return the targets of a page's links, except those inside code."""
    prose = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "`code`", page.prose, flags=re.DOTALL)
    return ["".join(groups) for groups in LINK.findall(prose)]


def anchors(page: Page) -> set[str]:
    """Return the ids of a page's headings and of the objects that it documents."""
    ids: set[str] = set(re.findall(r"^::: (\S+)", page.text, re.MULTILINE))
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.*?)#*$", page.prose, re.MULTILINE):
        name = slug(heading)
        # A repeated heading gets the suffix _1 from mkdocs, and -1 from GitHub.
        suffix = f"{'_' if page.path.is_relative_to(DOCS) else '-'}{seen[name]}" if seen[name] else ""
        seen[name] += 1
        ids.add(name + suffix)
    return ids


def slug(heading: str) -> str:
    """Return the id of a heading by GitHub's rule; mkdocs uses the same rule through `pymdownx.slugs`."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # keep only the text of links
    text = unicodedata.normalize("NFC", re.sub(r"[`*]", "", text)).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def error_in(page: Page, link: str) -> str | None:
    """Return an error message for a broken link, and None for a valid one."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        is_valid = parts.scheme == "https" and re.fullmatch(r"[\w.-]+\.[a-z]{2,}", parts.netloc)
        return None if is_valid else "expected https:// and a host name"
    target = page
    if parts.path:
        target = Page((page.path.parent / unquote(parts.path)).resolve())
        if not target.path.exists():
            return "there is no such file"
        if page.path.is_relative_to(DOCS) and not target.path.is_relative_to(DOCS):
            return "is not in the guide"
    if parts.fragment and unquote(parts.fragment) not in anchors(target):
        return "there is no such heading"
    return None


@pytest.mark.parametrize("page", FILES, ids=lambda page: page.name)
def test_links_have_targets(page: Page) -> None:
    errors = {link: error_in(page, link) for link in links(page)}
    assert not {link: error for link, error in errors.items() if error}


def test_navigation_lists_every_page_once() -> None:
    listed = re.findall(r"[\w/-]+\.md", NAV)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_first_page_links_to_all_others() -> None:
    index = Page(DOCS / "index.md")
    linked = {(DOCS / urlsplit(link).path).resolve() for link in links(index)}
    languages = {DOCS / "ja", DOCS / "zh"}  # linked from the pages that they translate
    assert {p.path for p in pages()[1:] if p.path.parent not in languages} - linked == {index.path}


# --- The code that checks links ---


def page_with(text: str) -> Page:
    page = Page(DOCS / "made.md")
    page.__dict__["text"] = text
    return page


def test_links_are_collected() -> None:
    page = page_with(
        "[a](b.md) ![c](d.svg 'title') [e][f] <https://g.org>\n\n[f]: h.md#i\n\n"
        '<img src="j.png"> `[k](l.md)` [m](<n.md>)\n\n```text\n[o](p.md)\n```\n'
    )
    assert set(links(page)) == {"b.md", "d.svg", "https://g.org", "h.md#i", "j.png", "n.md"}


def test_anchors_are_those_of_github_and_mkdocs() -> None:
    headings = "# Correct, in `every` server\n## The same\n## The same\n## ランクを選ぶ: 手順\n"
    page = page_with(headings + "```text\n# no\n```\n::: eckart.svd\n")
    expected = {"correct-in-every-server", "the-same", "the-same_1", "ランクを選ぶ-手順"}
    assert anchors(page) == {*expected, "eckart.svd"}


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("index.md", None),
        ("#here", None),
        ("index.md#eckart", None),
        ("calculus/transformer.py", None),
        ("https://arxiv.org/abs/2106.09685", None),
        ("missing.md", "no such file"),
        ("#there", "no such heading"),
        ("index.md#there", "no such heading"),
        ("../README.md", "not in the guide"),
        ("http://arxiv.org", "expected https"),
        ("https://arxiv", "expected https"),
    ],
)
def test_broken_link_is_detected(link: str, message: str | None) -> None:
    error = error_in(page_with("# Here\n"), link)
    if message is None:
        assert error is None
    else:
        assert error is not None and message in error


def test_checked_files_exist() -> None:
    assert {"README.md", "CHANGELOG.md", "benchmarks/README.md", "docs/index.md"} <= {f.name for f in FILES}
    assert all(isinstance(f.path, Path) and f.path.is_file() for f in FILES)
