"""Spectra in, ranks out: how a rule chooses, tensor by tensor, uniformly, or within a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eckart.errors import UsageError
from eckart.linalg import Goal, Spectrum
from eckart.rank.budget import Share, allocate
from eckart.rank.plan import Candidate, RankPlan
from eckart.rank.rule import RankRule

AT_FIRST = 16  # values to ask for of a tensor of which few or none are known; then twice as many each time


def make_plan(
    candidates: Sequence[Candidate],
    rule: RankRule,
    base_parameters: int = 0,
    bytes_each: int = 2,
) -> RankPlan:
    """Choose a rank for every candidate that the rule selects.

    Parameters
    ----------
    candidates : sequence of Candidate
    rule : RankRule
    base_parameters : int
        Parameters of the whole base model, for a budget given as a share of it.
    bytes_each : int
        Bytes per stored number, for a budget given in bytes.

    Raises
    ------
    UsageError
        If the rule selects nothing, or the budget cannot hold the least ranks.

    Examples
    --------
    >>> layers = [Candidate("a", (4, 4), Spectrum([3.0, 2.0, 1.0, 0.0])),
    ...           Candidate("b", (4, 4), Spectrum([5.0, 0.1, 0.0, 0.0]))]
    >>> plan = make_plan(layers, RankRule.of(energy=0.9))
    >>> plan.ranks, plan.parameters, round(plan.energy, 3)
    ({'a': 2, 'b': 1}, 24, 0.974)
    """
    chosen = [c for c in candidates if rule.selects(c.name)]
    if not chosen:
        raise UsageError(
            "rank rule",
            f"--include and --exclude leave none of {len(candidates)} tensors",
            "Tensor names look like " + ", ".join(c.name for c in candidates[:2])
            if candidates
            else "There is nothing that an adapter could carry",
        )
    if rule.criterion == "budget":
        ranks, reasons, short = _by_budget(chosen, rule, base_parameters, bytes_each)
    elif rule.uniform:
        ranks, reasons, short = _uniform(chosen, rule)
    else:
        ranks, reasons, short = _each(chosen, rule)
    kept = total = 0.0
    for c in chosen:
        known = min(ranks[c.name], len(c.spectrum))
        kept += float(c.spectrum.captured[known - 1]) if known else 0.0
        total += c.spectrum.total
    return RankPlan(
        ranks=ranks,
        reasons=reasons,
        rule=rule.describe(),
        parameters=sum(ranks[c.name] * c.cost for c in chosen),
        energy=min(kept / total, 1.0) if total else 1.0,
        dense=tuple(c.name for c in chosen if ranks[c.name] and ranks[c.name] >= c.break_even),
        short=short,
    )


_Choice = tuple[dict[str, int], dict[str, str], dict[str, Goal]]


def _each(chosen: list[Candidate], rule: RankRule) -> _Choice:
    """Choose every tensor's rank by itself."""
    ranks: dict[str, int] = {}
    reasons: dict[str, str] = {}
    short: dict[str, Goal] = {}
    for c in chosen:
        if c.spectrum.total == 0:
            ranks[c.name], reasons[c.name] = 0, "unchanged"
            continue
        wished, reasons[c.name] = _wish(c, rule)
        if wished is None:
            unmeasured = rule.needs_noise and c.noise_floor is None
            wished = 0 if unmeasured else len(c.spectrum) + 1  # at least; enough where max_rank is no more
            if unmeasured or rule.shaped(wished, c.spectrum.size) > len(c.spectrum):
                short[c.name] = rule.goal(c.spectrum.size, c.noise_floor)
        rank = rule.shaped(wished, c.spectrum.size)
        if rank > len(c.spectrum) and c.name not in short:
            short[c.name] = Goal("rank", rank)
        if rank != wished:
            reasons[c.name] += f"; {wished} made {rank} by the bounds asked for"
        if rank >= c.break_even:
            reasons[c.name] += f"; dense would be smaller from rank {c.break_even}"
        ranks[c.name] = rank
    return ranks, reasons, short


def _wish(c: Candidate, rule: RankRule) -> tuple[int | None, str]:
    """Return the rank that the criterion alone asks for (None if unknown), and the reason."""
    spectrum = c.spectrum
    if rule.criterion == "noise-floor" and c.noise_floor is None:
        return None, "noise floor not computed"
    goal = rule.goal(spectrum.size, c.noise_floor)
    if rule.criterion == "rank":
        return min(int(rule.value), spectrum.size), f"rank {int(rule.value)} asked for"
    rank = spectrum.rank_for(goal)
    if rank is None:
        return None, "not enough singular values known"
    match rule.criterion:
        case "knee":
            knee = spectrum.knee()
            if knee is None:
                return rank, f"no knee: rank {rank} holds 95 %"
            return knee, f"knee of the energy curve, {spectrum.energy(knee):.1%}"
        case "noise-floor":
            return rank, f"{rank} sigma above the noise floor {c.noise_floor:.3g}"
        case "ratio":
            return rank, f"{rank} sigma above sigma_1 / {rule.value:g}"
        case "error":
            return rank, f"error {spectrum.error(rank):.4f}"
        case _:
            return rank, f"energy {spectrum.energy(rank):.4f}"


