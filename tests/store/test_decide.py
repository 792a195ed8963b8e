"""A plan is the same whatever the store held before, and only what is missing is factored again."""

import functools
import signal

import numpy as np
import pytest

import eckart
from eckart import Energy, FactorStore, Rank, factor
from eckart.checkpoint.kinds import Kind
from eckart.linalg import Goal
from eckart.rank import rule_from
from eckart.store import TensorRecord, decide, pool
from eckart.store.fill import fill
from eckart.store.record import Demand
from eckart.store.sources import PairSources
from support.pairs import EPS, LINEAR, MATRICES, SMALL, SMALL_LINEAR, contents, make_pair, write_pair
from support.rules import one_of_each

RULES = {
    **one_of_each(rank=7, error=0.2),
    "rank beyond the smallest": {"rank": 40},
    "energy 1": {"energy": 1.0},
    "error 0": {"error": 0.0},
    "ratio 1": {"ratio": 1},
    "budget in parameters": {"budget": 900},
    "budget in bytes": {"budget": "4kB"},
    "budget for everything": {"budget": "100%"},
    "energy with bounds": {"energy": 0.9, "min_rank": 3, "max_rank": 6, "multiple_of": 3},
    "energy, uniform": {"energy": 0.95, "uniform": True},
    "ratio, uniform": {"ratio": 5, "uniform": True},
    "knee, uniform": {"knee": True, "uniform": True},
    "budget, uniform": {"budget": "30%", "uniform": True},
    "budget with bounds": {"budget": "30%", "min_rank": 2, "max_rank": 9, "multiple_of": 2},
    "include one layer": {"energy": 0.99, "include": ["layers.1"]},
    "exclude one layer": {"noise_floor": True, "exclude": ["layers.1"]},
    "large minimum rank": {"energy": 0.1, "min_rank": 12},
}


@pytest.fixture(autouse=True)
def no_endless_loop():
    """`decide` repeats until the store holds enough. If it never does, fail instead of hanging."""

    def stop(number, frame):
        raise AssertionError("no plan after 30 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", params=["F32", "BF16", "F64"])
