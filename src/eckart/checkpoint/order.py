"""The order in which a person lists tensors: layer 2 before layer 10."""

from __future__ import annotations

import re
from collections.abc import Iterable


def natural_sort(names: Iterable[str]) -> list[str]:
    """Sort names so that numbers in them count as numbers: layer 2 before layer 10."""
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    # The pieces alternate between text and digits, so that a place always compares like with like;
    # a longer run of digits is the larger number, and int() would refuse one of 5000 digits.
    pieces = re.split("([0-9]+)", name)
    key = [
        (len(piece.lstrip("0")), piece.lstrip("0")) if place % 2 else (0, piece)
        for place, piece in enumerate(pieces)
    ]
    return tuple(key), name
