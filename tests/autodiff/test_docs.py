"""The lists in docs/autodiff.md are current, the engine stays small, and its parts stay separate."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eckart.autodiff
from eckart.autodiff.hooks import FUNCTIONS, UFUNCS, full_name
from support.terminal import ENVIRONMENT

ROOM = Path(eckart.autodiff.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "autodiff.md"

PARTS = {  # file patterns, in reading order
    "engine": "[!s]*.py",
    "rule book": "rules/*.py",
    "linear algebra": "linalg/*.py scipy.py",
    "other functions": "functions/*.py",
    "inspection": "inspection/*.py",
    "identities": "identities/*.py",
}
MOST_LINES_OF_CODE = 1_700  # of engine and rule book, so that a newcomer can read both; 1,627 are in use


def files_of(part: str) -> list[Path]:
    return sorted(path for pattern in PARTS[part].split() for path in ROOM.glob(pattern))


def lines_of_code(text: str) -> int:
    """Return the number of lines that are not blank, only a comment, or part of a docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            prose.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and i not in prose for i, line in lines)


def built_in_primitives() -> set[str]:
    """Return the names of the primitives in a fresh process, where no test or example has defined others."""
    imports = "import eckart.autodiff.scipy; from eckart.autodiff.core import PRIMITIVES"
    code = imports + "; print(*PRIMITIVES, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines())


def current_lists() -> str:
    """Return the lists of primitives and functions; paste them into the page when the test below fails."""
    lists = {
        "primitives": built_in_primitives(),
        "functions of NumPy": {full_name(f) for f in FUNCTIONS if not isinstance(f, np.ufunc)},
        "ufuncs of NumPy and SciPy": {u.__name__ for u in UFUNCS if isinstance(u, np.ufunc)},
    }
    return "\n\n".join(
        f"{len(names)} {kind}: " + ", ".join(f"`{name}`" for name in sorted(names)) + "."
        for kind, names in lists.items()
    )


def test_page_lists_all_primitives_and_functions():
    page = PAGE.read_text("utf-8")
    lists = page.split("<!-- made by tests/autodiff/test_docs.py -->\n")[1].split("\n<!-- end -->")[0]
    assert lists == current_lists()


def test_every_file_belongs_to_a_part():
    files = [path for part in PARTS for path in files_of(part)]
    assert sorted(files) == sorted(ROOM.rglob("*.py"))


def test_lines_of_code_excludes_prose():
    text = '"""Module."""\n\n# comment\nx = 1  # code\n\n\n'
    text += 'def f():\n    """One.\n\n    Two.\n    """\n    return x\n'
    assert lines_of_code(text) == 3


def test_engine_and_rule_book_stay_small():
    files = [*files_of("engine"), *files_of("rule book")]
    assert sum(lines_of_code(path.read_text("utf-8")) for path in files) <= MOST_LINES_OF_CODE


MAY_IMPORT = {  # the other folders that each folder may import; all may import the engine
    "": set(),
    "rules": set(),
    "linalg": {"rules"},
    "functions": {"rules"},
    "inspection": set(),
    "identities": {"inspection", "linalg"},
}


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda p: p.relative_to(ROOM).as_posix())
def test_no_part_imports_the_parts_above_it(path):
    """The engine imports no rules, the rules import no linear algebra, and nothing imports `functions`."""
    part = "" if path.parent == ROOM else path.relative_to(ROOM).parts[0]
    if path.name in ("__init__.py", "scipy.py") and not part:
        return  # these two collect the public names
    depth = len(path.relative_to(ROOM).parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            folder = (node.module or "").split(".")[0]
            allowed = MAY_IMPORT[part] | {part, ""}
            assert folder not in MAY_IMPORT or folder in allowed, f"line {node.lineno}"
