"""The table of rules, and the one function that turns keyword arguments into a rule."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TypedDict

from eckart.arguments import argument, nearest
from eckart.errors import KeywordError, UsageError
from eckart.rank.budget import Budget
from eckart.rank.rule import RankRule, RuleOption
from eckart.rank.rules import Energy, Error, Knee, NoiseFloor, Rank, Ratio
from eckart.text import either

RULES: tuple[type[RankRule], ...] = (Rank, Energy, Error, Ratio, Knee, NoiseFloor, Budget)
"""Every rule, in the order of the help."""

BOUNDS: tuple[RuleOption, ...] = (
    RuleOption("min_rank", int, "Minimum rank.", metavar="N"),
    RuleOption("max_rank", int, "Maximum rank.", metavar="N"),
    RuleOption("multiple_of", int, "Round ranks up to a multiple of this number.", metavar="N"),
    RuleOption("uniform", bool, "Use one rank for all tensors."),
    RuleOption(
        "include",
        list[str],
        "Use only tensors whose name matches this regular expression. Repeatable.",
        metavar="REGEX",
    ),
    RuleOption(
        "exclude",
        list[str],
        "Skip tensors whose name matches this regular expression. Repeatable.",
        metavar="REGEX",
    ),
)
"""The options that every rule accepts, as the fields of `Bounds`."""


class RuleOptions(TypedDict, total=False):
    """The keyword arguments of every function that chooses ranks: one rule, and its bounds.

    The meaning of each is that of the rule or the field of `Bounds` with this name. None and, for a switch,
    False mean that the keyword is not set.
    """

    rank: int | None
    energy: float | None
    error: float | None
    ratio: float | None
    knee: bool
    noise_floor: bool
    budget: str | int | None
    min_rank: int
    max_rank: int | None
    multiple_of: int
    uniform: bool
    include: Sequence[str]
    exclude: Sequence[str]


def rule_from(rule: RankRule | None, options: RuleOptions) -> RankRule:
    """Return the rule that a caller gave, as an object or as keyword arguments.

    Parameters
    ----------
    rule : RankRule, optional
        The rule as an object.
    options : RuleOptions
        Exactly one rule and any bounds. Must be empty if `rule` is given.

    Returns
    -------
    RankRule

    Raises
    ------
    UsageError
        If both are given, if there is not exactly one rule, or if a value is out of range.
    KeywordError
        If a keyword is unknown. The message suggests the nearest one.

    Examples
    --------
    >>> rule_from(None, {"energy": 0.9, "max_rank": 64})
    Energy(0.9, max_rank=64)
    """
    values = dict(options)
    known = [rule_type.option for rule_type in RULES] + list(BOUNDS)
    unknown = sorted(values.keys() - {option.keyword for option in known})
    if unknown:
        keywords = [option.keyword for option in known]
        meant = nearest(unknown[0], keywords)
        fix = f"Use {either(meant)}" if meant else f"The keywords that choose ranks are {', '.join(keywords)}"
        raise KeywordError(f"{unknown[0]}={values[unknown[0]]!r}", "unknown keyword", fix)
    given = [option for option in known if option.is_given(values.get(option.keyword))]
    if rule is not None:
        if given:
            names = ", ".join(argument(option.keyword) for option in given)
            raise UsageError(
                "rank rule",
                f"got {rule!r} together with keywords: {names}",
                "Pass either the rule or keywords",
            )
        return rule
    chosen = [rule_type for rule_type in RULES if rule_type.option in given]
    bounds = {o.keyword: values[o.keyword] for o in given if o in BOUNDS}
    if len(chosen) != 1:
        raise UsageError(
            "rank rule",
            f"expected exactly one rule, got {_rules_given(chosen, list(bounds))}",
            f"Use one of {', '.join(_example(rule_type.option) for rule_type in RULES)}",
        )
    make: Callable[..., RankRule] = chosen[0]
    option = chosen[0].option
    return make(**bounds) if option.type is bool else make(values[option.keyword], **bounds)


def _example(option: RuleOption) -> str:
    """Return an option with a value, as both languages write it."""
    return argument(option.keyword, _value(option))


def _value(option: RuleOption) -> object:
    if option.type is bool:
        return True
    return option.example if option.type is str else ast.literal_eval(option.example)


def _rules_given(chosen: Sequence[type[RankRule]], bounds: Sequence[str]) -> str:
    if chosen:
        return " and ".join(argument(rule_type.option.keyword) for rule_type in chosen)
    if bounds:
        names = " and ".join(argument(option.keyword) for option in BOUNDS if option.keyword in bounds)
        return f"only {names}, which {'bounds' if len(bounds) == 1 else 'bound'} the ranks of a rule"
    return "none"
