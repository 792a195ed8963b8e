"""The lists in docs/autodiff.md are those of the code."""

import ast
import re
from pathlib import Path

import numpy as np

import eckart.autodiff
from eckart.autodiff.core import PRIMITIVES
from eckart.autodiff.hooks import FUNCTIONS, UFUNCS

ROOM = Path(eckart.autodiff.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "autodiff.md"


def made_by_the_code() -> str:
    """Return the lists of files and primitives; paste it into the page when this test fails."""
    files = {p.relative_to(ROOM).as_posix(): p.read_text("utf-8") for p in sorted(ROOM.rglob("*.py"))}
    rows = {name: (len(text.splitlines()), lines_of_code(text)) for name, text in files.items()}
    rows["**all**"] = tuple(sum(column) for column in zip(*rows.values(), strict=True))
    rows["without rules and identities"] = tuple(
        sum(column)
        for column in zip(
            *[row for name, row in rows.items() if name in files and "/" not in name], strict=True
        )
    )
    lines = ["| file | lines | of code |", "|---|---|---|"]
    lines += [
        f"| {f'`{name}`' if name in files else name} | {n} | {code} |" for name, (n, code) in rows.items()
    ]
    lines.append("")
    lists = {
        "primitives": built_in(),
        "functions of NumPy": {name_of(f) for f in FUNCTIONS if not isinstance(f, np.ufunc)},
        "ufuncs of NumPy and SciPy": {u.__name__ for u in UFUNCS if isinstance(u, np.ufunc)},
    }
    for what, names in lists.items():
        lines += [f"{len(names)} {what}: " + ", ".join(f"`{n}`" for n in sorted(names)) + ".", ""]
    return "\n".join(lines[:-1])


def name_of(function):
    module = (getattr(function, "__module__", "") or "numpy").removeprefix("numpy").lstrip(".")
    return f"{module}.{function.__name__}".lstrip(".")


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
    """Return the primitives of the library, not those that tests and examples make."""
    source = "\n".join(p.read_text("utf-8") for p in ROOM.rglob("*.py"))
    return {
        name
        for name, prim in PRIMITIVES.items()
        if f'"{name}"' in source or re.search(rf"\b(np|sp)\.(a)?{re.escape(name)}\b", source)
    } - {"bare", "double", "spherical_jn"}  # made by tests, and by sinc when it is first asked for


def test_the_lists_are_those_of_the_code():
    page = PAGE.read_text("utf-8")
    given = page.split("<!-- made by tests/autodiff/test_docs.py -->\n")[1].split("\n<!-- end -->")[0]
    assert given == made_by_the_code()
