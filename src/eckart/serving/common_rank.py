"""The common rank of all modules, for programs that need one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eckart.adapter.adapter import Module
from eckart.arguments import argument
from eckart.errors import UsageError
from eckart.serving.consumer import Consumer, Scaling
from eckart.serving.treatment import titles_of


def needs_one_rank(modules: Mapping[str, Module], consumers: Sequence[Consumer]) -> bool:
    """Whether a consumer needs all these modules to have the same rank, or a rank from a list.

    Parameters
    ----------
    modules : mapping of str to Module
        Modules of the ranks that were chosen.
    consumers : sequence of Consumer

    Notes
    -----
    A program that divides one alpha by the rank of each tensor scales all modules correctly only if their
    ranks are the same.
    """
    varied = len({m.rank for m in modules.values()}) > 1
    return any(c.ranks or (varied and (c.one_rank or c.scale is Scaling.TENSOR)) for c in consumers)


def common_rank(rank: int, consumers: Sequence[Consumer]) -> int:
    """Return the smallest rank, at least ``rank``, that every consumer computes correctly.

    Parameters
    ----------
    rank : int
        The largest rank among the modules.
    consumers : sequence of Consumer

    Raises
    ------
    UsageError
        If there is no such rank.
    """
    lists = [set(c.ranks) for c in consumers if c.ranks]
    if not lists:
        return rank
    allowed = sorted(set.intersection(*lists))
    for candidate in allowed:
        if candidate >= rank:
            return candidate
    titles = titles_of(c for c in consumers if c.ranks)
    reason = f"the largest rank they load correctly is {allowed[-1]}" if allowed else "they share no rank"
    raise UsageError(
        argument("consumers"),
        f"rank {rank} is too large for {titles}: {reason}",
        f"Use a smaller {argument('rank')}",
    )
