"""What a first pass must learn about each tensor, with and without a rule."""

from __future__ import annotations

from collections.abc import Sequence

from eckart.checkpoint.kinds import Kind
from eckart.linalg import Goal
from eckart.rank import RankRule
from eckart.rank.bounds import Bounds
from eckart.store.record import NOISE_FLOOR, Demand
from eckart.store.sources import ALL_KINDS, Sources


def whole_demands(sources: Sources, max_rank: int) -> dict[str, Demand]:
    """Ask for every singular value of every matrix, its noise floor, and the leading components.

    Parameters
    ----------
    sources : PairSources or SingleSources
        The checkpoints.
    max_rank : int
        Number of components to keep of each matrix; 0 for none.

    Returns
    -------
    dict of str to Demand
        By tensor name.
    """
    demands = {}
    for source in sources.matrices(ALL_KINDS):
        rank = min(max_rank, *source.shape)
        demands[source.name] = Demand(Goal("rank", rank) if rank else None, whole=True, noise=True)
    return demands


def first_demands(
    sources: Sources, rule: RankRule, kinds: Sequence[Kind], bytes_each: int = 2
) -> dict[str, Demand]:
    """Ask for what a rule needs to know about each tensor, while nothing is known yet.

    Parameters
    ----------
    sources : PairSources or SingleSources
        The checkpoints.
    rule : RankRule
        The rule. Tensors that it does not select are left out.
    kinds : sequence of Kind
        Kinds of tensors that get factors.
    bytes_each : int
        Bytes per number in the adapter, for a budget in bytes.

    Returns
    -------
    dict of str to Demand
        By tensor name.
    """
    chosen = [s for s in sources.matrices(kinds) if rule.selects(s.name)]
    if rule.needs_noise_floor:
        return {s.name: Demand(NOISE_FLOOR, noise=True, bounds=bounds_of(rule)) for s in chosen}
    shapes = {s.name: s.shape for s in chosen if min(s.shape)}
    goals = rule.first_goals(shapes, sources.base_parameters, bytes_each)
    return {name: Demand(goal, bounds=bounds_of(rule)) for name, goal in goals.items()}


def bounds_of(rule: RankRule) -> Bounds | None:
    """Return the bounds of a rule that can raise a rank; None if it has no such bounds.

    Parameters
    ----------
    rule : RankRule
        The rule.

    Returns
    -------
    Bounds or None
        Without the selection of tensors.
    """
    if not rule.min_rank and rule.multiple_of == 1:
        return None
    return Bounds(min_rank=rule.min_rank, max_rank=rule.max_rank, multiple_of=rule.multiple_of)
