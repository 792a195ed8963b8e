"""The page of the guide: its code runs, and its lists are those of the code."""

import re
from pathlib import Path

import eckart.autodiff
from eckart.autodiff.core import PRIMITIVES

ROOM = Path(eckart.autodiff.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "autodiff.md"


def made_by_the_code() -> str:
    """Return the lists of files and primitives; paste it into the page when this test fails."""
    sizes = {
        p.relative_to(ROOM).as_posix(): len(p.read_text("utf-8").splitlines())
        for p in sorted(ROOM.rglob("*.py"))
    }
    engine = sum(n for name, n in sizes.items() if "/" not in name)
    lines = ["| file | lines |", "|---|---|", *(f"| `{name}` | {n} |" for name, n in sizes.items())]
    lines += [f"| **all** (without rules and identities: {engine}) | **{sum(sizes.values())}** |", ""]
    names = sorted(built_in())
    return "\n".join([*lines, f"{len(names)} primitives: " + ", ".join(f"`{n}`" for n in names) + "."])


def built_in() -> set[str]:
    """Return the primitives of the library, not those that tests and examples make."""
    source = "\n".join(p.read_text("utf-8") for p in ROOM.rglob("*.py"))
    return {
        name
        for name, prim in PRIMITIVES.items()
        if f'"{name}"' in source or re.search(rf"\b(np|sp)\.(a)?{re.escape(name)}\b", source)
    } - {"bare", "double"}


def test_the_lists_are_those_of_the_code():
    page = PAGE.read_text("utf-8")
    given = page.split("<!-- made by tests/autodiff/test_docs.py -->\n")[1].split("\n<!-- end -->")[0]
    assert given == made_by_the_code()


def test_the_code_of_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/autodiff.md", "exec"), {})
    assert "6.9093" in capsys.readouterr().out
