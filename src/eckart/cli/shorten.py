"""Names shortened in the middle, for tables: different names stay different."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

ELLIPSIS = "..."
SHORTEST = 16  # terminal columns of a shortened name, unless names need more to differ
# The share of a shortened name that is its beginning, the best first. The ends of tensor names tell most.
BEGINNINGS = (0.3, 0.15, 0.0, 0.5, 0.75)
SEPARATORS = "._/-"
SEPARATOR = re.compile(f"[{re.escape(SEPARATORS)}]")
SHORT_PART = 5  # characters of a part that are removed rather than shown cut


def shorten(name: str, width: int, beginning: float = BEGINNINGS[0]) -> str:
    """Replace the middle of a name by an ellipsis if it is wider than ``width`` terminal columns.

    Parameters
    ----------
    name : str
        Text without control characters.
    width : int
        Terminal columns; wide characters take two. At least 4.
    beginning : float
        The share of the columns that the beginning of the name gets.

    Examples
    --------
    >>> shorten("model.layers.31.self_attn.q_proj", 28)
    'model...31.self_attn.q_proj'
    """
    if cell_len(name) <= width:
        return name
    room = width - len(ELLIPSIS)
    end = _fitting(name, int(beginning * room))
    head = _without_last_part(name[:end], name[end])
    start = len(name) - _fitting(name[::-1], room - cell_len(head))
    while start < len(name) and not cell_len(name[start]):  # an accent belongs to the letter before it
        start += 1
    tail = _without_last_part(name[start:][::-1], name[start - 1])[::-1]
    return head + ELLIPSIS + tail


def _without_last_part(kept: str, following: str) -> str:
    """Remove what is left of the part in which a name is cut, if that is short or a number.

    The rest of a number would read as another number: 31 must not become 1.
    """
    whole = kept.rstrip("0123456789") if following.isdigit() else kept
    last = SEPARATOR.search(whole[::-1])
    if following not in SEPARATORS and last and last.start() <= SHORT_PART:
        whole = whole[: -last.end()]
    return whole.rstrip(SEPARATORS)


def shorten_all(names: Sequence[str], width: int) -> list[str]:
    """Shorten names to ``width`` terminal columns, where possible without making two of them equal.

    Parameters
    ----------
    names : sequence of str
        Text without control characters.
    width : int
        Terminal columns.

    Returns
    -------
    list of str
        One for each name. Two are equal only if the names are, or if `least_width` is above ``width``.
    """
    if all(cell_len(name) <= width for name in names):
        return list(names)
    different = list(dict.fromkeys(names))
    by_name = next(filter(None, (_distinct(different, width, share) for share in BEGINNINGS)), None)
    return [by_name[name] if by_name else shorten(name, width) for name in names]


def least_width(names: Sequence[str]) -> int:
    """Return the least width, from `SHORTEST` up, at which all different names stay different.

    Parameters
    ----------
    names : sequence of str
        Text without control characters.

    Returns
    -------
    int
        Terminal columns; the width of the widest name if that is less than `SHORTEST`.
    """
    widest = max(map(cell_len, names), default=0)
    different = list(dict.fromkeys(names))
    for width in range(SHORTEST, widest):
        if any(_distinct(different, width, share) for share in BEGINNINGS):
            return width
    return widest


def _distinct(names: Sequence[str], width: int, beginning: float) -> dict[str, str] | None:
    """Return different names in shortened form; None as soon as two of them are equal."""
    by_name: dict[str, str] = {}
    seen = set()
    for name in names:
        short = shorten(name, width, beginning)
        if short in seen:
            return None
        seen.add(short)
        by_name[name] = short
    return by_name


def _fitting(text: str, width: int) -> int:
    """Return how many characters from the beginning of a text take at most ``width`` terminal columns."""
    if text.isascii():
        return min(width, len(text))
    taken = 0
    for i, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return i
    return len(text)
