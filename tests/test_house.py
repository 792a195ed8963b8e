"""The rule of the house: each floor imports only from the floors under it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "eckart"
FLOORS = [
    "arguments",
    "errors",
    "arrays",
    "checks",
    "version",
    "oserrors",
    "text",
    "unfinished",
    "workers",
    "extras",
    "paths",
    "strictjson",
    "schemas",
    "documents",
    "parallel",
    "autodiff",
    "linalg",
    "rank",
    "checkpoint",
    "store",
    "adapter",
    "serving",
    "operations",
    "extraction",
    "demo",
    "applications",
    "explain",
    "cli",
]
SHARED = {"arguments", "errors", "arrays", "checks", "text", "extras", "paths", "strictjson", "documents"}
# The wings, and all that each may import. Only the command line imports a wing.
WINGS: dict[str, set[str]] = {
    "autodiff": set(),
    "explain": SHARED,
    "demo": SHARED | {"checkpoint"},  # reads the packaged models
    "applications": SHARED | {"linalg", "checkpoint"},  # saves models as safetensors, and files atomically
}
TOP = ["__init__", "__main__"]  # the roof: may see everything

# Every module but the roof, by its path.
FILES = sorted(p for p in SRC.rglob("*.py") if p.parent != SRC or p.stem not in TOP)


def floor_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down(path: Path) -> None:
    here = FLOORS.index(floor_of(path))
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        for name in names:
            if name.startswith("eckart."):
                there = name.split(".")[1]
                assert FLOORS.index(there) <= here, f"{path.name} imports {name}"
            else:
                assert name != "eckart", f"{path.name} imports the public names of its own roof"


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms other than its own that a file imports."""
    modules = {module_of(file) for file in SRC.rglob("*.py")}
    rooms = {name.split(".")[1] for name in imported_modules(path, modules) if "." in name}
    return rooms - {floor_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_wings_import_only_what_they_need(path: Path) -> None:
    room, imported = floor_of(path), imported_rooms(path)
    if room in WINGS:
        assert imported <= WINGS[room]
    elif room != "cli":
        assert not imported & WINGS.keys()


@pytest.mark.parametrize("wing", WINGS)
def test_no_wing_is_allowed_more_than_it_imports(wing: str) -> None:
    used = set().union(*(imported_rooms(path) for path in FILES if floor_of(path) == wing))
    assert WINGS[wing] - SHARED <= used


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def module_of(path: Path) -> str:
    """Return the dotted name of a source file: ``eckart/linalg/__init__.py`` is ``eckart.linalg``."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of the project that a file imports, at its top or inside a function.

    Importing a name from a package counts as importing its ``__init__``; relative imports count too.
    """
    here = module_of(path)
    package = here if path.stem == "__init__" else here.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*start, *((node.module or "").split(".") if node.module else [])])
            submodules = {f"{target}.{alias.name}" for alias in node.names} & modules
            only_submodules = len(submodules) == len(node.names)
            names |= submodules if only_submodules else submodules | {target}
    return names & modules - {here}


def test_no_import_cycle_exists_anywhere() -> None:
    """Lazy imports count: a cycle that is entered late is still a cycle."""
    paths = {module_of(path): path for path in SRC.rglob("*.py")}
    graph = {name: sorted(imported_modules(path, set(paths))) for name, path in paths.items()}
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail("import cycle: " + " -> ".join(error.args[1]))


ROOM = SRC / "autodiff"


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOM)))
def test_autodiff_stands_alone(path: Path) -> None:
    """No import leaves the room, neither by name nor by dots."""
    depth = len(path.relative_to(ROOM).parts)  # so many dots still end inside
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= depth and not (node.module or "").startswith("eckart"), f"line {node.lineno}"
        if isinstance(node, ast.Import):
            assert not any(a.name.startswith("eckart") for a in node.names), f"line {node.lineno}"


TESTS = Path(__file__).parent
OWN = {"eckart", *(path.stem for path in TESTS.iterdir())}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda p: str(p.relative_to(TESTS)))
def test_importorskip_is_for_libraries_only(path: Path) -> None:
    """A module of our own that is renamed must fail its tests, not skip them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        is_call = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("importorskip")
        if is_call and isinstance(node.args[0], ast.Constant):
            assert node.args[0].value.split(".")[0] not in OWN, f"line {node.lineno}"
