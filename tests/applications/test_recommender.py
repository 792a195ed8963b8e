"""The recommender on simulated ratings, whose noise is known, up to the size of MovieLens-100k.

Fits are deterministic, so an error differs from the measured value in a comment only by rounding, or by the
order of sums on another processor. Each bound leaves a margin for the latter.
"""

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


def parts(simulated, seed=0):
    """Return the ratings that `fit` keeps and holds out, and the noise-free values of the latter."""
    r = simulated.ratings
    entries = Entries.of(r.users, r.items, r.values, r.shape)
    truth = Entries.of(r.users, r.items, simulated.truth, r.shape)
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


def test_simulated_ratings_have_the_stated_noise_and_selection(large):
    r = large.ratings
    assert len(r) == 100_000 and r.shape == (942, 1649)  # of 943 x 1,682; the others have no rating
    noise = r.values - large.truth
    # The standard error of the deviation of 100,000 numbers is 1 / sqrt(200,000) = 0.2 %, a fifth of 1 %.
    assert noise.std() == pytest.approx(0.85, rel=0.01)
    # Ratings are missing not at random. All biases and tastes have mean 0, so a random sample would have
    # mean 3.5; measured: 3.89.
    assert large.truth.mean() > 3.5 + 0.3


def test_simulated_ratings_do_not_depend_on_the_order_within_argpartition(monkeypatch):
    """The order that `argpartition` returns differs between processors with AVX2, AVX-512 and neither."""
    first = simulate_ratings(users=120, items=150, ratings=4000)
    monkeypatch.setattr(np, "argpartition", lambda keys, kth: np.argsort(keys))
    second = simulate_ratings(users=120, items=150, ratings=4000)
    assert first.ratings.user_ids == second.ratings.user_ids
    assert np.array_equal(first.ratings.values, second.ratings.values)


@pytest.mark.parametrize(
    ("setting", "most"),
    [(Setting("als", 5, 0.13, 0.5), 1.11), (Setting("softimpute", 5, 0.2), 1.12)],
    ids=["als", "softimpute"],
)
def test_error_at_full_size_is_near_the_noise(large, setting, most):
    kept, held, truth = parts(large)
    floor = float(np.sqrt(np.mean((held.values - truth) ** 2)))
    recommender = fit(large.ratings, setting=setting)
    # 5 x 2,591 factors are estimated from 80,000 ratings whose noise is nearly twice as large as p . q, which
    # adds to the noise: measured 1.104 times the noise for ALS and 1.110 for soft-impute.
    assert floor < recommender.rmse < most * floor
    # Measured: 0.946 and 0.951 of the error of biases only.
    assert recommender.rmse < 0.955 * recommender.measured.rmse_biases
    for by_column in (True, False):
        svd = mean_filled_svd(kept, held, (1, 2, 5, 10, 20), by_column)
        # Measured: 0.900 and 0.905 of the best error with column means, 0.854 and 0.859 with the mean.
        assert recommender.rmse < 0.91 * min(svd.values())
    assert recommender.measured.ratings == len(held) == 20_000


def test_chosen_setting_predicts_better_than_simpler_methods(small, fitted):
    kept, held, truth = parts(small)
    floor = float(np.sqrt(np.mean((held.values - truth) ** 2)))
    assert floor < fitted.rmse < 1.18 * floor  # measured: 1.164
    assert fitted.rmse < 0.51 * fitted.measured.rmse_biases  # measured: 0.495
    assert fitted.measured.rmse_biases < 0.8 * fitted.measured.rmse_mean  # measured: 0.781
    for by_column in (True, False):  # measured: 0.566 with column means, 0.521 with the overall mean
        assert fitted.rmse < min(mean_filled_svd(kept, held, range(1, 11), by_column).values()) * 0.58


@pytest.mark.parametrize(("rank", "taste"), [(1, 0.6), (3, 0.8)])
def test_true_rank_is_chosen(rank, taste):
    """For rank 1 with noise as large as the signal, errors form a plateau from rank 10 upwards."""
    simulated = simulate_ratings(users=250, items=300, ratings=8000, rank=rank, noise=0.55, taste=taste)
    assert fit(simulated.ratings).setting.rank == rank


def test_factors_do_no_harm_when_ratings_are_biases_only():
    simulated = simulate_ratings(users=120, items=150, ratings=4000, taste=0.0, noise=0.5)
    recommender = fit(simulated.ratings)
    assert recommender.rmse <= 1.005 * recommender.measured.rmse_biases  # measured: 1.000