def small(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    pair = make_pair(folder, request.param, request.param, shapes=SMALL, size=0.02)
    return pair, factor(*pair.paths, folder / "whole")


@pytest.fixture
def passes(monkeypatch):
    """Names of the tensors that are factored, in the order in which they start."""
    names = []
    real = pool.run_task

    @functools.wraps(real)
    def counted(task):
        names.append(task.name)
        return real(task)

    monkeypatch.setattr(pool, "run_task", counted)
    return names


@pytest.mark.parametrize("keywords", RULES.values(), ids=RULES)
def test_a_store_filled_for_one_rule_gives_the_plan_of_the_full_store(small, tmp_path, keywords):
    pair, whole = small
    expected = eckart.plan(whole, **keywords)
    rule = rule_from(None, keywords)
    store = factor(*pair.paths, tmp_path / "store", rule=rule)
    plan = eckart.plan(store, rule)
    assert plan.ranks == expected.ranks
    assert plan.parameters == expected.parameters
    assert plan.dense == expected.dense
    # LAPACK's routines for values alone and for values with vectors agree to eps sigma_1.
    assert plan.energy == pytest.approx(expected.energy, abs=20 * EPS)
    reopened = FactorStore.open(tmp_path / "store")
    for name, rank in plan.ranks.items():
        assert reopened.record(name).rank >= rank  # the store holds the factors that the plan needs


@pytest.mark.parametrize("keywords", RULES.values(), ids=RULES)
def test_a_store_filled_without_some_tensors_gives_the_plan_of_the_full_store(small, tmp_path, keywords):
    """No singular value of the tensors that the first rule excludes is known."""
    pair, whole = small
    for excluded in ("layers.1", "layers"):
        first = Rank(1, exclude=[excluded])
        store = factor(*pair.paths, tmp_path / excluded, rule=first)
        assert min(len(store.spectrum(name)) for name in SMALL_LINEAR) == 0
        expected = eckart.plan(whole, **keywords)
        assert eckart.plan(store, **keywords).ranks == expected.ranks


@pytest.mark.parametrize("keywords", RULES.values(), ids=RULES)
def test_a_second_plan_factors_nothing(small, tmp_path, passes, keywords):
    pair, _ = small
    rule = rule_from(None, keywords)
    store, first = decide(factor(*pair.paths, tmp_path / "store", rule=rule), rule)
    before = contents(store.path)
    passes.clear()
    messages = []
    for same_store in (store, FactorStore.open(store.path)):
        assert decide(same_store, rule, notify=messages.append)[1] == first
    assert passes == [] and messages == []
    assert contents(store.path) == before


def test_a_full_store_plans_every_rule_without_a_pass(small, passes):
    _, whole = small
    before = contents(whole.path)
    for keywords in RULES.values():
        eckart.plan(whole, **keywords)
    assert passes == []
    assert contents(whole.path) == before


def test_ranks_are_those_of_numpy(small):
    pair, whole = small
    for energy in (0.5, 0.9, 0.99):
        ranks = eckart.plan(whole, energy=energy).ranks
        assert set(ranks) == set(SMALL_LINEAR)
        for name, rank in ranks.items():
            kept = np.cumsum(pair.sigma(name) ** 2)
            kept /= kept[-1]
            assert rank == 1 + int(np.argmax(kept >= energy))  # for sigma_i = 1/i no step is near a target


def test_only_the_tensors_that_need_more_are_factored_again(tmp_path, passes):
    pair = make_pair(tmp_path, shapes=SMALL)
    store = factor(*pair.paths, tmp_path / "store", max_rank=31)
    # min(m, n) of the two linear layers is 30 and 33, so all components of the first are stored.
    first, second = sorted(SMALL_LINEAR, key=lambda name: min(SMALL[name]))
    passes.clear()
    messages = []
    store, plan = decide(store, Rank(33), notify=messages.append)
    assert passes == [second]
    assert plan.ranks == {first: 30, second: 33}
    assert messages == [f"factoring 1 of 2 tensors again, to a higher rank: {second}"]


def test_factoring_again_keeps_what_was_known(tmp_path, passes):
    pair = make_pair(tmp_path)
    whole = factor(*pair.paths, tmp_path / "store", max_rank=3)
    expected = {r.name: r for r in whole}
    spectra = {name: whole.spectrum(name).values for name in MATRICES}
    passes.clear()
    store, _ = decide(whole, Rank(10))
    assert sorted(passes) == sorted(LINEAR)
    for name in MATRICES:
        old, new = expected[name], store.record(name)
        assert new.noise_floor == old.noise_floor
        assert new.known == old.known == new.size
        assert new.energy == old.energy
        assert new.rank == (10 if name in LINEAR else 3)
        tolerance = 20 * EPS * spectra[name][0]
        np.testing.assert_allclose(store.spectrum(name).values, spectra[name], rtol=0, atol=tolerance)
    # Every vector and the embedding table are unchanged.
    assert [r for r in store if r.name not in LINEAR] == [
        r for r in expected.values() if r.name not in LINEAR
    ]


@pytest.mark.parametrize(
    "first", [{"rank": 1}, {"rank": 40}], ids=["from one component", "from every component"]
)
def test_rules_applied_in_turn_to_one_store_give_the_plans_of_the_full_store(small, tmp_path, first):
    pair, whole = small
    store = factor(*pair.paths, tmp_path / "store", rule=rule_from(None, first))
    for keywords in RULES.values():
        store, plan = decide(store, rule_from(None, keywords))
        assert plan.ranks == eckart.plan(whole, **keywords).ranks, keywords


def test_a_missing_noise_floor_is_computed_although_all_values_are_known(tmp_path):
    pair = make_pair(tmp_path, "BF16", "BF16", shapes=SMALL, size=0.02)
    expected = eckart.plan(factor(*pair.paths, tmp_path / "whole"), noise_floor=True)
    store = factor(*pair.paths, tmp_path / "store", rule=Rank(99))
    plan = eckart.plan(store, noise_floor=True)
    assert all("not computed" not in reason for reason in plan.reasons.values())
    assert plan.ranks == expected.ranks


def test_a_store_of_singular_values_alone_gets_the_factors_that_a_rule_needs(tmp_path, passes):
    pair = make_pair(tmp_path, shapes=SMALL)
    sources = PairSources.open(*pair.paths)
    demands = {name: Demand(None, whole=True, noise=True) for name in MATRICES}
    store = fill(sources, tmp_path / "store", demands)
    assert all(r.rank == 0 and r.known == r.size for r in store)
    passes.clear()
    store, plan = decide(store, Energy(0.9))
    assert sorted(passes) == sorted(SMALL_LINEAR)
    for name, rank in plan.ranks.items():
        assert store.factors(name, rank).rank == rank
        assert store.spectrum(name).complete


def test_embeddings_are_planned_only_on_request(small, passes):
    _, whole = small
    (table,) = set(MATRICES) & set(SMALL) - set(SMALL_LINEAR)
    assert table not in eckart.plan(whole, rank=2).ranks
    assert decide(whole, Rank(2), embeddings=True)[1].ranks[table] == 2
    assert passes == []


def test_a_large_tensor_reaches_its_goal_from_a_store_with_too_few_components(tmp_path):
    # A tensor of 300 x 260 takes the approximate routes. Its factors prove that the rank is sufficient, but
    # it may be above the least.
    pair = make_pair(tmp_path)
    (large,) = set(LINEAR) - set(SMALL)
    sigma = pair.sigma(large)
    total = (sigma**2).sum()
    store = factor(*pair.paths, tmp_path / "store", rule=Rank(2))
    for energy in (0.7, 0.9, 0.97):
        store, plan = decide(store, Energy(energy))
        rank = plan.ranks[large]
        factors = store.factors(large, rank)
        wide = factors.U.astype(np.float64) * factors.s @ factors.Vh.astype(np.float64)
        left = np.linalg.norm(pair.update(large) - wide) ** 2
        assert left <= (1 - energy) * total * (1 + 1e-5)  # the residual is measured in float32
        least = 1 + int(np.argmax(np.cumsum(sigma**2) >= energy * total))
        low, high = store.record(large).rank_bounds
        assert low <= least <= rank
        assert high >= rank


def test_a_zero_update_gets_rank_0(tmp_path):
    same = np.random.default_rng(0).standard_normal((20, 10)).astype(np.float32)
    other = same + np.float32(1)
    pair = write_pair(tmp_path, {"a.weight": same, "b.weight": same}, {"a.weight": same, "b.weight": other})
    for i, keywords in enumerate(RULES.values()):
        rule = rule_from(None, {k: v for k, v in keywords.items() if k not in ("include", "exclude")})
        store = factor(*pair.paths, tmp_path / str(i), rule=rule)
        plan = eckart.plan(store, rule)
        assert plan.ranks["a.weight"] == 0
        assert (plan.ranks["b.weight"] > 0) == (keywords != {"ratio": 1})  # no sigma is above sigma_1
        assert plan.reasons["a.weight"] == "unchanged"
        assert store.spectrum("a.weight").total == 0


def test_components_beyond_the_rank_of_the_matrix_are_zero(tmp_path):
    # Eight components are requested of a 300 x 280 matrix of rank 1. None may be missing or wrong.
    zeros = np.zeros((300, 280), np.float32)
    one = np.outer(np.arange(300), np.ones(280)).astype(np.float32)
    pair = write_pair(tmp_path, {"a.weight": zeros}, {"a.weight": one})
    rule = Rank(8)
    store, plan = decide(factor(*pair.paths, tmp_path / "store", rule=rule), rule)
    assert plan.ranks == {"a.weight": 8}
    factors = store.factors("a.weight", 8)
    sigma = np.linalg.norm(one.astype(np.float64))
    assert factors.s[0] == pytest.approx(sigma, rel=20 * EPS)
    assert np.abs(factors.s[1:]).max() <= 20 * EPS * sigma


def test_a_record_meets_the_demands_that_it_covers():
    known = TensorRecord(
        name="a",
        kind=Kind.LINEAR,
        shape=(9, 7),
        base_dtype="F32",
        tuned_dtype="F32",
        new_rows=0,
        energy=4.0,
        base_energy=9.0,
        unchanged=0.0,
        known=5,
        size=7,
        rank=3,
        goal=Goal("energy", 0.9),
    )
    assert known.meets(Demand())
    assert known.meets(Demand(Goal("rank", 3)))
    assert not known.meets(Demand(Goal("rank", 4)))
    assert known.meets(Demand(Goal("energy", 0.9)))
    assert not known.meets(Demand(Goal("energy", 0.91)))
    assert not known.meets(Demand(whole=True))
    assert not known.meets(Demand(noise=True))
    assert known.relative == pytest.approx(2 / 3, rel=1e-15)
