"""Names in PEFT's configuration: which modules have factors, and which of them have another rank."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

Number = TypeVar("Number", int, float)  # a rank or an alpha


def target_modules(adapted: Iterable[str], existing: Iterable[str]) -> list[str] | str:
    """Return the shortest ``target_modules`` that PEFT expands to exactly the adapted modules.

    Parameters
    ----------
    adapted : iterable of str
        Module paths that have factors.
    existing : iterable of str
        All module paths of the base that PEFT could wrap.

    Returns
    -------
    list of str or str
        A list of names; a regular expression if no list expands to exactly these modules.

    Notes
    -----
    PEFT wraps every module whose path equals an entry or ends in ``"." + entry``. The last part of the
    path (``q_proj``) is listed if all modules with that last part are adapted. Otherwise their full paths
    are, because a suffix would also wrap layers that have no factors. If one path is the end of another, no
    list can distinguish them; PEFT matches a string as a regular expression for the whole path.

    Examples
    --------
    >>> target_modules(["h.0.q", "h.1.q", "h.0.k"], ["h.0.q", "h.1.q", "h.0.k", "h.1.k"])
    ['h.0.k', 'q']
    """
    adapted, existing = set(adapted), set(existing)
    by_leaf: dict[str, set[str]] = defaultdict(set)
    for name in existing | adapted:
        by_leaf[name.rpartition(".")[2]].add(name)
    targets: list[str] = []
    for leaf, names in by_leaf.items():
        chosen = names & adapted
        if chosen == names:
            targets.append(leaf)
        else:
            targets.extend(chosen)
    reached = {name for name in existing | adapted for t in targets if name == t or name.endswith(f".{t}")}
    return sorted(targets) if reached == adapted else alternation(sorted(adapted))


def rank_pattern(ranks: Mapping[str, Number], default: Number) -> dict[str, Number]:
    """Return one regular expression for each rank that differs from the default.

    Parameters
    ----------
    ranks : mapping of str to int or float
        Ranks, or alphas, by module path.
    default : int or float
        The value that needs no key.

    Returns
    -------
    dict of str to int or float
        Values by regular expression, for PEFT's ``rank_pattern`` or ``alpha_pattern``.

    Notes
    -----
    PEFT tries every key on every module, so one key per module takes time proportional to the square of
    their number. Here there are at most as many keys as distinct ranks, and names that differ only in the
    layer number are folded into one alternation.

    Examples
    --------
    >>> rank_pattern({"h.0.q": 4, "h.1.q": 4, "h.2.q": 8, "head": 2}, default=8)
    {'head': 2, 'h\\\\.(?:0|1)\\\\.q': 4}
    """
    groups: dict[Number, list[str]] = defaultdict(list)
    for name, rank in ranks.items():
        if rank != default:
            groups[rank].append(name)
    # PEFT also matches a key with the end of a name; an anchor is needed if one name is the end of another.
    ends = {name[i + 1 :] for name in ranks for i, letter in enumerate(name) if letter == "."}
    anchor = "^" if ends & ranks.keys() else ""
    return {anchor + alternation(groups[rank]): rank for rank in sorted(groups)}


def alternation(names: list[str]) -> str:
    """Return a regular expression that matches exactly these names.

    Parameters
    ----------
    names : list of str
        Module paths.

    Examples
    --------
    >>> alternation(["h.0.q", "h.1.q"])
    'h\\\\.(?:0|1)\\\\.q'
    """
    templates: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        # Only the first number is folded: it is the layer. Folding later ones (experts) as well would match
        # every combination of them.
        match = re.search(r"(?<=\.)\d+(?=\.)", name)
        if match:
            templates[name[: match.start()], name[match.end() :]].append(match[0])
        else:
            templates[name, ""].append("")
    parts = []
    for (before, after), numbers in templates.items():
        head, tail = re.escape(before), re.escape(after)
        if numbers == [""]:
            parts.append(head)
        else:
            layer = numbers[0] if len(numbers) == 1 else f"(?:{'|'.join(numbers)})"
            parts.append(f"{head}{layer}{tail}")
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
