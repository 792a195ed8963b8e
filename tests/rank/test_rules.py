"""The rules one by one: their goals, their descriptions, and the values they refuse."""

import dataclasses
import pickle

import numpy as np
import pytest

from eckart.errors import UsageError
from eckart.linalg import Goal, Spectrum
from eckart.rank import Budget, Candidate, Energy, Error, Knee, NoiseFloor, Rank, Ratio, rule_from
from eckart.rank.options import RULES
from support.rules import one_of_each

EVERY_RULE = [rule_from(None, keywords) for keywords in one_of_each().values()]


@pytest.mark.parametrize(
    ("rule", "goal"),
    [
        (Rank(5), Goal("rank", 5)),
        (Rank(50), Goal("rank", 20)),
        (Rank(5, multiple_of=8), Goal("rank", 8)),
        (Energy(0.9), Goal("energy", 0.9)),
        (Error(0.05), Goal("error", 0.05)),
        (Ratio(100), Goal("ratio", 100)),
        (Knee(), Goal("energy", 0.95)),
        (NoiseFloor(), Goal("above", 0.25)),
        (Budget("2M"), Goal("rank", 8)),
        (Budget("2M", min_rank=12), Goal("rank", 12)),
    ],
    ids=repr,
)
def test_a_rule_gives_the_goal_of_a_tensor_of_size_20(rule, goal):
    assert rule.goal(20, noise_floor=0.25) == goal


def test_a_budget_first_asks_for_one_and_a_half_times_an_even_distribution():
    shapes = {"a": (30, 20), "b": (10, 40)}  # 100 parameters for one component of each
    assert Budget("2000").first_goals(shapes, 0, 2) == {"a": Goal("rank", 20), "b": Goal("rank", 10)}
    assert Budget("800").first_goals(shapes, 0, 2) == {"a": Goal("rank", 12), "b": Goal("rank", 10)}
    assert Budget("100").first_goals(shapes, 0, 2) == {"a": Goal("rank", 8), "b": Goal("rank", 8)}
    assert Budget("100").first_goals({}, 0, 2) == {}


@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
def test_only_the_noise_floor_rule_needs_noise_floors(rule):
    assert rule.needs_noise_floor is (rule == NoiseFloor())
    assert NoiseFloor().goal(20) == Goal("full")


def test_only_a_share_of_the_base_needs_the_size_of_the_base():
    assert Budget("1%").needs_base_size
    assert not any(rule.needs_base_size for rule in (Budget("1M"), Budget("1MB"), Rank(1), Energy(0.9)))


@pytest.mark.parametrize(
    ("rule", "description"),
    [
        (Rank(8), "rank 8"),
        (Rank(8.0), "rank 8"),
        (Energy(0.9, max_rank=64), "energy 0.9, at most rank 64"),
        (Error(0.05), "error 0.05"),
        (Ratio(100), "ratio 100"),
        (Knee(min_rank=2, multiple_of=8), "knee, at least rank 2, multiples of 8"),
        (NoiseFloor(), "noise floor"),
        (Budget("1%", uniform=True), "budget 1%, one rank for all"),
        (Budget(500), "budget 500"),
    ],
    ids=repr,
)
def test_a_rule_describes_itself(rule, description):
    assert rule.describe() == description


@pytest.mark.parametrize(
    "rule",
    [*EVERY_RULE, Energy(0.9, max_rank=64), Knee(uniform=True), Budget("1%", exclude="lm_head")],
    ids=repr,
)
def test_the_repr_of_a_rule_builds_it_again(rule):
    names = {rule_type.__name__: rule_type for rule_type in RULES}
    assert eval(repr(rule), names) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert hash(rule) == hash(dataclasses.replace(rule))


def test_the_repr_shows_only_what_was_set():
    assert repr(Energy(0.9, max_rank=64)) == "Energy(0.9, max_rank=64)"
    assert repr(Knee()) == "Knee()"


def test_numbers_of_numpy_become_python_numbers():
    assert type(Energy(np.float32(0.5)).energy) is float
    assert type(Rank(np.int64(3)).rank) is int


@pytest.mark.parametrize(
    ("rule_type", "value", "part"),
    [
        (Rank, 0, "`rank=0`"),
        (Rank, True, "`rank=True`"),
        (Rank, "3", "`rank='3'`"),
        (Rank, 2.5, "`rank=2.5`"),
        (Energy, 0, "`energy=0`"),
        (Energy, 1.5, "`energy=1.5`"),
        (Error, 1, "`error=1`"),
        (Ratio, 0.5, "`ratio=0.5`"),
        (Ratio, float("nan"), "`ratio=nan`"),
        (Budget, "lots", "`budget='lots'`"),
        (Budget, True, "`budget=True`"),
    ],
)
def test_a_value_out_of_range_is_refused(rule_type, value, part):
    with pytest.raises(UsageError) as caught:
        rule_type(value)
    assert part in str(caught.value)


LEADING = Candidate("a", (3, 3), Spectrum([3.0], 5.0, 3), noise_floor=0.5)


@pytest.mark.parametrize("rule", [Energy(0.9), Error(0.1), Ratio(100), Knee(), NoiseFloor()], ids=repr)
def test_a_rule_chooses_no_rank_where_the_known_values_cannot_tell(rule):
    assert rule.choose(LEADING).rank is None
    assert rule.choose(LEADING).reason == "not enough singular values known"


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Energy(1.0), "energy 1 - 1.0e-28"),
        (Error(0.0), "error 1.0e-14"),
        (Energy(1 - 1e-12), "energy 1 - 1.0e-12"),
        (Energy(0.9), "energy 0.9999"),
    ],
    ids=repr,
)
def test_a_reason_states_what_is_missing_where_four_decimals_would_hide_it(rule, reason):
    sigma = 10.0 ** -np.arange(0, 20, 2)
    assert rule.choose(Candidate("a", (10, 10), Spectrum(sigma))).reason == reason
