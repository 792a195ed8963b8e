"""The one rank that several programs need."""

from dataclasses import replace

import numpy as np
import pytest

from eckart.adapter import Module
from eckart.errors import UsageError
from eckart.serving import CONSUMERS, consumers_named
from eckart.serving.common_rank import common_rank, needs_one_rank


def modules_of(*ranks: int) -> dict[str, Module]:
    return {
        f"m{i}": Module(f"m{i}", "linear", np.zeros((9, rank)), np.zeros((rank, 9)))
        for i, rank in enumerate(ranks)
    }


@pytest.mark.parametrize(
    "names, for_one_rank, for_two_ranks",
    [
        ("", False, False),
        ("peft,vllm,vllm-0.30", False, False),
        ("sglang", False, True),  # one rank for all modules
        ("llama.cpp", False, True),  # one alpha over the rank of each tensor
        ("tensorrt-llm,vllm", False, True),
        ("tgi", True, True),  # a rank from a list
    ],
)
def test_some_programs_need_one_rank(names, for_one_rank, for_two_ranks):
    consumers = consumers_named(names)
    assert needs_one_rank(modules_of(4, 4), consumers) is for_one_rank
    assert needs_one_rank(modules_of(4, 5), consumers) is for_two_ranks


@pytest.mark.parametrize("rank, expected", [(1, 8), (8, 8), (9, 16), (17, 32), (113, 128), (128, 128)])
def test_tgi_gets_the_next_rank_that_it_scales_correctly(rank, expected):
    assert common_rank(rank, consumers_named("vllm,tgi")) == expected


def test_without_lists_the_rank_stays():
    assert common_rank(129, consumers_named("sglang,llama.cpp")) == 129


def test_a_rank_above_the_largest_correct_one_is_refused():
    with pytest.raises(UsageError, match=r"rank 129 is too large for TGI and LoRAX: the largest .* is 128"):
        common_rank(129, consumers_named("tgi"))


def test_programs_without_a_common_rank_are_refused():
    other = replace(CONSUMERS["tgi"], title="Other", ranks=(12, 24))
    with pytest.raises(UsageError, match="TGI and LoRAX, Other: they share no rank"):
        common_rank(4, [CONSUMERS["tgi"], other])
