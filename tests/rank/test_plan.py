"""Plans: every rule on a model of a few layers, with all singular values known and with only some."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eckart import Spectrum
from eckart.errors import UsageError
from eckart.linalg import Goal
from eckart.rank import Budget, Candidate, Energy, Knee, NoiseFloor, Rank, RankPlan, make_plan, rule_from
from support.matrices import DECAYS, least_rank
from support.rules import one_of_each

SIGMA = {
    "q": DECAYS["1/i"](30),
    "k": 0.3 * DECAYS["i^-0.5"](12),
    "v": 2.0 * DECAYS["exp(-i/20)"](30),
    "up": DECAYS["spikes"](40) / 10,
    "down": DECAYS["ties"](40),
    "still": np.zeros(30),
}
SHAPE = {"q": (30, 30), "k": (12, 30), "v": (30, 30), "up": (90, 40), "down": (40, 90), "still": (30, 30)}
FLOOR = 0.05


def layers(known=None):
    """Return the model as candidates, with the leading ``known[name]`` values of each tensor, or all."""
    candidates = []
    for name, sigma in SIGMA.items():
        k = len(sigma) if known is None else known[name]
        part = Spectrum(sigma[:k], float((sigma[k:] ** 2).sum()), len(sigma))
        candidates.append(Candidate(name, SHAPE[name], part, FLOOR))
    return candidates


def pooled_energy(ranks):
    kept = sum(float((SIGMA[n][:r] ** 2).sum()) for n, r in ranks.items())
    return kept / sum(float((SIGMA[n] ** 2).sum()) for n in ranks)


RULE_KEYWORDS = [
    *one_of_each(ratio=4.5, budget="2000").values(),
    {"rank": 25},
    {"energy": 0.5},
    {"energy": 0.99},
    {"budget": "3k"},
    {"budget": "5%"},
    {"budget": "4kB"},
]
BOUNDS = [
    {},
    {"min_rank": 3},
    {"max_rank": 6},
    {"multiple_of": 4},
    {"multiple_of": 4, "max_rank": 10},
    {"min_rank": 2, "max_rank": 9, "multiple_of": 3},
    {"exclude": ("up", "q")},
]


def every_rule():
    for rule in RULE_KEYWORDS:
        for bounds in BOUNDS:
            for uniform in (False, True):
                yield {**rule, **bounds, "uniform": uniform}


ALL = pytest.mark.parametrize(
    "keywords", list(every_rule()), ids=lambda keywords: " ".join(f"{k}={v}" for k, v in keywords.items())
)
BASE = 100_000


def plan_of(keywords, known=None):
    return make_plan(layers(known), rule_from(None, keywords), base_parameters=BASE, bytes_each=2)


@ALL
def test_the_totals_of_a_plan_follow_from_its_ranks(keywords):
    rule, plan = rule_from(None, keywords), plan_of(keywords)
    assert list(plan.ranks) == list(plan.reasons) == [n for n in SIGMA if rule.selects(n)]
    assert not plan.undecided
    assert plan.rule == rule.describe()
    assert plan.parameters == sum(r * sum(SHAPE[n]) for n, r in plan.ranks.items())
    assert plan.energy == pytest.approx(pooled_energy(plan.ranks), rel=1e-12)
    assert plan.error == pytest.approx(np.sqrt(1 - pooled_energy(plan.ranks)), abs=1e-6)
    assert plan.ranks["still"] == 0 and plan.reasons["still"] == "unchanged"
    too_large = {n for n, r in plan.ranks.items() if r and r * sum(SHAPE[n]) >= np.prod(SHAPE[n])}
    assert set(plan.dense) == too_large
    assert all(isinstance(r, int) for r in plan.ranks.values())


@ALL
def test_bounds_and_multiples_are_respected(keywords):
    plan = plan_of(keywords)
    for name, rank in plan.ranks.items():
        if name == "still":
            continue
        size = len(SIGMA[name])
        assert min(keywords.get("min_rank", 0), size) <= rank <= min(keywords.get("max_rank", size), size)
        assert rank % keywords.get("multiple_of", 1) == 0 or rank == size
    if keywords["uniform"]:
        largest = max(plan.ranks.values())
        assert all(r in (0, min(largest, len(SIGMA[n]))) for n, r in plan.ranks.items())
    if "budget" in keywords:
        limit = {"2000": 2000, "3k": 3000, "5%": 5000, "4kB": 2000}[keywords["budget"]]
        assert plan.parameters <= limit


@ALL
def test_planning_from_leading_values_ends_in_the_same_plan(keywords):
    """Plan with one value of each tensor, and add the values that the plan needs until it needs no more."""
    final = plan_of(keywords)
    known = dict.fromkeys(SIGMA, 1)
    for _ in range(60):
        plan = plan_of(keywords, known)
        if not plan.undecided:
            break
        before = dict(known)
        for name, goal in plan.undecided.items():
            need = Spectrum(SIGMA[name]).rank_for(goal)
            if goal.kind in ("ratio", "above"):
                need += 1  # the first value below the threshold must be known too
            assert isinstance(need, int)
            known[name] = max(known[name], min(need, len(SIGMA[name])))
        assert known != before, f"the plan asks for values that are known already: {plan.undecided}"
    assert not plan.undecided
    assert plan.ranks == final.ranks
    assert plan.energy == pytest.approx(final.energy, rel=1e-12)
    # No tensor is undecided once all its values are known.
    assert not plan_of(keywords, {n: len(s) for n, s in SIGMA.items()}).undecided


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_each_tensor_gets_the_least_rank_for_its_energy(energy):
    plan = plan_of({"energy": energy})
    for name, rank in plan.ranks.items():
        assert rank == (least_rank(SIGMA[name], energy) if name != "still" else 0)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_a_uniform_rank_is_the_smallest_that_all_tensors_together_need(energy):
    plan = plan_of({"energy": energy, "uniform": True})
    rank = max(plan.ranks.values())
    assert plan.energy >= energy - 1e-12
    fewer = {n: min(rank - 1, len(s)) for n, s in SIGMA.items()}
    assert pooled_energy(fewer) < energy
    assert plan_of({"error": np.sqrt(1 - energy), "uniform": True}).ranks == plan.ranks


def test_a_uniform_threshold_uses_the_largest_rank_of_any_tensor():
    each, one = plan_of({"ratio": 4.5}), plan_of({"ratio": 4.5, "uniform": True})
    assert max(one.ranks.values()) == max(each.ranks.values())


def test_a_threshold_counts_the_values_above_it():
    for keywords, bar in (({"ratio": 4.5}, None), ({"noise_floor": True}, FLOOR)):
        for name, rank in plan_of(keywords).ranks.items():
            limit = bar or SIGMA[name][0] / 4.5
            assert rank == int((SIGMA[name] > limit).sum())


def test_a_tensor_without_a_knee_gets_the_rank_of_95_percent():
    plan = plan_of({"knee": True})
    for name in set(SIGMA) - {"still"}:
        s = Spectrum(SIGMA[name])
        assert plan.ranks[name] == (s.knee() or s.rank_at_energy(0.95))
    flat = [Candidate("flat", (20, 20), Spectrum(np.ones(20)))]
    assert make_plan(flat, Knee()).ranks == {"flat": 19}
    assert "no knee" in make_plan(flat, Knee()).reasons["flat"]


def test_a_rank_past_break_even_is_reported_and_kept():
    plan = plan_of({"rank": 25})
    assert "q" in plan.dense and "up" not in plan.dense  # 30 x 30 breaks even at 15, 90 x 40 at 28
    assert "from rank 15 on, a dense update is no larger" in plan.reasons["q"]
    assert plan.ranks["q"] == 25


@pytest.mark.parametrize(("shape", "rank"), [((30, 30), 15), ((90, 40), 28), ((1, 5), 1), ((2, 2), 1)])
def test_factors_are_no_smaller_than_the_dense_update_from_the_break_even_rank(shape, rank):
    c = Candidate("x", shape, Spectrum([1.0]))
    assert c.break_even == rank
    assert rank * c.cost >= shape[0] * shape[1] > (rank - 1) * c.cost


def test_the_reason_mentions_the_bounds():
    plan = plan_of({"energy": 0.99, "max_rank": 2})
    assert "changed from 12 to 2 by the bounds" in plan.reasons["k"]


@pytest.mark.parametrize("keywords", [{"energy": 0.9}, {"budget": "3k"}, {"rank": 25}], ids=str)
def test_a_plan_survives_json(keywords):
    plan = plan_of(keywords)
    again = RankPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan


def test_an_undecided_plan_is_refused_by_to_json():
    plan = plan_of({"energy": 0.9}, dict.fromkeys(SIGMA, 1))
    assert plan.undecided
    with pytest.raises(UsageError, match="the rank of 5 tensors is not decided yet"):
        plan.to_json()


GOOD = {
    "format": 1,
    "ranks": {"a": 2},
    "reasons": {"a": "so"},
    "rule": "rank 2",
    "parameters": 8,
    "energy": 0.5,
    "dense": [],
}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"ranks": {"a": -1}},
        {"ranks": {"a": 1.5}},
        {"ranks": {"a": "2"}},
        {"ranks": [2]},
        {"ranks": {"a": float("inf")}},
        {"ranks": {"a": None}},
        {"reasons": None},
        {"parameters": "many"},
        {"energy": None},
        {"dense": None},
    ],
    ids=str,
)
def test_invalid_plan_file_is_refused(change):
    assert RankPlan.from_json(GOOD).ranks == {"a": 2}
    with pytest.raises(UsageError, match=r"^`plan.json(: \w+(\.a|\[0\])?)?`: expected"):
        RankPlan.from_json({**GOOD, **change}, where="plan.json")


@pytest.mark.parametrize("missing", ["format", "ranks", "reasons", "rule", "parameters", "energy", "dense"])
def test_plan_file_without_a_field_is_refused(missing):
    with pytest.raises(UsageError, match="expected"):
        RankPlan.from_json({k: v for k, v in GOOD.items() if k != missing})


@pytest.mark.parametrize("data", [None, [], "plan", 3])
def test_data_that_is_not_a_plan_is_refused(data):
    with pytest.raises(UsageError, match="`plan`: the plan: expected an object, found"):
        RankPlan.from_json(data)


@pytest.mark.parametrize(
    ("keywords", "parts"),
    [
        ({"energy": 0.9, "include": ("nothing",)}, ["include=['nothing']", "q, k"]),
        ({"budget": "10"}, ["budget='10'", "at least 42"]),
        ({"budget": "100", "min_rank": 2}, ["budget of 100", "minimum ranks", "min_rank"]),
        ({"budget": "1000", "min_rank": 8, "uniform": True}, ["budget='1000'", "minimum ranks alone"]),
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_met_is_refused(keywords, parts):
    with pytest.raises(UsageError) as caught:
        plan_of(keywords)
    for part in parts:
        assert part in str(caught.value)


def test_the_smallest_budget_holds_one_component():
    assert {n: r for n, r in plan_of({"budget": "42"}).ranks.items() if r} == {"k": 1}


def test_a_model_without_tensors_is_refused():
    with pytest.raises(UsageError, match="no tensor that an adapter could hold"):
        make_plan([], Rank(1))


def test_an_unchanged_model_gets_rank_0():
    still = [Candidate("a", (4, 4), Spectrum(np.zeros(4))), Candidate("b", (4, 4), Spectrum(np.zeros(4)))]
    for keywords in (
        {"rank": 2},
        {"energy": 0.9},
        {"energy": 0.9, "uniform": True},
        {"budget": "100"},
        {"budget": "100", "uniform": True},
        {"knee": True, "min_rank": 2},
    ):
        plan = make_plan(still, rule_from(None, keywords))
        assert plan.ranks == {"a": 0, "b": 0}
        assert (plan.parameters, plan.energy, plan.error) == (0, 1.0, 0.0)


def test_a_tensor_without_a_noise_floor_is_undecided():
    plan = make_plan([Candidate("a", (3, 3), Spectrum([3.0], 5.0, 3))], NoiseFloor())
    assert plan.undecided == {"a": Goal("full")}


def test_a_complete_spectrum_decides_any_energy():
    """What remains beyond a complete spectrum is rounding, which no factorization can reduce."""
    c = Candidate("a", (4, 4), Spectrum([3.0, 2.0, 1.0, 0.5], 1e-6, 4))
    plan = make_plan([c], Energy(1.0))
    assert plan.ranks == {"a": 4}
    assert not plan.undecided


@given(st.integers(0, 10**6), st.integers(50, 2000))
def test_a_budget_keeps_at_least_the_energy_of_one_rank_for_all(seed, budget):
    random = np.random.default_rng(seed)
    model = [
        Candidate(f"{i}", (20, 20), Spectrum(np.sort(random.lognormal(0, 2, 20))[::-1])) for i in range(4)
    ]
    best = make_plan(model, Budget(budget))
    assert best.parameters <= budget
    if budget >= 160:  # one component of 40 parameters for each of four tensors
        one = make_plan(model, Budget(budget, uniform=True))
        assert one.parameters <= budget
        # Costs are equal, so the distribution is optimal, and the even one is among its rivals.
        assert best.energy >= one.energy - 1e-12


def test_a_uniform_budget_respects_every_bound():
    layers = [Candidate(name, (40, 30), Spectrum(np.arange(30.0, 0.0, -1.0))) for name in "ab"]
    rule = Budget("2000", uniform=True, multiple_of=2, max_rank=3)
    assert set(make_plan(layers, rule).ranks.values()) == {2}


def test_the_repr_of_a_plan_is_one_short_line():
    plan = RankPlan({"a": 4, "b": 1}, {}, "rank 4", 1448, 0.75)
    assert repr(plan) == (
        "<RankPlan rank 4: 2 tensors, ranks 1 to 4 (median 4), 1,448 parameters, energy 75.0%, error 0.5000>"
    )
    assert repr(RankPlan({"a": 4}, {}, "rank 4", 8, 1.0)).startswith("<RankPlan rank 4: 1 tensor, rank 4, ")
    undecided = RankPlan({"a": 4}, {}, "energy 0.9", 8, 1.0, undecided={"a": Goal("energy", 0.9)})
    assert repr(undecided).endswith(", 1 tensor undecided>")


def test_notebooks_show_a_plan_as_a_table_with_escaped_names():
    plan = RankPlan({"<b>": 2, "c": 0}, {"<b>": "a & b"}, "rank 2", 8, 0.5)
    html = plan._repr_html_()
    assert "<tr><td>&lt;b&gt;</td><td>2</td><td>a &amp; b</td></tr>" in html
    assert "<tr><td>c</td><td>0</td><td></td></tr>" in html
    assert "rank 2: 2 tensors, ranks 0 to 2 (median 2), 8 parameters" in html
