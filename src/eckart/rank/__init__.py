"""Spectra in, ranks out: rules, budgets, the noise floor and the plan."""

from eckart.rank.budget import Budget
from eckart.rank.choose import make_plan
from eckart.rank.noise import noise_edge
from eckart.rank.plan import Candidate, RankPlan
from eckart.rank.rule import RankRule

__all__ = ["Budget", "Candidate", "RankPlan", "RankRule", "make_plan", "noise_edge"]
