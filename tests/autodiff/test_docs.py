"""The lists in docs/autodiff.md are those of the code."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import eckart.autodiff
from eckart.autodiff.hooks import FUNCTIONS, UFUNCS, full_name
from support.terminal import ENVIRONMENT

ROOM = Path(eckart.autodiff.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "autodiff.md"


PARTS = {  # of the room, in the order in which to read them
    "the engine": "[!s]*.py",
    "the rule book": "rules/*.py",
    "linear algebra": "linalg/*.py scipy.py",
    "functions to be looked up": "functions/*.py",
    "seen and checked": "inspection/*.py",
    "formulas of matrix calculus": "identities/*.py",
}
EVENING = 2500  # lines of engine and rule book, which are all that has to be read to carry it on


def measured() -> dict[str, dict[str, tuple[int, int]]]:
    """Return lines, and lines of code, of each file of each part."""
    return {
        part: {
            path.relative_to(ROOM).as_posix(): (len(text.splitlines()), lines_of_code(text))
            for path in sorted(found for pattern in patterns.split() for found in ROOM.glob(pattern))
            for text in [path.read_text("utf-8")]
        }
        for part, patterns in PARTS.items()
    }


def total(rows: Iterable[tuple[int, int]]) -> tuple[int, int]:
    lines, code = zip(*rows, strict=True)
    return sum(lines), sum(code)


def made_by_the_code() -> str:
    """Return the lists of files and primitives; paste it into the page when this test fails."""
    parts = measured()
    lines = ["| file | lines | of code |", "|---|---|---|"]
    for part, files in parts.items():
        n, code = total(files.values())
        lines.append(f"| **{part}** | **{n}** | **{code}** |")
        lines += [f"| `{name}` | {n} | {code} |" for name, (n, code) in files.items()]
    n, code = total(row for files in parts.values() for row in files.values())
    lines += [f"| **all** | **{n}** | **{code}** |", ""]
    lists = {
        "primitives": built_in(),
        "functions of NumPy": {full_name(f) for f in FUNCTIONS if not isinstance(f, np.ufunc)},
        "ufuncs of NumPy and SciPy": {u.__name__ for u in UFUNCS if isinstance(u, np.ufunc)},
    }
    for what, names in lists.items():
        lines += [f"{len(names)} {what}: " + ", ".join(f"`{n}`" for n in sorted(names)) + ".", ""]
    return "\n".join(lines[:-1])


def lines_of_code(text: str) -> int:
    """Return how many lines are neither blank nor only comment or docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            prose.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and i not in prose for i, line in lines)


def built_in() -> set[str]:
    """Return the primitives of the library: those of a process in which no test or example made others."""
    ask = "import eckart.autodiff.scipy; from eckart.autodiff.core import PRIMITIVES; print(*PRIMITIVES, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines())


def test_the_lists_are_those_of_the_code():
    page = PAGE.read_text("utf-8")
    given = page.split("<!-- made by tests/autodiff/test_docs.py -->\n")[1].split("\n<!-- end -->")[0]
    assert given == made_by_the_code()


def test_the_parts_are_the_whole():
    files = {path.relative_to(ROOM).as_posix() for path in ROOM.rglob("*.py")}
    assert files == {name for part in measured().values() for name in part}


def test_engine_and_rule_book_are_read_in_an_evening():
    parts = measured()
    assert total([*parts["the engine"].values(), *parts["the rule book"].values()])[0] <= EVENING


UNDER = {  # what each part may import of the others
    "": set(),
    "rules": set(),
    "linalg": {"rules"},
    "functions": {"rules"},
    "inspection": set(),
    "identities": {"inspection", "linalg"},
}


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda p: p.relative_to(ROOM).as_posix())
def test_a_part_can_be_read_without_those_above_it(path):
    """The engine imports no rule, the rules no linear algebra, and nothing the functions that are looked up."""
    part = "" if path.parent == ROOM else path.relative_to(ROOM).parts[0]
    if path.name in ("__init__.py", "scipy.py") and not part:
        return  # the public names
    depth = len(path.relative_to(ROOM).parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            there = (node.module or "").split(".")[0]
            assert there not in UNDER or not there or there in UNDER[part] | {part}, f"line {node.lineno}"
