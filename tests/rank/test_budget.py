"""Budgets: what they parse to, and that no other division keeps more."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eckart.errors import UsageError
from eckart.rank import Budget
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
def test_what_a_budget_means(text, parameters):
    assert Budget.parse(text).parameters(base_parameters=1000, bytes_each=2) == parameters


@pytest.mark.parametrize("percent", range(1, 101))
def test_whole_percents_of_a_hundred(percent):
    assert Budget.parse(f"{percent}%").parameters(100, 2) == percent


def test_bytes_depend_on_the_dtype():
    budget = Budget.parse("8MB")
    assert [budget.parameters(0, n) for n in (1, 2, 4)] == [8_000_000, 4_000_000, 2_000_000]


@pytest.mark.parametrize(
    "text",
    ["", "M", "%", "2X", "2 M B", "-2M", "0", "0%", "0MB", "101%", "1%%", "two", "nan", "inf", "1e999",
     "2,000", "1_000", "0x10", "2M/s", True, None, -5, 0],
)  # fmt: skip
def test_garbage(text):
    with pytest.raises(UsageError) as caught:
        Budget.parse(text)
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
def test_equal_costs_are_divided_as_brute_force_does(parts, budget):
    truth = best(parts, budget)
    if truth is None:
        with pytest.raises(UsageError, match="least ranks alone"):
            allocate(parts, budget)
        return
    ranks = allocate(parts, budget)
    assert spent(parts, ranks) <= budget
    assert all(p.least <= r <= p.most for p, r in zip(parts, ranks, strict=True))
    assert kept(parts, ranks) == pytest.approx(truth, rel=1e-12)  # sums in another order


@given(st.lists(shares(), min_size=1, max_size=4), st.integers(10, 50))
def test_unequal_costs_lose_one_component_at_most(parts, budget):
    truth = best(parts, budget)
    if truth is None:
        return
    ranks = allocate(parts, budget)
    assert spent(parts, ranks) <= budget
    refused = [float(p.energies[r]) for p, r in zip(parts, ranks, strict=True) if r < p.most]
    # The component that no longer fitted is what a fractional budget would have bought.
    assert kept(parts, ranks) >= truth - max(refused, default=0.0) - 1e-9
    # Nothing that is left out would have fitted.
    left = budget - spent(parts, ranks)
    assert all(p.cost > left for p, r in zip(parts, ranks, strict=True) if r < p.most)


@given(st.lists(shares(), min_size=1, max_size=4), st.integers(10, 50), st.integers(0, 20))
def test_more_budget_never_keeps_less_when_costs_are_equal(parts, budget, more):
    parts = [Share(p.energies, 3, 0, p.most) for p in parts]
    assert kept(parts, allocate(parts, budget + more)) >= kept(parts, allocate(parts, budget)) - 1e-12


@given(st.lists(shares(), min_size=1, max_size=4), st.integers(10, 60), st.integers(2, 3))
def test_multiples(parts, budget, multiple):
    parts = [Share(p.energies, p.cost, 0, p.most) for p in parts]
    ranks = allocate(parts, budget, multiple)
    assert spent(parts, ranks) <= budget
    assert all(r % multiple == 0 or r == p.most for p, r in zip(parts, ranks, strict=True))


def test_by_hand():
    # Worth per parameter: a 9/10, b 4/5 then 3/5, a 1/10.
    parts = [Share(np.array([9.0, 1.0]), 10, 0, 2), Share(np.array([4.0, 3.0]), 5, 0, 2)]
    assert [allocate(parts, n) for n in (4, 9, 10, 15, 20, 30)] == [
        [0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 2],
    ]  # fmt: skip


def test_components_of_no_energy_are_not_bought():
    assert allocate([Share(np.array([2.0, 0.0, 0.0]), 1, 0, 3)], 100) == [1]
