"""Demands on a pass before anything is known: what it must learn about each tensor."""

from __future__ import annotations

from collections.abc import Sequence

from eckart.linalg import Goal
from eckart.rank import RankRule
from eckart.store.record import Demand
from eckart.store.sources import ALL_KINDS, Sources


def whole_demands(sources: Sources, max_rank: int) -> dict[str, Demand]:
    """Ask for every singular value of every matrix, its noise floor, and ``max_rank`` components."""
    return {
        s.name: Demand(
            Goal("rank", min(max_rank, *s.shape)) if max_rank and min(s.shape) else None,
            whole=True,
            noise=True,
        )
        for s in sources.matrices(ALL_KINDS)
    }


def first_demands(
    sources: Sources, rule: RankRule, kinds: Sequence[str], bytes_each: int = 2
) -> dict[str, Demand]:
    """Ask for what a rule needs to know about each tensor, before anything is known."""
    chosen = [s for s in sources.matrices(kinds) if rule.selects(s.name)]
    if rule.needs_noise_floor:
        return {s.name: Demand(Goal("above", 0.0), noise=True) for s in chosen}
    shapes = {s.name: s.shape for s in chosen if min(s.shape)}
    goals = rule.first_goals(shapes, sources.base_parameters, bytes_each)
    return {name: Demand(goal) for name, goal in goals.items()}
