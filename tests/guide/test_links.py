"""Every link of the README and the guide leads somewhere, and every page can be reached.

Links to other sites are looked at for their form only: the tests need no network.
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
    """Return where a page's links lead, those in code left out."""
    prose = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "`code`", page.prose, flags=re.DOTALL)
    return ["".join(found) for found in LINK.findall(prose)]


def anchors(page: Page) -> set[str]:
    """Return the ids of a page's headings, and of what its reference documents."""
    found: set[str] = set(re.findall(r"^::: (\S+)", page.text, re.MULTILINE))
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.*?)#*$", page.prose, re.MULTILINE):
        name = slug(heading)
        # The second of a name: mkdocs writes _1, GitHub -1.
        again = f"{'_' if page.path.is_relative_to(DOCS) else '-'}{seen[name]}" if seen[name] else ""
        seen[name] += 1
        found.add(name + again)
    return found


def slug(heading: str) -> str:
    """Return the id of a heading: GitHub's rule, which `pymdownx.slugs` gives mkdocs as well."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link shows its text
    text = unicodedata.normalize("NFC", re.sub(r"[`*]", "", text)).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def fault(page: Page, link: str) -> str | None:
    """Return what is wrong with a link, if anything is."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        good = parts.scheme == "https" and re.fullmatch(r"[\w.-]+\.[a-z]{2,}", parts.netloc)
        return None if good else "expected https:// and the name of a host"
    target = page
    if parts.path:
        target = Page((page.path.parent / unquote(parts.path)).resolve())
        if not target.path.exists():
            return "there is no such file"
        if page.path.is_relative_to(DOCS) and not target.path.is_relative_to(DOCS):
            return "is not in the guide that is built"
    if parts.fragment and unquote(parts.fragment) not in anchors(target):
        return "there is no such heading"
    return None


@pytest.mark.parametrize("page", FILES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    found = {link: fault(page, link) for link in links(page)}
    assert not {link: said for link, said in found.items() if said}


def test_every_page_is_in_the_contents_once() -> None:
    listed = re.findall(r"[\w/-]+\.md", NAV)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_the_first_page_links_all_others() -> None:
    index = Page(DOCS / "index.md")
    linked = {(DOCS / urlsplit(link).path).resolve() for link in links(index)}
    languages = {DOCS / "ja", DOCS / "zh"}  # these are linked from the page they translate
    assert {p.path for p in pages()[1:] if p.path.parent not in languages} - linked == {index.path}


# --- The checker itself ---


def made(text: str) -> Page:
    page = Page(DOCS / "made.md")
    page.__dict__["text"] = text
    return page


def test_links_are_found() -> None:
    page = made(
        "[a](b.md) ![c](d.svg 'title') [e][f] <https://g.org>\n\n[f]: h.md#i\n\n"
        '<img src="j.png"> `[k](l.md)` [m](<n.md>)\n\n```text\n[o](p.md)\n```\n'
    )
    assert set(links(page)) == {"b.md", "d.svg", "https://g.org", "h.md#i", "j.png", "n.md"}


def test_headings_become_anchors() -> None:
    headings = "# Be right, in `every` server\n## The same\n## The same\n## ランクを選ぶ: 手順\n"
    assert anchors(made(headings + "```text\n# no\n```\n::: eckart.svd\n")) == {
        "be-right-in-every-server", "the-same", "the-same_1", "ランクを選ぶ-手順", "eckart.svd",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("link", "said"),
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
def test_a_wrong_link_is_found(link: str, said: str | None) -> None:
    found = fault(made("# Here\n"), link)
    assert (found is None) if said is None else (found is not None and said in found)


def test_the_files_are_there() -> None:
    assert {"README.md", "CHANGELOG.md", "benchmarks/README.md", "docs/index.md"} <= {f.name for f in FILES}
    assert all(isinstance(f.path, Path) and f.path.is_file() for f in FILES)
