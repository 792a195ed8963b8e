"""The recommender at the size of MovieLens-100k, on made-up ratings whose noise floor is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_info, threadpool_limits

from eckart.applications.completion.choose import Setting
from eckart.applications.completion.entries import Entries
from eckart.applications.ratings import Ratings
from eckart.applications.recommender import Recommender, fit
from eckart.applications.simulate import simulate_ratings
from eckart.errors import CheckpointError, RatingsError, UsageError
from support.dense import mean_filled_svd


def parts(made, seed=0):
    """Return what `fit` keeps and holds out, and the truth of the latter."""
    r = made.ratings
    entries = Entries.of(r.users, r.items, r.values, r.shape)
    truth = Entries.of(r.users, r.items, made.truth, r.shape)
    return *entries.split(0.2, seed), truth.split(0.2, seed)[1].values


@pytest.fixture(scope="module")
def large():
    return simulate_ratings()


@pytest.fixture(scope="module")
def small():
    return simulate_ratings(users=120, items=150, ratings=4000, rank=2, noise=0.4, taste=0.9)


@pytest.fixture(scope="module")
def fitted(small):
    return fit(small.ratings, rank=2)


def test_the_simulation(large):
    r = large.ratings
    assert len(r) == 100_000 and r.shape == (942, 1649)  # of 943 x 1,682: the others got no rating
    noise = r.values - large.truth
    assert noise.std() == pytest.approx(0.85, rel=0.01)  # sqrt(2 / 100,000) of it is 0.4 %
    # Missing not at random: what is rated is liked more, for all biases and tastes are of mean 0.
    assert large.truth.mean() > 3.5 + 0.2


def test_the_simulation_does_not_depend_on_how_the_processor_parts(monkeypatch):
    """The kernels of `argpartition` for AVX2, AVX-512 and none leave the chosen in another order each."""
    made = simulate_ratings(users=120, items=150, ratings=4000)
    monkeypatch.setattr(np, "argpartition", lambda keys, kth: np.argsort(keys))
    again = simulate_ratings(users=120, items=150, ratings=4000)
    assert made.ratings.user_ids == again.ratings.user_ids
    assert np.array_equal(made.ratings.values, again.ratings.values)


@pytest.mark.parametrize(
    ("setting", "most"),
    [(Setting("als", 5, 0.13, 0.5), 1.11), (Setting("softimpute", 5, 0.2), 1.12)],
    ids=["als", "softimpute"],
)
def test_near_the_noise_floor_at_full_size(large, setting, most):
    kept, held, truth = parts(large)
    floor = float(np.sqrt(np.mean((held.values - truth) ** 2)))
    found = fit(large.ratings, setting=setting)
    # 80,000 ratings for 5 x 2,591 factors under a noise twice their size: the rest is what estimating costs.
    assert floor < found.rmse < most * floor
    assert found.rmse < 0.96 * found.measured.rmse_biases
    for by_column in (True, False):
        svd = mean_filled_svd(kept, held, (1, 2, 5, 10, 20), by_column)
        assert found.rmse < 0.93 * min(svd.values())
    assert found.measured.ratings == len(held) == 20_000


def test_the_choice_finds_low_rank_and_beats_everything_simpler(small, fitted):
    kept, held, truth = parts(small)
    floor = float(np.sqrt(np.mean((held.values - truth) ** 2)))
    assert floor < fitted.rmse < 1.25 * floor
    assert fitted.rmse < 0.7 * fitted.measured.rmse_biases < 0.7 * fitted.measured.rmse_mean
    for by_column in (True, False):
        assert fitted.rmse < min(mean_filled_svd(kept, held, range(1, 11), by_column).values()) * 0.8


@pytest.mark.parametrize(("rank", "taste"), [(1, 0.6), (3, 0.8)])
def test_the_rank_that_was_put_in_is_chosen(rank, taste):
    """Rank 1 beside noise of its own size: from rank 10 the errors are a plateau that leads away."""
    made = simulate_ratings(users=250, items=300, ratings=8000, rank=rank, noise=0.55, taste=taste)
    assert fit(made.ratings).setting.rank == rank


def test_without_taste_biases_alone_are_chosen_or_as_good():
    made = simulate_ratings(users=120, items=150, ratings=4000, taste=0.0, noise=0.5)
    found = fit(made.ratings)
    assert found.rmse <= 1.02 * found.measured.rmse_biases


def test_one_thread_whatever_there_are(small):
    """The products are thin: a second thread costs more than it gives, and another order of sums."""
    seen = set()

    def tell(setting, error):
        seen.update(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")

    with threadpool_limits(2, user_api="blas"):
        fit(small.ratings, "als", rank=1, tell=tell)
    assert seen == {1}


def test_the_stated_error_can_be_recomputed(small, fitted):
    kept, held, _ = parts(small)
    model = fitted.setting.complete(kept, 0)
    predicted = np.clip(model.at(held.rows, held.columns), kept.values.min(), kept.values.max())
    assert fitted.rmse == pytest.approx(np.sqrt(np.mean((predicted - held.values) ** 2)), rel=1e-12)
    mean = np.sqrt(np.mean((kept.values.mean() - held.values) ** 2))
    assert fitted.measured.rmse_mean == pytest.approx(mean, rel=1e-12)


def test_predictions_are_the_formula(fitted):
    model = fitted.model
    user, item = fitted.user_ids[3], fitted.item_ids[5]
    value = model.mean + model.row_bias[3] + model.column_bias[5] + model.P[3] @ model.Q[5]
    assert fitted.predict(user, item) == pytest.approx(np.clip(value, fitted.low, fitted.high), abs=1e-5)
    assert fitted.basis(user, item) == "the mean, both biases and the factors"


def test_top_leaves_out_what_is_rated(small, fitted):
    r = small.ratings
    for u in (0, 17, 99):
        rated = {r.item_ids[i] for i in r.items[r.users == u]}
        suggestions = fitted.top(r.user_ids[u], n=10_000)
        assert {s.item for s in suggestions} == set(r.item_ids) - rated
        values = [s.rating for s in suggestions]
        assert values == sorted(values, reverse=True)
        best = max(fitted.predict(r.user_ids[u], i) for i in set(r.item_ids) - rated)
        assert suggestions[0].rating == pytest.approx(best)
    assert len(fitted.top(r.user_ids[0], 3)) == 3


def test_who_and_what_is_unknown(fitted):
    item, user = fitted.item_ids[0], fitted.user_ids[0]
    assert fitted.predict("nobody", "nothing") == pytest.approx(fitted.model.mean)
    cold_user = fitted.model.mean + float(fitted.model.column_bias[0])
    assert fitted.predict("nobody", item) == pytest.approx(np.clip(cold_user, fitted.low, fitted.high))
    assert "user nobody has no rating" in fitted.basis("nobody", item)
    assert "item nothing has no rating" in fitted.basis(user, "nothing")
    assert "the mean of all ratings" in fitted.basis("nobody", "nothing")
    order = [fitted.item_ids[i] for i in np.argsort(-fitted.model.column_bias, kind="stable")]
    assert [s.item for s in fitted.top("nobody", 7)] == order[:7]


def test_deterministic(small, fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    fit(small.ratings, rank=2).save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    other = fit(small.ratings, rank=2, seed=1)
    assert other.rmse != fitted.rmse  # other ratings are held out


def test_saved_and_loaded(fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    back = Recommender.load(path)
    assert (back.setting, back.measured, back.notes) == (fitted.setting, fitted.measured, fitted.notes)
    for user in (*fitted.user_ids[:3], "nobody"):
        assert back.top(user, 20) == fitted.top(user, 20)
        assert back.predict(user, "5") == fitted.predict(user, "5")
    # Whatever reads safetensors can read it.
    tensors = load_file(path)
    assert np.array_equal(tensors["P"], fitted.model.P)
    assert json.loads(tensors["item_ids"].tobytes()) == list(fitted.item_ids)


def test_files_that_are_none(fitted, tmp_path):
    path, bad = tmp_path / "model.safetensors", tmp_path / "bad.safetensors"
    fitted.save(path)
    with safe_open(path, "np") as file:
        facts = file.metadata()
    good = load_file(path)
    nan = good["P"].copy()
    nan[0, 0] = np.nan
    wrong = {
        "P": nan,
        "Q": good["Q"][:-1].copy(),
        "starts": good["starts"][::-1].copy(),
        "rated": good["rated"] + 1000,
        "user_ids": good["user_ids"][:-1].copy(),
    }
    for name, array in wrong.items():
        save_file({**good, name: array}, bad, metadata=facts)
        with pytest.raises(RatingsError, match="damaged"):
            Recommender.load(bad)
    missing = {k: v for k, v in good.items() if k != "Q"}
    save_file(missing, bad, metadata=facts)
    with pytest.raises(CheckpointError, match="no such tensor"):
        Recommender.load(bad)
    save_file(good, bad)
    with pytest.raises(RatingsError, match="no recommender"):
        Recommender.load(bad)
    save_file(good, bad, metadata={"eckart.recommender": '{"format": 99}'})
    with pytest.raises(RatingsError, match="its format is 99"):
        Recommender.load(bad)


def test_one_rating():
    found = fit(Ratings.of(["ann"], ["tea"], [4.0]))
    assert found.predict("ann", "tea") == found.predict("bob", "rum") == 4.0
    assert found.rmse is None and found.top("ann") == []
    assert any("too few to hold any out" in note for note in found.notes)
    assert any("too few to choose by" in note for note in found.notes)


@pytest.mark.parametrize("method", ["auto", "als", "softimpute", "biases"])
@pytest.mark.parametrize("shape", [(1, 60), (60, 1)])
def test_one_user_or_one_item(method, shape):
    users, items = np.divmod(np.arange(60), shape[1])
    values = 3 + np.random.default_rng(0).standard_normal(60)
    found = fit(Ratings.of(users.tolist(), items.tolist(), values.tolist()), method)
    # One rating for each cell of a line: nothing can be known of what is held out but the mean.
    assert found.rmse < 1.5 * values.std()
    assert np.isfinite(found.predict("0", "0"))


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_the_largest_and_smallest_units(small, unit):
    r = small.ratings
    users, items = r.users[:800].tolist(), r.items[:800].tolist()
    values = r.values[:800] / np.abs(r.values).max()
    setting = Setting("als", 2, 0.1, 0.5)
    plain = fit(Ratings.of(users, items, values.tolist()), setting=setting)
    found = fit(Ratings.of(users, items, (unit * values).tolist()), setting=setting)
    # Standardised, both are the same numbers but for their last bits.
    assert found.rmse / unit == pytest.approx(plain.rmse, rel=1e-3)


def test_equal_ratings():
    users, items = np.divmod(np.arange(100), 10)
    found = fit(Ratings.of(users.tolist(), items.tolist(), [4.0] * 100))
    assert found.rmse == pytest.approx(0, abs=1e-6)
    assert found.predict("3", "unseen") == pytest.approx(4.0)


@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=45
    ),
    method=st.sampled_from(["auto", "als", "softimpute", "biases"]),
    holdout=st.sampled_from([0.0, 0.2, 0.9]),
)
def test_anything_small(rows, method, holdout):
    users, items, values = zip(*rows, strict=True)
    ratings = Ratings.of(users, items, values)
    found = fit(ratings, method, holdout=holdout)
    for user in ("0", "9"):
        for item in ("0", "9"):
            assert min(values) <= found.predict(user, item) <= max(values)
    if found.rmse is not None:
        assert 0 <= found.rmse <= max(values) - min(values)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"method": "svd"}, "expected auto, biases, als, softimpute"),
        ({"rank": 0}, "expected 1 or more"),
        ({"holdout": 1.0}, "less than 1"),
        ({"holdout": -0.1}, "0 or more"),
        ({"holdout": float("nan")}, "0 or more"),
    ],
)
def test_refusals(small, how, words):
    with pytest.raises(UsageError, match=words):
        fit(small.ratings, **how)
    with pytest.raises(UsageError, match="expected 1 or more"):
        fit(small.ratings, setting=Setting("biases")).top("0", 0)
