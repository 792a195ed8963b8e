"""Run the README and every page of the guide; then check that the code which runs them detects errors."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from support.pages import (
    DOCS,
    NOT_RUN,
    NUMBER,
    ROOT,
    RUN,
    Counts,
    LineComparison,
    Page,
    blocks,
    pages,
    play,
)
from support.terminal import Ran, run, start

# These pages have no code. A page that gets code must leave this list.
WITHOUT_CODE = {
    "docs/architecture.md",
    "docs/commands.md",
    "docs/mathematics/index.md",
    "docs/reference.md",
}
LANGUAGES = ("ja", "zh")  # docs/ja/page.md is the Japanese translation of docs/page.md
TRANSLATIONS = [page for page in pages() if page.path.parent.name in LANGUAGES]
ORIGINALS = [page for page in pages() if page not in TRANSLATIONS]


def run_in_new_process(*words: object) -> Ran:
    process = start(*words)
    return Ran(process.returncode, process.stdout, process.stderr)


def forget_modules_of(folder: Path) -> None:
    """Forget modules imported from a page's folder; another folder may have a module of the same name."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).parent == folder:
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore:::(transformers|peft)")  # warnings about each other
@pytest.mark.parametrize("page", ORIGINALS, ids=lambda page: page.name)
def test_page(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in page.needs:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    if page.path.is_relative_to(DOCS):  # a page may import a file of its own folder
        monkeypatch.syspath_prepend(str(page.path.parent))
        forget_modules_of(page.path.parent)
    with np.printoptions():
        counts = play(page, run if page.path.is_relative_to(DOCS) else run_in_new_process)
    # Count again without the parser: everything that looks like code was run.
    assert counts == Counts(
        commands=len(re.findall(r"^\s*\$ ", page.text, re.MULTILINE)),
        examples=len(re.findall(r"^\s*>>> ", page.text, re.MULTILINE)),
        scripts=len(re.findall(r"^\s*```python\n(?!\s*>>> )", page.text, re.MULTILINE)),
    )
    assert (counts == Counts()) == (page.name in WITHOUT_CODE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_has_a_valid_language(page: Page) -> None:
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        assert block.language, f"{where}: use ```text for an illustration"
        assert block.language not in NOT_RUN, f"{where}: would not be run; use console, python or text"
        if block.language not in RUN:
            assert not re.search(r"^(\$|>>>) ", block.text, re.MULTILINE), f"{where}: would not be run"


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.name)
def test_translation_has_the_blocks_and_numbers_of_its_original(page: Page) -> None:
    """Only the originals are run."""
    original = Page(DOCS / page.path.name)
    assert [(b.language, b.text) for b in page.blocks] == [(b.language, b.text) for b in original.blocks]
    expected, translated = ({n.rstrip(".,") for n in re.findall(NUMBER, p.prose)} for p in (original, page))
    assert not expected - translated
    for one, other in ((page, original), (original, page)):
        assert f"]({os.path.relpath(other.path, one.path.parent)})" in one.prose


def test_pages_without_code_exist() -> None:
    assert {page.name for page in pages()} >= WITHOUT_CODE


# --- The code that runs pages ---


def page_with(text: str) -> Page:
    page = Page(ROOT / "docs" / "made.md")
    page.__dict__["text"] = text  # there is no such file
    return page


def printing(out: str, code: int = 0, err: str = ""):
    return lambda *words: Ran(code, out, err)


GOOD = """
```console
$ eckart plan store  # exits 1
rank 3, error 0.504
note: base first
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


def test_correct_page_passes() -> None:
    counts = play(page_with(GOOD), printing("one\nrank 3, error 0.50\ntwo\n", 1, "note: base first\n"))
    assert counts == Counts(commands=1, examples=2, scripts=1)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("error 0.504", "error 0.604", "does not print next"),
        ("rank 3", "rank 4", "does not print"),
        ("note: base first", "note: so it was", "does not print"),
        ("rank 3, error 0.504\nnote: base first\n", "", "at least one line"),
        ("# exits 1", "# exits 2", "exits 1"),
        ("eckart plan", "rm -r", "only eckart can be run"),
        ("\n0.1739", "\n0.1738", "Expected"),
        ("6.9093\n```\n", "6.9094\n```\n", "prints"),
        ("print(6.9093)", "print(a)", "a"),  # a script does not see the names of the page
        ("\n```output", "\n```text\n```\n\n```output", "expected a script"),
    ],
)
def test_error_on_a_page_is_detected(right: str, wrong: str, message: str) -> None:
    assert GOOD.count(right) == 1
    page = page_with(GOOD.replace(right, wrong))
    with pytest.raises((AssertionError, NameError), match=message):
        play(page, printing("rank 3, error 0.504\n", 1, "note: base first\n"))


def test_lines_must_be_printed_in_order() -> None:
    page = page_with("```console\n$ eckart a\none\ntwo\n```\n")
    play(page, printing("one\nbetween\ntwo\n"))
    with pytest.raises(AssertionError, match="does not print next: 'two'"):
        play(page, printing("two\none\n"))


def test_lines_are_compared_within_the_tolerances_of_the_page() -> None:
    standard = LineComparison()
    assert standard("rank 3, error 0.50", "rank 3,  error 0.504")
    assert not standard("rank 3, error 0.50", "rank 4, error 0.50")
    assert not standard("rank 3", "ranks 3")
    assert standard("rank 3, ...", "rank 3, for 9 layers") and not standard(
        "rank 3 ...", "rank 4 for 9 layers"
    )
    loose = LineComparison.of("<!-- lines: within 3 %, whole numbers within 1 -->")
    assert loose("rank 3, 0.98", "rank 4, 1.00")
    assert not loose("rank 3", "rank 5") and not loose("0.96", "1.00")
    exact = LineComparison.of("<!-- lines: exact -->")
    assert exact("rank 3", "rank 3") and not exact("rank  3", "rank 3") and not exact("0.500", "0.501")


def test_blocks_are_found_with_their_lines() -> None:
    result = list(blocks("a\n```text\nb\n```\n- c\n  ````md\n  ```\n    d\n  ````\n"))
    assert [(b.language, b.text, b.line) for b in result] == [("text", "b\n", 2), ("md", "```\n  d\n", 6)]
    with pytest.raises(AssertionError, match="line 2 is not closed"):
        list(blocks("a\n```text\n"))


def test_prose_is_the_text_without_blocks() -> None:
    page = page_with("a\n\n```text\nb\n```\nc\n")
    assert page.prose.splitlines() == ["a", "", "", "", "", "c"]
