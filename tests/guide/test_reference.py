"""The reference has every public name, and the page of commands is what the program says."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.pages import DOCS, ROOT, Page, pages

ROOMS = (
    "eckart",
    "eckart.linalg",
    "eckart.rank",
    "eckart.store",
    "eckart.adapter",
    "eckart.operations",
    "eckart.autodiff",
    "eckart.autodiff.scipy",
    "eckart.explain",
    "eckart.applications.images",
)
PATHS = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE)


def resolve(path: str) -> Any:
    """Return the object of a dotted path; on the way a file goes before a function that hides it."""
    first, *rest = path.split(".")
    found: Any = importlib.import_module(first)
    for i, part in enumerate(rest, 1):
        file = f"{found.__name__}.{part}" if hasattr(found, "__path__") else ""
        if file and importlib.util.find_spec(file) and (i < len(rest) or not hasattr(found, part)):
            found = importlib.import_module(file)
        else:
            found = getattr(found, part)
    return found


def is_documented(found: Any) -> bool:
    return any(found is one for one in (resolve(path) for path in PATHS))


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room: str) -> None:
    module = importlib.import_module(room)
    missing = [name for name in module.__all__ if not is_documented(getattr(module, name))]
    assert not missing, f"add to docs/reference.md: {', '.join(f'::: {room}.{name}' for name in missing)}"


def test_what_the_pages_import_is_in_the_reference() -> None:
    missing = set()
    for page in pages():
        for path in imported(page):
            found = resolve(path)
            if not isinstance(found, ModuleType) and not is_documented(found):
                missing.add(path)
    assert not missing


def imported(page: Page) -> set[str]:
    """Return what a page's code imports of eckart."""
    found = set()
    for block in page.blocks:
        for line in re.findall(r"^(?:>>> )?(from eckart\S* import .*)$", block.text, re.MULTILINE):
            (node,) = ast.parse(line).body
            assert isinstance(node, ast.ImportFrom)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_imports_of_a_page_are_seen() -> None:
    assert imported(Page(DOCS / "explain.md")) == {"eckart.explain.explain", "eckart.explain.render"}


def test_nothing_is_documented_twice() -> None:
    found = [resolve(path) for path in PATHS]
    assert len({id(one) for one in found}) == len(PATHS)


def test_each_stands_in_its_room() -> None:
    room = ""
    for line in (DOCS / "reference.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            room = line[3:]
        elif line.startswith("::: ") and room != "Errors":
            assert line[4:].startswith(f"{room}."), f"{line} under {room}"


@pytest.mark.parametrize("path", PATHS)
def test_each_says_what_it_is(path: str) -> None:
    found = resolve(path)
    if callable(found) or isinstance(found, ModuleType):
        assert inspect.getdoc(found)


@pytest.mark.parametrize("path", PATHS)
def test_each_has_a_statement_of_its_own(path: str) -> None:
    """The reference is made from the source unrun: it does not see the names of ``a, b = f(), g()``."""
    module, _, name = path.rpartition(".")
    try:
        owner = resolve(module)
    except AttributeError:
        owner = None
    if not isinstance(owner, ModuleType) or not owner.__file__:
        return
    said = set()
    for node in ast.parse(Path(owner.__file__).read_text("utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                said.add(node.name)
            case ast.Assign(targets=[ast.Name(id=one)]) | ast.AnnAssign(target=ast.Name(id=one)):
                said.add(one)
            case ast.Import() | ast.ImportFrom():
                said |= {alias.asname or alias.name for alias in node.names}
    assert name in said or (hasattr(owner, "__path__") and importlib.util.find_spec(path))


def test_the_page_of_commands_is_current() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "write_commands.py"))["page"]()
    shown = (DOCS / "commands.md").read_text("utf-8")
    assert shown == written, "run: python scripts/write_commands.py"
