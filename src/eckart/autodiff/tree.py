"""Nested tuples, lists and dicts of arrays: taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the leaves of a tree and the function that builds it from new leaves.

    Examples
    --------
    >>> leaves, rebuild = flatten({"b": 1.0, "a": (2.0, [3.0])})
    >>> leaves, rebuild([10.0, 20.0, 30.0])
    ([1.0, 2.0, 3.0], {'b': 10.0, 'a': (20.0, [30.0])})
    """
    if type(tree) not in BRANCHES and not isinstance(tree, (tuple, list, dict)) and tree is not None:
        return [tree], first  # one array: by far the most common tree
    leaves: list[Any] = []
    collect(tree, leaves)
    return leaves, lambda new: build(tree, iter(new))


BRANCHES = {tuple, list, dict}


def first(leaves: list[Any]) -> Any:
    return leaves[0]


def collect(tree: Any, leaves: list[Any]) -> None:
    if type(tree) in BRANCHES or isinstance(tree, (tuple, list, dict)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            collect(part, leaves)
    elif tree is not None:
        leaves.append(tree)


def build(tree: Any, leaves: Any) -> Any:
    """Return a tree of the outline of ``tree`` with the next leaves in it."""
    if type(tree) in BRANCHES or isinstance(tree, (tuple, list, dict)):
        if isinstance(tree, dict):
            return {key: build(part, leaves) for key, part in tree.items()}
        parts = [build(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return None if tree is None else next(leaves)
