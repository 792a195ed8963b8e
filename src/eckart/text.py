"""Text for messages: names from other people's files made safe to print, counts, and short lists."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from statistics import median_high


def escape(text: str, keep: str = "") -> str:
    """Replace control characters by their escapes, so that a terminal cannot act on them.

    Parameters
    ----------
    text : str
        Any text, for example a tensor name read from a file.
    keep : str
        Non-printable characters to leave unchanged, for example ``"\\n"``.

    Examples
    --------
    >>> escape("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def clip(text: str, limit: int = 120) -> str:
    """Escape a text and cut out its middle if it is longer than ``limit`` characters.

    Examples
    --------
    >>> clip("abcdefghijklmnopqrstuvwxyz", 16)
    'abcdefghijk...yz'
    """
    shown = escape(text)
    if len(shown) <= limit:
        return shown
    end = limit // 7
    return shown[: limit - 3 - end] + "..." + shown[-end:]


def count(things: int | Sized, noun: str, plural: str = "") -> str:
    """Return a number with its noun in the right form.

    Parameters
    ----------
    things : int or sized
        The number, or the collection to count.
    noun : str
        The singular.
    plural : str, optional
        The plural, where it is not the singular plus "s".

    Examples
    --------
    >>> count(1, "module"), count(["a", "b"], "module"), count(1200, "bias", "biases")
    ('1 module', '2 modules', '1,200 biases')
    """
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def decimals(number: float) -> str:
    """Return a number of at least 0 with four decimals, or with an exponent where these would show 0.

    Examples
    --------
    >>> decimals(0.25576), decimals(0.0), decimals(1.5e-07)
    ('0.2558', '0.0000', '1.5e-07')
    """
    return f"{number:.4f}" if number == 0 or number >= 5e-5 else f"{number:.1e}"


def preview(names: Iterable[str], most: int = 3) -> str:
    """Return the first few names, separated by commas, with an ellipsis if there are more.

    Examples
    --------
    >>> preview(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    shown = [clip(name) for name in names]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def listing(names: Iterable[str], noun: str) -> str:
    """Return a count followed by the first few names.

    Examples
    --------
    >>> listing(["a.weight", "b.weight"], "tensor")
    '2 tensors (a.weight, b.weight)'
    """
    names = list(names)
    return f"{count(names, noun)} ({preview(names)})"


def either(names: Iterable[str]) -> str:
    """Join alternatives with commas and "or".

    Examples
    --------
    >>> either(["peft", "kohya", "diffusers"])
    'peft, kohya or diffusers'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def size(number: float) -> str:
    """Return a number of bytes with its unit.

    Examples
    --------
    >>> size(96), size(1536)
    ('96 B', '1.5 kB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def rank_range(ranks: Iterable[int]) -> str:
    """Return the smallest, the largest and the median rank in words.

    Parameters
    ----------
    ranks : iterable of int
        In any order. For an even number of ranks, the median is the larger of the two in the middle.

    Examples
    --------
    >>> rank_range([8, 2, 5]), rank_range([4, 4]), rank_range([])
    ('ranks 2 to 8 (median 5)', 'rank 4', 'no ranks')
    """
    ordered = sorted(ranks)
    if not ordered:
        return "no ranks"
    if ordered[0] == ordered[-1]:
        return f"rank {ordered[0]}"
    return f"ranks {ordered[0]} to {ordered[-1]} (median {median_high(ordered)})"
