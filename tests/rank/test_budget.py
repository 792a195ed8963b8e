"""Budgets: how they are parsed, and that no other distribution keeps more energy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eckart.errors import UsageError
from eckart.rank import Amount
from eckart.rank.budget import Share, allocate


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("500000", 500_000),
        (500_000, 500_000),
        ("500k", 500_000),
        ("500K", 500_000),
        ("2M", 2_000_000),
        ("2m", 2_000_000),
        (" 2 M ", 2_000_000),
        ("2.3M", 2_300_000),
        (".5M", 500_000),
        ("1e6", 1_000_000),
        ("7G", 7_000_000_000),
        ("8MB", 4_000_000),
        ("8 mb", 4_000_000),
        ("8MiB", 4 * 2**20),
        ("1GB", 500_000_000),
        ("1GiB", 2**29),
        ("64kb", 32_000),
        ("64KiB", 2**15),
        ("9b", 4),
        ("9B", 4),
        ("1%", 10),
        ("100%", 1000),
        ("2.5 %", 25),
        ("0.1%", 1),
        ("29%", 290),
        ("57%", 570),
    ],
)
def test_a_budget_is_parsed_to_a_number_of_parameters(text, parameters):
    assert Amount.parse(text).parameters(base_parameters=1000, bytes_each=2) == parameters


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_percentage_of_100_is_that_number(percent):
    assert Amount.parse(f"{percent}%").parameters(100, 2) == percent


def test_a_budget_in_bytes_depends_on_the_dtype():
    budget = Amount.parse("8MB")
    assert [budget.parameters(0, n) for n in (1, 2, 4)] == [8_000_000, 4_000_000, 2_000_000]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "%",
        "2X",
        "2 M B",
        "-2M",
        "0",
        "0%",
        "0MB",
        "101%",
        "1%%",
        "two",
        "nan",
        "inf",
        "1e999",
        "2,000",
        "1_000",
        "0x10",
        "2M/s",
        True,
        None,
        -5,
        0,
    ],
)
def test_invalid_budget_is_refused(text):
    with pytest.raises(UsageError) as caught:
        Amount.parse(text)
    assert f"budget={text!r}" in str(caught.value)
    assert "2M, 8MB or 1%" in str(caught.value)


@st.composite
def shares(draw, cost=None):
    energies = draw(st.lists(st.floats(0.01, 10), min_size=1, max_size=4).map(lambda v: sorted(v)[::-1]))
    least = draw(st.integers(0, 1))
    return Share(np.array(energies), cost or draw(st.integers(1, 6)), least, len(energies))


def kept(parts, ranks):
    return sum(float(p.energies[:r].sum()) for p, r in zip(parts, ranks, strict=True))


def spent(parts, ranks):
    return sum(p.cost * r for p, r in zip(parts, ranks, strict=True))


def best(parts, budget):
    every = itertools.product(*(range(p.least, p.most + 1) for p in parts))
    return max((kept(parts, r) for r in every if spent(parts, r) <= budget), default=None)


@given(st.lists(shares(cost=3), min_size=1, max_size=4), st.integers(0, 50))
def test_with_equal_costs_the_distribution_is_as_good_as_brute_force(parts, budget):
    truth = best(parts, budget)
    if truth is None:
        with pytest.raises(UsageError, match="minimum ranks alone"):
            allocate(parts, budget)
        return
    ranks = allocate(parts, budget)
    assert spent(parts, ranks) <= budget
    assert all(p.least <= r <= p.most for p, r in zip(parts, ranks, strict=True))
    assert kept(parts, ranks) == pytest.approx(truth, rel=1e-12)  # sums in another order


@given(st.lists(shares(), min_size=1, max_size=4), st.integers(10, 50))
def test_with_unequal_costs_at_most_one_component_is_lost(parts, budget):
    truth = best(parts, budget)
    if truth is None:
        return
    ranks = allocate(parts, budget)
    assert spent(parts, ranks) <= budget
    refused = [float(p.energies[r]) for p, r in zip(parts, ranks, strict=True) if r < p.most]
    # A fractional budget would have added a part of the first component that did not fit.
    assert kept(parts, ranks) >= truth - max(refused, default=0.0) - 1e-9
    # No component that was left out would still fit.
    left = budget - spent(parts, ranks)
    assert all(p.cost > left for p, r in zip(parts, ranks, strict=True) if r < p.most)


@given(st.lists(shares(), min_size=1, max_size=4), st.integers(10, 50), st.integers(0, 20))
def test_with_equal_costs_a_larger_budget_keeps_at_least_as_much(parts, budget, more):
    parts = [Share(p.energies, 3, 0, p.most) for p in parts]
    assert kept(parts, allocate(parts, budget + more)) >= kept(parts, allocate(parts, budget)) - 1e-12


@given(st.lists(shares(), min_size=1, max_size=4), st.integers(10, 60), st.integers(2, 3))
def test_a_distribution_respects_multiples(parts, budget, multiple):
    parts = [Share(p.energies, p.cost, 0, p.most) for p in parts]
    ranks = allocate(parts, budget, multiple)
    assert spent(parts, ranks) <= budget
    assert all(r % multiple == 0 or r == p.most for p, r in zip(parts, ranks, strict=True))


def test_a_distribution_computed_by_hand():
    # Energy per parameter: 9/10 (first tensor), 4/5 and 3/5 (second), 1/10 (first).
    parts = [Share(np.array([9.0, 1.0]), 10, 0, 2), Share(np.array([4.0, 3.0]), 5, 0, 2)]
    assert [allocate(parts, n) for n in (4, 9, 10, 15, 20, 30)] == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
        [1, 2],
        [2, 2],
    ]


def test_components_without_energy_are_not_added():
    assert allocate([Share(np.array([2.0, 0.0, 0.0]), 1, 0, 3)], 100) == [1]
