"""RankRule: one criterion, its shape, and what is refused."""

import pytest

from eckart.errors import UsageError
from eckart.linalg import Goal
from eckart.rank import RankRule


@pytest.mark.parametrize(
    ("rule", "wished", "size", "rank"),
    [
        ({}, 5, 10, 5),
        ({}, 15, 10, 10),
        ({}, 0, 10, 0),
        ({"min_rank": 4}, 2, 10, 4),
        ({"min_rank": 4}, 0, 10, 4),
        ({"min_rank": 4}, 2, 3, 3),
        ({"max_rank": 4}, 7, 10, 4),
        ({"multiple_of": 8}, 1, 100, 8),
        ({"multiple_of": 8}, 8, 100, 8),
        ({"multiple_of": 8}, 9, 100, 16),
        ({"multiple_of": 8}, 0, 100, 0),
        ({"multiple_of": 8}, 9, 12, 12),
        ({"multiple_of": 8, "max_rank": 20}, 18, 100, 16),
        ({"multiple_of": 8, "max_rank": 4}, 18, 100, 4),
        ({"multiple_of": 4, "min_rank": 6}, 1, 100, 8),
    ],
)
def test_the_shape_of_a_rank(rule, wished, size, rank):
    assert RankRule.of(energy=0.9, **rule).shaped(wished, size) == rank


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ((), (), ["layers.0.q_proj", "layers.10.q_proj", "layers.1.mlp.up"]),
        (("q_proj",), (), ["layers.0.q_proj", "layers.10.q_proj"]),
        (("q_proj", "up$"), (), ["layers.0.q_proj", "layers.10.q_proj", "layers.1.mlp.up"]),
        ((), (r"\.mlp\.",), ["layers.0.q_proj", "layers.10.q_proj"]),
        ((r"layers\.1\.",), (), ["layers.1.mlp.up"]),
        (("layers",), (r"layers\.\d+\.q", "up"), []),
        (["q_proj"], [r"\.10\."], ["layers.0.q_proj"]),
    ],
)
def test_include_and_exclude(include, exclude, chosen):
    rule = RankRule.of(rank=1, include=include, exclude=exclude)
    names = ["layers.0.q_proj", "layers.10.q_proj", "layers.1.mlp.up"]
    assert [n for n in names if rule.selects(n)] == chosen


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        ({"rank": 5}, Goal("rank", 5)),
        ({"rank": 50}, Goal("rank", 20)),
        ({"rank": 5, "multiple_of": 8}, Goal("rank", 8)),
        ({"energy": 0.9}, Goal("energy", 0.9)),
        ({"error": 0.05}, Goal("error", 0.05)),
        ({"ratio": 100}, Goal("ratio", 100)),
        ({"knee": True}, Goal("energy", 0.95)),
        ({"noise_floor": True}, Goal("above", 0.25)),
        ({"budget": "2M"}, Goal("rank", 8)),
    ],
)
def test_what_a_tensor_of_size_20_must_be_factored_to(words, goal):
    assert RankRule.of(**words).goal(20, noise_floor=0.25) == goal


def test_only_the_noise_rule_needs_noise():
    assert RankRule.of(noise_floor=True).needs_noise
    assert not RankRule.of(knee=True).needs_noise
    assert RankRule.of(noise_floor=True).goal(20) == Goal("full")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"rank": 8}, "rank 8"),
        ({"energy": 0.9, "max_rank": 64}, "energy 0.9, at most rank 64"),
        ({"knee": True, "min_rank": 2, "multiple_of": 8}, "knee, at least rank 2, multiples of 8"),
        ({"noise_floor": True}, "noise floor"),
        ({"budget": "1%", "uniform": True}, "budget 1%, one rank for all"),
    ],
)
def test_a_rule_in_words(words, said):
    assert RankRule.of(**words).describe() == said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, ["one criterion", "none", "--energy 0.9"]),
        ({"rank": 1, "energy": 0.9}, ["--rank and --energy"]),
        ({"knee": True, "budget": "1%"}, ["--knee and --budget"]),
        ({"rank": 0}, ["rank=0"]),
        ({"rank": True}, ["rank=True"]),
        ({"rank": "3"}, ["rank='3'"]),
        ({"energy": 0}, ["energy=0"]),
        ({"energy": 1.5}, ["energy=1.5"]),
        ({"error": 1}, ["error=1"]),
        ({"ratio": 0.5}, ["ratio=0.5"]),
        ({"ratio": float("nan")}, ["ratio=nan"]),
        ({"budget": "lots"}, ["budget='lots'"]),
        ({"energy": 0.9, "min_rank": -1}, ["min_rank=-1"]),
        ({"energy": 0.9, "min_rank": 1.5}, ["min_rank=1.5"]),
        ({"energy": 0.9, "min_rank": "3"}, ["min_rank='3'"]),
        ({"energy": 0.9, "min_rank": float("nan")}, ["min_rank=nan"]),
        ({"energy": 0.9, "max_rank": 0}, ["max_rank=0"]),
        ({"energy": 0.9, "max_rank": True}, ["max_rank=True"]),
        ({"energy": 0.9, "min_rank": 8, "max_rank": 4}, ["max_rank=4", "min_rank=8"]),
        ({"energy": 0.9, "multiple_of": 0}, ["multiple_of=0"]),
        ({"energy": 0.9, "include": ["("]}, ["pattern '('", "regular expression"]),
        ({"energy": 0.9, "exclude": ["a", "*"]}, ["pattern '*'"]),
    ],
    ids=str,
)
def test_no_rule(words, told):
    with pytest.raises(UsageError) as caught:
        RankRule.of(**words)
    for word in told:
        assert word in str(caught.value)


def test_one_pattern_is_not_taken_for_its_letters():
    """A string is a sequence too: "q_proj" as q, _, p, r, o, j would match nearly every name."""
    try:
        rule = RankRule.of(rank=1, include="q_proj")
    except UsageError:
        return
    assert rule.include == ("q_proj",)


def test_whole_floats_make_whole_ranks():
    """A JSON file or a spreadsheet may well say 8.0."""
    rank = RankRule.of(energy=0.9, multiple_of=4.0, min_rank=2.0).shaped(5, 100)
    assert rank == 8 and isinstance(rank, int)
