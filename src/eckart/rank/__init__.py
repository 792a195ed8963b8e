"""Choosing ranks from singular values: the rules, the noise floor and the plan."""

from eckart.rank.bounds import Bounds
from eckart.rank.budget import Amount, Budget
from eckart.rank.choose import make_plan
from eckart.rank.noise import noise_edge
from eckart.rank.options import RuleOptions, rule_from
from eckart.rank.plan import Candidate, RankPlan
from eckart.rank.rule import RankRule
from eckart.rank.rules import Energy, Error, Knee, NoiseFloor, Rank, Ratio

__all__ = [
    "Amount",
    "Bounds",
    "Budget",
    "Candidate",
    "Energy",
    "Error",
    "Knee",
    "NoiseFloor",
    "Rank",
    "RankPlan",
    "RankRule",
    "Ratio",
    "RuleOptions",
    "make_plan",
    "noise_edge",
    "rule_from",
]
