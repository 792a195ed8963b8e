"""Bounds on ranks, and the selection of tensors by name."""

import pytest

from eckart.errors import UsageError
from eckart.rank import Bounds, Energy, Rank


@pytest.mark.parametrize(
    ("bounds", "chosen", "size", "rank"),
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
def test_a_rank_is_moved_into_its_bounds(bounds, chosen, size, rank):
    assert Bounds(**bounds).bounded(chosen, size) == rank
    assert Energy(0.9, **bounds).bounded(chosen, size) == rank


@pytest.mark.parametrize(
    ("include", "exclude", "selected"),
    [
        ((), (), ["layers.0.q_proj", "layers.10.q_proj", "layers.1.mlp.up"]),
        (("q_proj",), (), ["layers.0.q_proj", "layers.10.q_proj"]),
        (("q_proj", "up$"), (), ["layers.0.q_proj", "layers.10.q_proj", "layers.1.mlp.up"]),
        ((), (r"\.mlp\.",), ["layers.0.q_proj", "layers.10.q_proj"]),
        ((r"layers\.1\.",), (), ["layers.1.mlp.up"]),
        (("layers",), (r"layers\.\d+\.q", "up"), []),
        (["q_proj"], [r"\.10\."], ["layers.0.q_proj"]),
        ("q_proj", r"\.10\.", ["layers.0.q_proj"]),
    ],
)
def test_include_and_exclude_select_tensors_by_name(include, exclude, selected):
    rule = Rank(1, include=include, exclude=exclude)
    names = ["layers.0.q_proj", "layers.10.q_proj", "layers.1.mlp.up"]
    assert [n for n in names if rule.selects(n)] == selected


def test_a_single_pattern_is_not_split_into_letters():
    """A string is a sequence too. The patterns q, _, p, r, o, j would match nearly every name."""
    rule = Rank(1, include="q_proj", exclude="lm_head")
    assert (rule.include, rule.exclude) == (("q_proj",), ("lm_head",))


def test_whole_floats_become_whole_ranks():
    """A JSON file or a spreadsheet may hold 8.0."""
    rank = Energy(0.9, multiple_of=4.0, min_rank=2.0).bounded(5, 100)
    assert rank == 8 and isinstance(rank, int)


@pytest.mark.parametrize(
    ("bounds", "parts"),
    [
        ({"min_rank": -1}, ["min_rank=-1", "at least 0"]),
        ({"min_rank": 1.5}, ["min_rank=1.5", "whole number"]),
        ({"min_rank": "3"}, ["min_rank='3'"]),
        ({"min_rank": float("nan")}, ["min_rank=nan"]),
        ({"max_rank": 0}, ["max_rank=0", "at least 1"]),
        ({"max_rank": True}, ["max_rank=True"]),
        ({"min_rank": 8, "max_rank": 4}, ["max_rank=4", "min_rank=8"]),
        ({"multiple_of": 0}, ["multiple_of=0"]),
        ({"include": ["("]}, ["pattern '('", "regular expression"]),
        ({"exclude": ["a", "*"]}, ["pattern '*'"]),
    ],
    ids=str,
)
def test_invalid_bounds_are_refused(bounds, parts):
    with pytest.raises(UsageError) as caught:
        Energy(0.9, **bounds)
    for part in parts:
        assert part in str(caught.value)
