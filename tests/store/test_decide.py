"""A plan is the same whatever the store held before, and only what is missing is factored again."""

import functools
import signal

import numpy as np
import pytest

import eckart
from eckart import Energy, FactorStore, Rank, factor
from eckart.linalg import Goal
from eckart.rank import rule_from
from eckart.store import decide, pool
from eckart.store.fill import fill as fill_store
from eckart.store.record import Demand
from eckart.store.sources import PairSources
from support.pairs import EPS, LINEAR, MATRICES, SMALL, SMALL_LINEAR, contents, make_pair, write_pair

RULES = {
    "rank": {"rank": 7},
    "rank beyond the smallest": {"rank": 40},
    "energy": {"energy": 0.9},
    "energy 1": {"energy": 1.0},
    "error": {"error": 0.2},
    "error 0": {"error": 0.0},
    "ratio": {"ratio": 5},
    "ratio 1": {"ratio": 1},
    "knee": {"knee": True},
    "noise floor": {"noise_floor": True},
    "budget in parameters": {"budget": 900},
    "budget in bytes": {"budget": "4kB"},
    "budget in per cent": {"budget": "30%"},
    "budget for everything": {"budget": "100%"},
    "energy, shaped": {"energy": 0.9, "min_rank": 3, "max_rank": 6, "multiple_of": 3},
    "energy, one rank": {"energy": 0.95, "uniform": True},
    "ratio, one rank": {"ratio": 5, "uniform": True},
    "knee, one rank": {"knee": True, "uniform": True},
    "budget, one rank": {"budget": "30%", "uniform": True},
    "budget, shaped": {"budget": "30%", "min_rank": 2, "max_rank": 9, "multiple_of": 2},
    "one tensor": {"energy": 0.99, "include": ["layers.1"]},
    "all but one": {"noise_floor": True, "exclude": ["layers.1"]},
    "many at least": {"energy": 0.1, "min_rank": 12},
}


@pytest.fixture(autouse=True)
def no_endless_loop():
    """`decide` goes round until the store knows enough: if it never does, fail instead of hanging."""

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


@pytest.mark.parametrize("wishes", RULES.values(), ids=RULES)
def test_a_store_filled_for_one_rule_plans_as_the_whole_spectrum_does(small, tmp_path, wishes):
    pair, whole = small
    expected = eckart.plan(whole, **wishes)
    rule = rule_from(None, wishes)
    store = factor(*pair.paths, tmp_path / "store", rule=rule)
    found = eckart.plan(store, rule)
    assert found.ranks == expected.ranks
    assert found.parameters == expected.parameters
    assert found.dense == expected.dense
    # Two routines of LAPACK: values alone, and values with vectors. They agree to eps sigma_1.
    assert found.energy == pytest.approx(expected.energy, abs=20 * EPS)
    again = FactorStore.open(tmp_path / "store")
    for name, rank in found.ranks.items():
        assert again.record(name).rank >= rank  # the factors to cut are there


@pytest.mark.parametrize("wishes", RULES.values(), ids=RULES)
def test_a_store_that_left_tensors_out_plans_as_the_whole_spectrum_does(small, tmp_path, wishes):
    """Of what the first rule excluded not one singular value is known."""
    pair, whole = small
    for given in ("layers.1", "layers"):
        first = Rank(1, exclude=[given])
        store = factor(*pair.paths, tmp_path / given, rule=first)
        assert min(len(store.spectrum(name)) for name in SMALL_LINEAR) == 0
        expected = eckart.plan(whole, **wishes)
        assert eckart.plan(store, **wishes).ranks == expected.ranks


@pytest.mark.parametrize("wishes", RULES.values(), ids=RULES)
def test_a_second_plan_factors_nothing(small, tmp_path, passes, wishes):
    pair, _ = small
    rule = rule_from(None, wishes)
    store, first = decide(factor(*pair.paths, tmp_path / "store", rule=rule), rule)
    before = contents(store.path)
    passes.clear()
    said = []
    for again in (store, FactorStore.open(store.path)):
        assert decide(again, rule, notify=said.append)[1] == first
    assert passes == [] and said == []
    assert contents(store.path) == before


def test_the_whole_store_answers_every_rule_without_a_pass(small, passes):
    _, whole = small
    before = contents(whole.path)
    for wishes in RULES.values():
        eckart.plan(whole, **wishes)
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
            assert rank == 1 + int(np.argmax(kept >= energy))  # 1/i: no step lies near a target


def test_only_the_tensors_that_need_more_are_factored_again(tmp_path, passes):
    pair = make_pair(tmp_path, shapes=SMALL)
    store = factor(*pair.paths, tmp_path / "store", max_rank=31)
    # min(m, n) is 30 and 33 of the two linear layers: the first holds all there is.
    first, second = sorted(SMALL_LINEAR, key=lambda name: min(SMALL[name]))
    passes.clear()
    said = []
    store, plan = decide(store, Rank(33), notify=said.append)
    assert passes == [second]
    assert plan.ranks == {first: 30, second: 33}
    (words,) = said
    assert "factoring 1 of 2 tensors again" in words and second in words


def test_what_was_known_is_not_forgotten(tmp_path, passes):
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
    # every vector and the embedding are as they were
    assert [r for r in store if r.name not in LINEAR] == [
        r for r in expected.values() if r.name not in LINEAR
    ]