def test_fit_uses_one_thread(small):
    """The matrices are thin: a second thread would cost more than it gives, and change the order of sums."""
    seen = set()

    def on_trial(setting, error):
        seen.update(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")

    with threadpool_limits(2, user_api="blas"):
        fit(small.ratings, "als", rank=1, on_trial=on_trial)
    assert seen == {1}


def test_stated_error_can_be_recomputed(small, fitted):
    kept, held, _ = parts(small)
    model = fitted.setting.complete(kept, 0)
    predicted = np.clip(model.at(held.rows, held.columns), kept.values.min(), kept.values.max())
    assert fitted.rmse == pytest.approx(np.sqrt(np.mean((predicted - held.values) ** 2)), rel=1e-12)
    mean = np.sqrt(np.mean((kept.values.mean() - held.values) ** 2))
    assert fitted.measured.rmse_mean == pytest.approx(mean, rel=1e-12)


def test_prediction_follows_the_formula(fitted):
    model = fitted.model
    user, item = fitted.user_ids[3], fitted.item_ids[5]
    value = model.mean + model.row_bias[3] + model.column_bias[5] + model.P[3] @ model.Q[5]
    assert fitted.predict(user, item) == pytest.approx(np.clip(value, fitted.low, fitted.high), abs=1e-5)
    assert fitted.basis(user, item) == ("the prediction is the sum of the mean, both biases and the factors")


def test_suggestions_exclude_rated_items(small, fitted):
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


def test_unknown_users_and_items_are_predicted_by_the_remaining_terms(fitted):
    item, user = fitted.item_ids[0], fitted.user_ids[0]
    assert fitted.predict("newcomer", "nothing") == pytest.approx(fitted.model.mean)
    cold_user = fitted.model.mean + float(fitted.model.column_bias[0])
    assert fitted.predict("newcomer", item) == pytest.approx(np.clip(cold_user, fitted.low, fitted.high))
    assert "user newcomer has no ratings" in fitted.basis("newcomer", item)
    assert "item nothing has no ratings" in fitted.basis(user, "nothing")
    assert "the mean of all ratings" in fitted.basis("newcomer", "nothing")
    order = [fitted.item_ids[i] for i in np.argsort(-fitted.model.column_bias, kind="stable")]
    assert [s.item for s in fitted.top("newcomer", 7)] == order[:7]


def test_same_seed_gives_the_same_bytes(small, fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    fit(small.ratings, rank=2).save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    other = fit(small.ratings, rank=2, seed=1)
    assert other.rmse != fitted.rmse  # another seed holds out other ratings


def test_loaded_recommender_equals_the_saved_one(fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    loaded = Recommender.load(path)
    assert (loaded.setting, loaded.measured, loaded.notes) == (fitted.setting, fitted.measured, fitted.notes)
    for user in (*fitted.user_ids[:3], "newcomer"):
        assert loaded.top(user, 20) == fitted.top(user, 20)
        assert loaded.predict(user, "5") == fitted.predict(user, "5")
    # Any library that reads safetensors can read the file.
    tensors = load_file(path)
    assert np.array_equal(tensors["P"], fitted.model.P)
    assert json.loads(tensors["item_ids"].tobytes()) == list(fitted.item_ids)


def test_damaged_files_are_refused(fitted, tmp_path):
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
    with pytest.raises(RatingsError, match="does not hold a recommender"):
        Recommender.load(bad)
    save_file(good, bad, metadata={"eckart.recommender": '{"format": 99}'})
    with pytest.raises(RatingsError, match="found format 99"):
        Recommender.load(bad)


HOSTILE = [None, True, -1, 1.5, 10**400, 1e300, "x", "", [], {}, [[]], {"a": 1}]


def test_a_value_of_another_type_is_refused_by_its_name(fitted, tmp_path):
    """Every entry of the metadata, and every entry of its objects, with values of all JSON types."""
    path, bad = tmp_path / "model.safetensors", tmp_path / "bad.safetensors"
    fitted.save(path)
    with safe_open(path, "np") as file:
        facts = json.loads(file.metadata()["eckart.recommender"])
    places = [(facts, key) for key in facts]
    places += [(facts[name], key) for name in ("setting", "measured") for key in facts[name]]
    good, refused = load_file(path), 0
    for holder, key in places:
        kept = holder[key]
        for value in HOSTILE:
            if (
                type(value) is type(kept)
                or (type(kept), type(value)) == (float, int)
                or (key, value) in FITTING
            ):
                continue
            holder[key] = value
            save_file(good, bad, metadata={"eckart.recommender": json.dumps(facts)})
            with pytest.raises(RatingsError) as caught:
                Recommender.load(bad)
            assert key in str(caught.value) or value == 10**400, (key, value, str(caught.value))
            refused += 1
        holder[key] = kept
    assert refused > 150


FITTING = [("measured", None)]  # no ratings were held out


@pytest.mark.parametrize(
    "name", ["P", "Q", "row_bias", "column_bias", "starts", "rated", "user_ids", "item_ids"]
)
def test_a_tensor_of_another_shape_or_dtype_is_refused_by_its_name(fitted, tmp_path, name):
    path, bad = tmp_path / "model.safetensors", tmp_path / "bad.safetensors"
    fitted.save(path)
    with safe_open(path, "np") as file:
        facts = file.metadata()
    good = load_file(path)
    array = good[name]
    others = [
        array[None],
        array.reshape(-1, 1, 1),
        array.astype(np.float16),
        array.astype(np.bool_),
        array[:0],
    ]
    for other in others[:4] if name == "rated" else others:
        save_file(good | {name: np.ascontiguousarray(other)}, bad, metadata=facts)
        with pytest.raises(RatingsError, match="the file is damaged"):
            Recommender.load(bad)


def test_ids_that_are_not_a_list_of_strings_are_refused(fitted, tmp_path):
    path, bad = tmp_path / "model.safetensors", tmp_path / "bad.safetensors"
    fitted.save(path)
    with safe_open(path, "np") as file:
        facts = file.metadata()
    good = load_file(path)
    for text in (
        b"",
        b"{}",
        b"[1, 2]",
        b"[null]",
        b'["a"',
        b'["\xff"]',
        b'["\\ud800"]',
        b"[" * 100_000,
        b"nan",
    ):
        save_file(good | {"user_ids": np.frombuffer(text, np.uint8)}, bad, metadata=facts)
        with pytest.raises(RatingsError, match="user_ids is not a list of strings"):
            Recommender.load(bad)


def test_one_rating_is_enough():
    recommender = fit(Ratings.of(["ann"], ["tea"], [4.0]))
    assert recommender.predict("ann", "tea") == recommender.predict("bob", "rum") == 4.0
    assert recommender.rmse is None and recommender.top("ann") == []
    assert any("at least 10 ratings are needed to hold some out" in note for note in recommender.notes)
    assert any("at least 30 ratings that are not held out are needed" in note for note in recommender.notes)


@pytest.mark.parametrize("method", ["auto", "als", "softimpute", "biases"])
@pytest.mark.parametrize("shape", [(1, 60), (60, 1)])
def test_one_user_or_one_item_is_enough(method, shape):
    users, items = np.divmod(np.arange(60), shape[1])
    values = 3 + np.random.default_rng(0).standard_normal(60)
    recommender = fit(Ratings.of(users.tolist(), items.tolist(), values.tolist()), method)
    # With one rating in each row or column, a held-out rating can only be predicted by the mean of the
    # others. The error of the twelve is 0.865 of the deviation of all ratings.
    assert recommender.rmse < 0.87 * values.std()
    assert np.isfinite(recommender.predict("0", "0"))


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_largest_and_smallest_units_are_accepted(small, unit):
    r = small.ratings
    users, items = r.users[:800].tolist(), r.items[:800].tolist()
    values = r.values[:800] / np.abs(r.values).max()
    setting = Setting("als", 2, 0.1, 0.5)
    plain = fit(Ratings.of(users, items, values.tolist()), setting=setting)
    recommender = fit(Ratings.of(users, items, (unit * values).tolist()), setting=setting)
    # After standardisation both are the same numbers up to rounding.
    assert recommender.rmse / unit == pytest.approx(plain.rmse, rel=1e-3)


def test_equal_ratings_are_predicted_exactly():
    users, items = np.divmod(np.arange(100), 10)
    recommender = fit(Ratings.of(users.tolist(), items.tolist(), [4.0] * 100))
    assert recommender.rmse == pytest.approx(0, abs=1e-6)
    assert recommender.predict("3", "unseen") == pytest.approx(4.0)


@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=45
    ),
    method=st.sampled_from(["auto", "als", "softimpute", "biases"]),
    holdout=st.sampled_from([0.0, 0.2, 0.9]),
)
def test_any_small_table_is_fitted(rows, method, holdout):
    users, items, values = zip(*rows, strict=True)
    ratings = Ratings.of(users, items, values)
    recommender = fit(ratings, method, holdout=holdout)
    for user in ("0", "9"):
        for item in ("0", "9"):
            assert min(values) <= recommender.predict(user, item) <= max(values)
    if recommender.rmse is not None:
        assert 0 <= recommender.rmse <= max(values) - min(values)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"method": "svd"}, "expected one of auto, biases, als, softimpute"),
        ({"rank": 0}, "expected a whole number of at least 1"),
        ({"rank": 2.5}, "expected a whole number of at least 1"),
        ({"holdout": 1.0}, "less than 1"),
        ({"holdout": -0.1}, "at least 0"),
        ({"holdout": float("nan")}, "at least 0"),
    ],
)
def test_invalid_arguments_are_refused(small, arguments, expected):
    with pytest.raises(UsageError, match=expected):
        fit(small.ratings, **arguments)


def test_suggesting_no_items_is_refused(fitted):
    with pytest.raises(UsageError, match="expected a whole number of at least 1"):
        fitted.top("0", 0)
