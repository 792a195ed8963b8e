"""Make a plan: apply a rule to the tensors of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eckart.arguments import argument
from eckart.errors import UsageError
from eckart.rank.plan import Candidate, RankPlan
from eckart.rank.rule import RankRule
from eckart.text import count, preview


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
        The tensors of a model with their singular values.
    rule : RankRule
        How to choose the ranks, for example ``Energy(0.9)``.
    base_parameters : int
        Number of parameters of the base model, for a budget given as a share of it.
    bytes_each : int
        Bytes per stored number, for a budget given in bytes.

    Returns
    -------
    RankPlan
        Final if its ``undecided`` is empty. Otherwise, these tensors need more singular values.

    Raises
    ------
    UsageError
        If the rule selects no tensor, or a budget is too small for the minimum ranks.

    Notes
    -----
    The cost is linear in the number of known singular values; nothing is factored.

    Examples
    --------
    >>> from eckart.linalg import Spectrum
    >>> from eckart.rank import Energy
    >>> layers = [Candidate("a", (4, 4), Spectrum([3.0, 2.0, 1.0, 0.0])),
    ...           Candidate("b", (4, 4), Spectrum([5.0, 0.1, 0.0, 0.0]))]
    >>> plan = make_plan(layers, Energy(0.9))
    >>> plan.ranks, plan.parameters, round(plan.energy, 3)
    ({'a': 2, 'b': 1}, 24, 0.974)
    """
    selected = [c for c in candidates if rule.selects(c.name)]
    if not candidates:
        raise UsageError("rank rule", "there is no tensor that an adapter could hold")
    if not selected:
        raise nothing_selected(rule, [c.name for c in candidates])
    decisions = rule.decide(selected, base_parameters, bytes_each)
    ranks = {name: decision.rank for name, decision in decisions.items()}
    kept = total = 0.0
    for c in selected:
        known = min(ranks[c.name], len(c.spectrum))
        kept += float(c.spectrum.captured[known - 1]) if known else 0.0
        total += c.spectrum.total
    return RankPlan(
        ranks=ranks,
        reasons={name: decision.reason for name, decision in decisions.items()},
        rule=rule.describe(),
        parameters=sum(ranks[c.name] * c.cost for c in selected),
        energy=min(kept / total, 1.0) if total else 1.0,
        dense=tuple(c.name for c in selected if ranks[c.name] and ranks[c.name] >= c.break_even),
        undecided={name: d.needs for name, d in decisions.items() if d.needs is not None},
    )


def nothing_selected(rule: RankRule, names: Sequence[str]) -> UsageError:
    """Return the error for a rule whose patterns leave no tensor.

    Parameters
    ----------
    rule : RankRule
        The rule.
    names : sequence of str
        The tensors that it could apply to.

    Returns
    -------
    UsageError
        It suggests the pattern that was probably meant, if a list was written with commas or shell wildcards.
    """
    fixes = []
    for keyword, patterns in (("include", rule.include), ("exclude", rule.exclude)):
        better = [_as_expression(pattern) for pattern in patterns]
        if better != list(patterns) and keyword == "include" and _matches(better, names):
            fixes.append(argument(keyword, "|".join(better)))
    fix = f"Use {fixes[0]}" if fixes else f"Use patterns that match names such as {preview(names, 2)}"
    given = [argument(k, list(p)) for k, p in (("include", rule.include), ("exclude", rule.exclude)) if p]
    return UsageError(
        " ".join(given) or "rank rule", f"these patterns leave none of {count(names, 'tensor')}", fix
    )


def _as_expression(pattern: str) -> str:
    """Return a list with commas, or a shell's wildcards, as a regular expression."""
    parts = [part.strip() for part in pattern.split(",") if part.strip()]
    return "|".join(re.sub(r"(?<![.\\\])])\*", ".*", part) for part in parts)


def _matches(patterns: Sequence[str], names: Sequence[str]) -> bool:
    try:
        return any(re.search(pattern, name) for pattern in patterns for name in names)
    except re.error:
        return False
