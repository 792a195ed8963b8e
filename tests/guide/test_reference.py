"""The reference lists every public name, and the page of commands agrees with the program."""

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
    "eckart.serving",
    "eckart.autodiff",
    "eckart.autodiff.scipy",
    "eckart.explain",
    "eckart.applications.images",
)
PATHS = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE)


def resolve(path: str) -> Any:
    """Return the object of a dotted path. Inside it, a module has precedence over a function of that name."""
    first, *rest = path.split(".")
    target: Any = importlib.import_module(first)
    for i, part in enumerate(rest, 1):
        file = f"{target.__name__}.{part}" if hasattr(target, "__path__") else ""
        if file and importlib.util.find_spec(file) and (i < len(rest) or not hasattr(target, part)):
            target = importlib.import_module(file)
        else:
            target = getattr(target, part)
    return target


def is_documented(target: Any) -> bool:
    """Whether the reference lists an object, or lists the module that defines it as a whole."""
    for listed in map(resolve, PATHS):
        if target is listed:
            return True
        if isinstance(listed, ModuleType) and getattr(target, "__module__", None) == listed.__name__:
            return True
    return False


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room: str) -> None:
    module = importlib.import_module(room)
    missing = [name for name in module.__all__ if not is_documented(getattr(module, name))]
    assert not missing, f"add to docs/reference.md: {', '.join(f'::: {room}.{name}' for name in missing)}"


def test_names_that_pages_import_are_in_the_reference() -> None:
    missing = set()
    for page in pages():
        for path in imports_of(page):
            target = resolve(path)
            if not isinstance(target, ModuleType) and not is_documented(target):
                missing.add(path)
    assert not missing


def imports_of(page: Page) -> set[str]:
    """Return the dotted paths that a page's code imports from eckart."""
    paths = set()
    for block in page.blocks:
        for line in re.findall(r"^(?:>>> )?(from eckart\S* import .*)$", block.text, re.MULTILINE):
            (node,) = ast.parse(line).body
            assert isinstance(node, ast.ImportFrom)
            paths |= {f"{node.module}.{alias.name}" for alias in node.names}
    return paths


def test_imports_of_a_page_are_collected() -> None:
    assert imports_of(Page(DOCS / "explain.md")) == {"eckart.explain.explain", "eckart.explain.render"}


def test_no_object_is_listed_twice() -> None:
    assert len({id(resolve(path)) for path in PATHS}) == len(PATHS)


def test_every_name_is_under_the_heading_of_its_package() -> None:
    room = ""
    for line in (DOCS / "reference.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            room = line[3:]
        elif line.startswith("::: ") and room != "Errors":
            assert line[4:].startswith(f"{room}."), f"{line} under {room}"


@pytest.mark.parametrize("path", PATHS)
def test_every_listed_object_has_a_docstring(path: str) -> None:
    target = resolve(path)
    if callable(target) or isinstance(target, ModuleType):
        assert inspect.getdoc(target)


@pytest.mark.parametrize("path", PATHS)
def test_every_listed_name_is_bound_by_its_own_statement(path: str) -> None:
    """The reference is built without running the source: it cannot see the names of ``a, b = f(), g()``."""
    module, _, name = path.rpartition(".")
    try:
        owner = resolve(module)
    except AttributeError:
        owner = None
    if not isinstance(owner, ModuleType) or not owner.__file__:
        return
    bound = set()
    for node in ast.parse(Path(owner.__file__).read_text("utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)):
                bound.add(target)
            case ast.Import() | ast.ImportFrom():
                bound |= {alias.asname or alias.name for alias in node.names}
    assert name in bound or (hasattr(owner, "__path__") and importlib.util.find_spec(path))


def test_the_page_of_commands_is_current() -> None:
    expected = runpy.run_path(str(ROOT / "scripts" / "write_commands.py"))["page"]()
    page = (DOCS / "commands.md").read_text("utf-8")
    assert page == expected, "run: python scripts/write_commands.py"
