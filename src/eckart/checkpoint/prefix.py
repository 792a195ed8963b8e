"""The prefix that one library puts before every name and another does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from eckart.checkpoint.tensorinfo import TensorInfo


def find_prefix(base: Mapping[str, TensorInfo], tuned: Mapping[str, TensorInfo]) -> tuple[str, bool]:
    """Find the prefix that makes the most pairs of equal name and shape.

    Parameters
    ----------
    base, tuned : mapping of str to TensorInfo
        The tensors whose names are in one checkpoint alone.

    Returns
    -------
    prefix : str
        With its dot, e.g. ``"model."`` or ``"base_model.model."``; ``""`` if none makes a pair. Of
        two that make as many, the shorter.
    in_base : bool
        Whether it is the base that has it.

    Notes
    -----
    Every beginning of every name is tried, up to each of its dots; no list of known prefixes.
    """
    votes: Counter[tuple[str, bool]] = Counter()
    for in_base, longer, shorter in ((True, base, tuned), (False, tuned, base)):
        for name, info in longer.items():
            for place, letter in enumerate(name, 1):
                rest = name[place:] if letter == "." else ""
                if rest in shorter and shorter[rest].shape == info.shape:
                    votes[name[:place], in_base] += 1
    if not votes:
        return "", False
    return min(votes, key=lambda vote: (-votes[vote], len(vote[0]), vote))
