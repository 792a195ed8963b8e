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
    leaves: list[Any] = []
    outline = take(tree, leaves)
    return leaves, lambda new: put(outline, iter(new))


LEAF = object()


def take(tree: Any, leaves: list[Any]) -> Any:
    if isinstance(tree, dict):
        return {key: take(value, leaves) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [take(value, leaves) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if tree is None:
        return None
    leaves.append(tree)
    return LEAF


def put(outline: Any, leaves: Any) -> Any:
    if outline is LEAF:
        return next(leaves)
    if isinstance(outline, dict):
        return {key: put(value, leaves) for key, value in outline.items()}
    if isinstance(outline, (tuple, list)):
        parts = [put(value, leaves) for value in outline]
        return type(outline)(*parts) if hasattr(outline, "_fields") else type(outline)(parts)
    return outline
