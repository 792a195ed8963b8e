"""Rules applied in turn to one store: how many tensors are factored again."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

import eckart
from eckart import FactorStore
from eckart.rank import rule_from
from eckart.store import decide, pool
from eckart.store.demands import whole_demands
from eckart.store.fill import fill
from eckart.store.sources import PairSources
from support.pairs import LINEAR, MATRICES, make_pair
from support.terminal import run

# Rules in an order in which later ones need sometimes more and sometimes less.
RULES = [
    {"rank": 4},
    {"energy": 0.5},
    {"energy": 0.9},
    {"energy": 0.7},
    {"energy": 0.9, "multiple_of": 8},
    {"energy": 0.5, "min_rank": 12},
    {"error": 0.1},
    {"knee": True},
    {"ratio": 20},
    {"noise_floor": True},
    {"budget": "20%"},
    {"budget": "60%"},
    {"budget": "60%", "uniform": True},
    {"energy": 0.95, "uniform": True},
    {"energy": 0.99},
    {"energy": 1.0},
]


@dataclass
class Passes:
    """The tensors that are factored, by command."""

    names: list[str]

    def of(self, command):
        self.names.clear()
        result = command()
        return result, Counter(self.names)


@pytest.fixture
def passes(monkeypatch):
    names = []
    real = pool.run_task

    def counted(task):
        names.append(task.name)
        return real(task)

    monkeypatch.setattr(pool, "run_task", counted)
    return Passes(names)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_a_store_of_inspect_serves_every_rule_up_to_its_ranks(tmp_path, passes, dtype):
    pair = make_pair(tmp_path, dtype, dtype, size=0.02)
    store = tmp_path / "store"
    eckart.inspect(*pair.paths, store=store)
    (large,) = (name for name in LINEAR if min(pair.before[name].shape) > 256)
    served = []
    for keywords in RULES:
        extraction, again = passes.of(
            lambda keywords=keywords: eckart.extract(
                *pair.paths, tmp_path / "out", store=store, overwrite=True, **keywords
            )
        )
        if max(extraction.plan.ranks.values()) <= 256:
            assert not again, keywords
            served.append(keywords)
        else:
            assert again == {large: 1}, keywords
            break  # now the store holds every component
    assert len(served) >= 9
    assert FactorStore.open(store).record(large).rank > 256


@pytest.mark.parametrize("kept", [1, 5, 20])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_what_ranks_do_not_suffice_for_is_factored_again_once(tmp_path, passes, kept, dtype):
    pair = make_pair(tmp_path, dtype, dtype, size=0.02)
    store = tmp_path / "store"
    eckart.inspect(*pair.paths, store=store, max_rank=kept)
    for keywords in RULES:
        held = {record.name: record.rank for record in FactorStore.open(store)}
        plan, again = passes.of(lambda keywords=keywords: eckart.plan(store, **keywords))
        missing = {name for name, rank in plan.ranks.items() if rank > held[name]}
        assert again == dict.fromkeys(missing, 1), keywords
        # The same rule, and one that needs less, factor nothing.
        _, again = passes.of(lambda keywords=keywords: eckart.plan(store, **keywords))
        assert not again, keywords
        _, again = passes.of(lambda: eckart.plan(store, energy=0.3))
        assert not again, keywords


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_a_store_of_singular_values_alone_is_factored_once_per_rule(tmp_path, passes, dtype):
    """The values that come with factors are those that were stored, so no rank moves by rounding."""
    pair = make_pair(tmp_path, dtype, dtype, size=0.02)
    sources = PairSources.open(*pair.paths)
    store = fill(sources, tmp_path / "store", whole_demands(sources, 0))
    before = {name: store.spectrum(name).values for name in MATRICES}
    for keywords in RULES:
        held = {record.name: record.rank for record in store}
        (store, plan), again = passes.of(
            lambda store=store, keywords=keywords: decide(store, rule_from(None, keywords))
        )
        missing = {name for name, rank in plan.ranks.items() if rank > held[name]}
        assert again == dict.fromkeys(missing, 1), keywords
    if dtype != "F64":
        for name in MATRICES:
            np.testing.assert_array_equal(store.spectrum(name).values, before[name])


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
@pytest.mark.parametrize("keywords", RULES, ids=str)
def test_a_fresh_pass_for_one_rule_factors_no_tensor_more_than_twice(tmp_path, passes, dtype, keywords):
    pair = make_pair(tmp_path, dtype, dtype, size=0.02)
    _, times = passes.of(
        lambda: eckart.extract(*pair.paths, tmp_path / "out", store=tmp_path / "store", **keywords)
    )
    most = 2 if "budget" in keywords or "uniform" in keywords else 1
    assert max(times.values()) <= most


@pytest.mark.parametrize("keywords", RULES, ids=str)
def test_a_store_of_another_rule_factors_no_tensor_again_and_again(tmp_path, passes, keywords):
    pair = make_pair(tmp_path, size=0.02)
    eckart.factor(*pair.paths, tmp_path / "store", rule=eckart.Energy(0.4))
    _, again = passes.of(lambda: eckart.plan(tmp_path / "store", **keywords))
    most = 3 if "budget" in keywords or "uniform" in keywords else 1
    assert max(again.values(), default=0) <= most


def test_inspect_says_how_far_the_kept_factors_reach(tmp_path):
    pair = make_pair(tmp_path)
    store = tmp_path / "store"
    summary = eckart.inspect(*pair.paths, store=store, max_rank=5)
    size = sum(file.stat().st_size for file in (store / "factors").iterdir())
    assert (summary.kept.rank, summary.kept.matrices, summary.kept.nbytes) == (5, 4, size)
    sigma = {name: pair.sigma(name) ** 2 for name in MATRICES}
    assert summary.kept.enough == sum(s[:5].sum() >= 0.9 * s.sum() for s in sigma.values())
    done = run("inspect", *pair.paths, "--store", store)
    assert (
        f"{store} keeps factors up to rank 5 ({size / 1000:.1f} kB), enough for 90 % of the energy in "
        f"{summary.kept.enough} of 4 matrices. A rule that needs a higher rank factors those tensors again; "
        "--max-rank keeps more." in done.err
    )
    done = run("inspect", *pair.paths, "--store", store, "--max-rank", "300")
    assert f"{store} keeps all components (" in done.err
    assert FactorStore.open(store).record(LINEAR[0]).rank == 260
    assert eckart.inspect(*pair.paths).kept is None


def test_inspect_keeps_256_components_in_a_new_store_and_what_there_is_in_an_old_one(tmp_path, passes):
    pair = make_pair(tmp_path)
    summary = eckart.inspect(*pair.paths, store=tmp_path / "new")
    assert summary.kept.rank == 256
    old = eckart.factor(*pair.paths, tmp_path / "old", max_rank=3)
    before = old.path.joinpath("manifest.json").read_bytes()
    summary, again = passes.of(lambda: eckart.inspect(*pair.paths, store=tmp_path / "old"))
    assert summary.kept.rank == 3 and not again
    assert old.path.joinpath("manifest.json").read_bytes() == before


def test_max_rank_of_inspect_needs_a_store(tmp_path):
    pair = make_pair(tmp_path)
    with pytest.raises(eckart.errors.UsageError, match="factors are kept in a store only"):
        eckart.inspect(*pair.paths, max_rank=5)
    with pytest.raises(eckart.errors.UsageError, match="expected a whole number of at least 1"):
        eckart.inspect(*pair.paths, store=tmp_path / "store", max_rank=0)
    done = run("inspect", *pair.paths, "--max-rank", "5")
    assert done.code == 2 and "Pass --store too" in done.err
    assert not (tmp_path / "store").exists()
