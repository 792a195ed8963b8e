"""The README and every page of the guide, run; and the mechanism that runs them, shown to find faults."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from support.pages import DOCS, NUMBER, ROOT, RUN, SHELLS, Counts, Likeness, Page, blocks, pages, play
from support.terminal import Ran, run, start

# Nothing on these can be run. A page that gets code must leave the list.
WITHOUT_CODE = {
    "docs/architecture.md",
    "docs/commands.md",
    "docs/index.md",
    "docs/mathematics/index.md",
    "docs/reference.md",
}
LANGUAGES = ("ja", "zh")  # docs/ja/page.md is docs/page.md in Japanese
TRANSLATIONS = [page for page in pages() if page.path.parent.name in LANGUAGES]
ORIGINALS = [page for page in pages() if page not in TRANSLATIONS]


def as_a_process(*words: object) -> Ran:
    done = start(*words)
    return Ran(done.returncode, done.stdout, done.stderr)


def forget_modules_of(folder: Path) -> None:
    """Forget what was imported from beside a page, so that another folder's file of that name is found."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).parent == folder:
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore:::(transformers|peft)")  # what they say of each other
@pytest.mark.parametrize("page", ORIGINALS, ids=lambda page: page.name)
def test_page(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in page.needs:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    if page.path.is_relative_to(DOCS):  # a page may import a file beside it, as its reader may
        monkeypatch.syspath_prepend(str(page.path.parent))
        forget_modules_of(page.path.parent)
    with np.printoptions():
        ran = play(page, run if page.path.is_relative_to(DOCS) else as_a_process)
    # Counted again, without the parser: nothing that looks like code was left out.
    assert ran == Counts(
        commands=len(re.findall(r"^\s*\$ ", page.text, re.MULTILINE)),
        examples=len(re.findall(r"^\s*>>> ", page.text, re.MULTILINE)),
        scripts=len(re.findall(r"^\s*```python\n(?!\s*>>> )", page.text, re.MULTILINE)),
    )
    assert (ran == Counts()) == (page.name in WITHOUT_CODE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_blocks_say_what_they_are(page: Page) -> None:
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        assert block.language, f"{where}: say ```text if it is an illustration"
        assert block.language not in SHELLS, f"{where}: would not be run; say console, python or text"
        if block.language not in RUN:
            assert not re.search(r"^(\$|>>>) ", block.text, re.MULTILINE), f"{where}: would not be run"


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.name)
def test_a_translation_shows_what_its_original_shows(page: Page) -> None:
    """Which is run; and its prose leaves out no number of the original's."""
    original = Page(DOCS / page.path.name)
    assert [(b.language, b.text) for b in page.blocks] == [(b.language, b.text) for b in original.blocks]
    theirs, ours = ({n.rstrip(".,") for n in re.findall(NUMBER, p.prose)} for p in (original, page))
    assert not theirs - ours
    for one, other in ((page, original), (original, page)):
        assert f"]({os.path.relpath(other.path, one.path.parent)})" in one.prose


def test_the_list_of_pages_without_code_is_of_pages() -> None:
    assert {page.name for page in pages()} >= WITHOUT_CODE


# --- The mechanism itself ---


def made(tmp_path: Path, text: str) -> Page:
    page = Page(ROOT / "docs" / "made.md")
    page.__dict__["text"] = text  # in place of the file's
    return page


def printing(out: str, code: int = 0, err: str = ""):
    return lambda *words: Ran(code, out, err)


GOOD = """
```console
$ eckart plan store  # exits 1
rank 3, error 0.504
note: so it is
```

    an indented block

1. In a list:
   ```pycon
   >>> a = 0.1739
   ```

```python
>>> a
0.1739

```

```python
print(6.9093)
```

```output
6.9093
```
"""


def test_a_good_page_passes(tmp_path: Path) -> None:
    ran = play(made(tmp_path, GOOD), printing("one\nrank 3, error 0.50\ntwo\n", 1, "note: so it is\n"))
    assert ran == Counts(commands=1, examples=2, scripts=1)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("error 0.504", "error 0.604", "does not print"),
        ("rank 3", "rank 4", "does not print"),
        ("note: so it is", "note: so it was", "does not print"),
        ("rank 3, error 0.504\nnote: so it is\n", "", "not a line"),
        ("# exits 1", "# exits 2", "exits 1"),
        ("eckart plan", "rm -r", "only eckart"),
        ("\n0.1739", "\n0.1738", "Expected"),
        ("6.9093\n```\n", "6.9094\n```\n", "prints"),
        ("print(6.9093)", "print(a)", "a"),  # a script does not see the names of the page
        ("\n```output", "\n```text\n```\n\n```output", "no script stands above"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert GOOD.count(right) == 1
    page = made(tmp_path, GOOD.replace(right, wrong))
    with pytest.raises((AssertionError, NameError), match=said):
        play(page, printing("rank 3, error 0.504\n", 1, "note: so it is\n"))


def test_lines_are_looked_for_in_order(tmp_path: Path) -> None:
    page = made(tmp_path, "```console\n$ eckart a\none\ntwo\n```\n")
    play(page, printing("one\nbetween\ntwo\n"))
    with pytest.raises(AssertionError, match="from here on, 'two'"):
        play(page, printing("two\none\n"))


def test_lines_are_told_apart() -> None:
    same = Likeness()
    assert same("rank 3, error 0.50", "rank 3,  error 0.504")
    assert not same("rank 3, error 0.50", "rank 4, error 0.50")
    assert not same("rank 3", "ranks 3")
    assert same("rank 3, ...", "rank 3, for 9 layers") and not same("rank 3 ...", "rank 4 for 9 layers")
    loose = Likeness.of("<!-- lines: within 3 %, whole numbers within 1 -->")
    assert loose("rank 3, 0.98", "rank 4, 1.00")
    assert not loose("rank 3", "rank 5") and not loose("0.96", "1.00")
    exact = Likeness.of("<!-- lines: exact -->")
    assert exact("rank 3", "rank 3") and not exact("rank  3", "rank 3") and not exact("0.500", "0.501")


def test_blocks_are_found_where_they_stand() -> None:
    found = list(blocks("a\n```text\nb\n```\n- c\n  ````md\n  ```\n    d\n  ````\n"))
    assert [(b.language, b.text, b.line) for b in found] == [("text", "b\n", 2), ("md", "```\n  d\n", 6)]
    with pytest.raises(AssertionError, match="line 2 is not closed"):
        list(blocks("a\n```text\n"))


def test_prose_is_what_is_left() -> None:
    page = made(ROOT, "a\n\n```text\nb\n```\nc\n")
    assert page.prose.splitlines() == ["a", "", "", "", "", "c"]