def _uniform(chosen: list[Candidate], rule: RankRule) -> _Choice:
    """Choose one rank for all: the pooled energy for energy and error, else the largest wish."""
    short: dict[str, Goal] = {}
    if rule.criterion in ("energy", "error"):
        pooled = _pooled(chosen)
        wished = pooled.rank_for(Goal(rule.criterion, rule.value))
        reason = f"the least rank at which all tensors together reach {rule.criterion} {rule.value:g}"
        if wished is None:
            wished = max(len(c.spectrum) for c in chosen)
            # The sum stops at the shortest list of values, so those are the ones to lengthen.
            known = min(len(c.spectrum) for c in chosen if not c.spectrum.complete)
            short = {
                c.name: Goal("rank", min(max(2 * known, AT_FIRST), c.spectrum.size))
                for c in chosen
                if not c.spectrum.complete and len(c.spectrum) == known
            }
    else:
        ranks, _, short = _each(chosen, rule)
        wished = max(ranks.values())
        reason = f"the largest rank that any tensor needs for {rule.describe()}"
    rank = rule.shaped(wished, max(c.spectrum.size for c in chosen))
    ranks = {c.name: min(rank, c.spectrum.size) if c.spectrum.total else 0 for c in chosen}
    for c in chosen:
        if ranks[c.name] > len(c.spectrum):
            short.setdefault(c.name, Goal("rank", ranks[c.name]))
    return ranks, {c.name: reason if c.spectrum.total else "unchanged" for c in chosen}, short


def _pooled(chosen: list[Candidate]) -> Spectrum:
    """Return a spectrum whose r-th energy is what one more rank adds over all tensors together."""
    size = max(c.spectrum.size for c in chosen)
    # Past the shortest list of leading values the sum would miss terms, so it stops there.
    known = min((len(c.spectrum) for c in chosen if not c.spectrum.complete), default=size)
    steps = np.zeros(known)
    for c in chosen:
        values = c.spectrum.values[:known]
        steps[: len(values)] += values**2
    total = sum(c.spectrum.total for c in chosen)
    return Spectrum(np.sqrt(steps), total - float(steps.sum()) if known < size else 0.0, size)


def _by_budget(chosen: list[Candidate], rule: RankRule, base_parameters: int, bytes_each: int) -> _Choice:
    """Share a budget among all tensors."""
    assert rule.budget is not None
    parameters = rule.budget.parameters(base_parameters, bytes_each)
    live = [c for c in chosen if c.spectrum.total > 0]
    ranks = {c.name: 0 for c in chosen}
    short: dict[str, Goal] = {}
    if rule.uniform:
        each = _uniform_rank_within(live, parameters)
        down = each // rule.multiple_of * rule.multiple_of
        shaped = {c.name: min(down, rule.most(c.spectrum.size)) for c in live}
        least = {c.name: rule.shaped(rule.min_rank, c.spectrum.size) if rule.min_rank else 0 for c in live}
        if any(shaped[name] < rank for name, rank in least.items()):
            raise UsageError(
                f"budget={rule.budget.text!r}",
                f"is {parameters:,} parameters, and the least ranks alone take "
                f"{sum(least[c.name] * c.cost for c in live):,}",
                "Lower --min-rank or raise --budget",
            )
        ranks |= shaped
        short = {c.name: Goal("rank", ranks[c.name]) for c in live if ranks[c.name] > len(c.spectrum)}
    else:
        most = [rule.most(c.spectrum.size) for c in live]
        shares = [_share(c, rule, top) for c, top in zip(live, most, strict=True)]
        given = allocate(shares, parameters, rule.multiple_of)
        for c, top, rank in zip(live, most, given, strict=True):
            ranks[c.name] = rank
            affordable = min(top, parameters // c.cost)
            # All that is known was taken, so more might be worth taking: look further.
            if rank > len(c.spectrum) or (rank == len(c.spectrum) and rank < affordable):
                more = max(2 * len(c.spectrum), AT_FIRST, rank)
                short[c.name] = Goal("rank", min(affordable, more))
    if live and not any(ranks.values()) and not short:
        raise UsageError(
            f"budget={rule.budget.text!r}",
            f"is {parameters:,} parameters; one component costs at least {min(c.cost for c in live):,}",
            "Raise --budget",
        )
    words = f"its share of {parameters:,} parameters"
    return ranks, {c.name: words if c.spectrum.total else "unchanged" for c in chosen}, short


def _share(c: Candidate, rule: RankRule, most: int) -> Share:
    """Return what a tensor brings to the division of a budget, from the values known of it."""
    known = min(most, len(c.spectrum))
    least = min(rule.shaped(rule.min_rank, c.spectrum.size), most) if rule.min_rank else 0
    energies = np.zeros(most)
    energies[:known] = c.spectrum.values[:known] ** 2
    return Share(energies, c.cost, least, max(known, least))


def _uniform_rank_within(live: list[Candidate], parameters: int) -> int:
    """Return the largest rank that fits the budget when every tensor gets it."""
    low, high = 0, max((c.spectrum.size for c in live), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        cost = sum(min(middle, c.spectrum.size) * c.cost for c in live)
        low, high = (middle, high) if cost <= parameters else (low, middle - 1)
    return low
