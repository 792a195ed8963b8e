"""Natural sort order of tensor names: layer 2 comes before layer 10."""

from __future__ import annotations

import re
from collections.abc import Iterable


def natural_sort(names: Iterable[str]) -> list[str]:
    """Sort names by the numeric value of the numbers in them.

    Parameters
    ----------
    names : iterable of str
        Names of tensors.

    Returns
    -------
    list of str
        The same names in natural order.

    Examples
    --------
    >>> natural_sort(["layers.10.w", "layers.2.w"])
    ['layers.2.w', 'layers.10.w']
    """
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    # The pieces alternate between text and digits, so both keys have the same kind at each position. Digits
    # compare by length, then by value, because int() refuses numbers of more than 4300 digits.
    pieces = re.split("([0-9]+)", name)
    key = [
        (len(piece.lstrip("0")), piece.lstrip("0")) if position % 2 else (0, piece)
        for position, piece in enumerate(pieces)
    ]
    return tuple(key), name
