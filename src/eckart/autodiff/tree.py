"""Flatten nested tuples, lists and dicts of arrays, and rebuild them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from types import NoneType
from typing import Any

import numpy as np

LEAF = {np.ndarray, np.float64, np.float32, float, complex}  # a quick test; other types are examined further


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the leaves of a tree, and a function that rebuilds the tree from new leaves.

    Examples
    --------
    >>> leaves, rebuild = flatten({"b": 1.0, "a": (2.0, [3.0])})
    >>> leaves, rebuild([10.0, 20.0, 30.0])
    ([1.0, 2.0, 3.0], {'b': 10.0, 'a': (20.0, [30.0])})
    """
    if type(tree) in LEAF or not isinstance(tree, (tuple, list, dict, NoneType)):
        return [tree], itemgetter(0)  # one array: by far the most common tree
    leaves: list[Any] = []
    collect(tree, leaves)
    return leaves, lambda new: build(tree, iter(new))


def collect(tree: Any, leaves: list[Any]) -> None:
    """Append the leaves of a tree to a list."""
    for part in tree.values() if isinstance(tree, dict) else tree or ():
        if type(part) in LEAF or not isinstance(part, (tuple, list, dict, NoneType)):
            leaves.append(part)
        else:
            collect(part, leaves)


def build(tree: Any, leaves: Iterator[Any]) -> Any:
    """Return a tree of the same structure as ``tree`` that holds the next leaves."""
    if isinstance(tree, (tuple, list)):
        parts = [next(leaves) if type(part) in LEAF else build(part, leaves) for part in tree]
        if type(tree) is list:
            return parts
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, dict):
        return {key: build(part, leaves) for key, part in tree.items()}
    return None if tree is None else next(leaves)