@pytest.mark.parametrize("first", [{"rank": 1}, {"rank": 40}], ids=["from little", "from all values"])
def test_each_rule_in_turn_on_one_store(small, tmp_path, first):
    pair, whole = small
    store = factor(*pair.paths, tmp_path / "store", rule=rule_from(None, first))
    for wishes in RULES.values():
        store, found = decide(store, rule_from(None, wishes))
        assert found.ranks == eckart.plan(whole, **wishes).ranks, wishes


def test_the_noise_floor_is_computed_where_all_values_are_known(tmp_path):
    pair = make_pair(tmp_path, "BF16", "BF16", shapes=SMALL, size=0.02)
    expected = eckart.plan(factor(*pair.paths, tmp_path / "whole"), noise_floor=True)
    store = factor(*pair.paths, tmp_path / "store", rule=Rank(99))
    found = eckart.plan(store, noise_floor=True)
    assert all("not computed" not in reason for reason in found.reasons.values())
    assert found.ranks == expected.ranks


def test_a_rule_on_a_store_of_values_alone(tmp_path, passes):
    pair = make_pair(tmp_path, shapes=SMALL)
    sources = PairSources.open(*pair.paths)
    demands = {name: Demand(None, whole=True, noise=True) for name in MATRICES}
    store = fill_store(sources, tmp_path / "store", demands)
    assert all(r.rank == 0 and r.known == r.size for r in store)
    passes.clear()
    store, plan = decide(store, Energy(0.9))
    assert sorted(passes) == sorted(SMALL_LINEAR)
    for name, rank in plan.ranks.items():
        assert store.factors(name, rank).rank == rank
        assert store.spectrum(name).complete


def test_embeddings_are_planned_when_asked(small, passes):
    _, whole = small
    (table,) = set(MATRICES) & set(SMALL) - set(SMALL_LINEAR)
    assert table not in eckart.plan(whole, rank=2).ranks
    assert decide(whole, Rank(2), embeddings=True)[1].ranks[table] == 2
    assert passes == []


def test_large_tensors_reach_their_goal_from_a_store_that_holds_too_little(tmp_path):
    # 300 x 260: the approximate routes. The rank is proven by its factors; it may be above the least.
    pair = make_pair(tmp_path)
    (large,) = set(LINEAR) - set(SMALL)
    sigma = pair.sigma(large)
    total = (sigma**2).sum()
    store = factor(*pair.paths, tmp_path / "store", rule=Rank(2))
    for energy in (0.7, 0.9, 0.97):
        store, plan = decide(store, Energy(energy))
        rank = plan.ranks[large]
        found = store.factors(large, rank)
        wide = found.U.astype(np.float64) * found.s @ found.Vh.astype(np.float64)
        left = np.linalg.norm(pair.update(large) - wide) ** 2
        assert left <= (1 - energy) * total * (1 + 1e-5)  # the residual in float32
        least = 1 + int(np.argmax(np.cumsum(sigma**2) >= energy * total))
        low, high = store.record(large).rank_bounds
        assert low <= least <= rank
        assert high >= rank


def test_a_zero_update_needs_nothing(tmp_path, passes):
    same = np.random.default_rng(0).standard_normal((20, 10)).astype(np.float32)
    other = same + np.float32(1)
    pair = write_pair(tmp_path, {"a.weight": same, "b.weight": same}, {"a.weight": same, "b.weight": other})
    for i, wishes in enumerate(RULES.values()):
        rule = rule_from(None, {k: v for k, v in wishes.items() if k not in ("include", "exclude")})
        store = factor(*pair.paths, tmp_path / str(i), rule=rule)
        found = eckart.plan(store, rule)
        assert found.ranks["a.weight"] == 0
        assert found.ranks["b.weight"] >= (wishes != {"ratio": 1})  # no sigma is above sigma_1
        assert found.reasons["a.weight"] == "unchanged"
        assert store.spectrum("a.weight").total == 0


def test_a_rank_above_the_matrix_s_own_is_padded_with_zeros(tmp_path):
    # Rank 1 in 300 x 280, and eight are asked for: no component may be missing or wrong.
    zeros = np.zeros((300, 280), np.float32)
    one = np.outer(np.arange(300), np.ones(280)).astype(np.float32)
    pair = write_pair(tmp_path, {"a.weight": zeros}, {"a.weight": one})
    rule = Rank(8)
    store, plan = decide(factor(*pair.paths, tmp_path / "store", rule=rule), rule)
    assert plan.ranks == {"a.weight": 8}
    found = store.factors("a.weight", 8)
    sigma = np.linalg.norm(one.astype(np.float64))
    assert found.s[0] == pytest.approx(sigma, rel=20 * EPS)
    assert np.abs(found.s[1:]).max() <= 20 * EPS * sigma


def test_a_demand_is_met_or_not():
    from eckart.store import TensorRecord

    known = TensorRecord(
        "a", "linear", (9, 7), "F32", "F32", 0, 4.0, 9.0, 0.0, known=5, size=7, rank=3,
        goal=Goal("energy", 0.9),
    )  # fmt: skip
    assert known.meets(Demand())
    assert known.meets(Demand(Goal("rank", 3)))
    assert not known.meets(Demand(Goal("rank", 4)))
    assert known.meets(Demand(Goal("energy", 0.9)))
    assert not known.meets(Demand(Goal("energy", 0.91)))
    assert not known.meets(Demand(whole=True))
    assert not known.meets(Demand(noise=True))
    assert known.relative == pytest.approx(2 / 3, rel=1e-15)
