"""The rule of the house: each floor imports only from the floors under it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "eckart"
FLOORS = [
    "errors",
    "arrays",
    "checks",
    "version",
    "autodiff",
    "linalg",
    "rank",
    "checkpoint",
    "store",
    "adapter",
    "demo",
    "applications",
    "explain",
    "cli",
]
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


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
