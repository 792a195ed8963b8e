"""Find the prefix by which the tensor names of two checkpoints differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from eckart.checkpoint.tensorinfo import TensorInfo


def find_prefix(base: Mapping[str, TensorInfo], tuned: Mapping[str, TensorInfo]) -> tuple[str, bool]:
    """Find the prefix that gives the most pairs of equal name and shape.

    Parameters
    ----------
    base, tuned : mapping of str to TensorInfo
        The tensors whose names occur in only one of the checkpoints.

    Returns
    -------
    prefix : str
        The prefix with its final dot, e.g. ``"model."`` or ``"base_model.model."``, or ``""`` if no prefix
        gives a pair. Ties are resolved in favour of the shorter prefix.
    in_base : bool
        Whether the base has the prefix.

    Notes
    -----
    The candidates are all parts of names that end in a dot. There is no list of known prefixes.
    """
    votes: Counter[tuple[str, bool]] = Counter()
    for in_base, longer, shorter in ((True, base, tuned), (False, tuned, base)):
        for name, info in longer.items():
            for end, letter in enumerate(name, 1):
                rest = name[end:] if letter == "." else ""
                if rest in shorter and shorter[rest].shape == info.shape:
                    votes[name[:end], in_base] += 1
    if not votes:
        return "", False
    return min(votes, key=lambda vote: (-votes[vote], len(vote[0]), vote))
