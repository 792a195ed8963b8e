"""`eckart recommend`: its output, the file it writes, and the input it refuses."""

from __future__ import annotations

import json
import pickle

import pytest

from eckart.applications.ratings import read_ratings
from eckart.applications.recommender import Recommender, fit
from eckart.applications.simulate import simulate_ratings
from support.terminal import run, tree


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    ratings = simulate_ratings(users=80, items=90, ratings=2500, rank=2, noise=0.4, taste=0.9).ratings
    path = tmp_path_factory.mktemp("ratings") / "u.data"
    lines = (
        f"{ratings.user_ids[u]}\t{ratings.item_ids[i]}\t{min(5, max(1, round(v)))}\t881250949\n"
        for u, i, v in zip(ratings.users, ratings.items, ratings.values, strict=True)
    )
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def fitted(file):
    return fit(read_ratings(file), "als", 2)


def test_error_is_printed(file, fitted):
    done = run("recommend", file, "--method", "als", "--rank", 2)
    assert done.code == 0
    assert "2,500 ratings from 1 to 5, 80 users, 90 items, 34.7% known" in done.out
    assert f"RMSE {fitted.rmse:.4f} on 500 held-out ratings (20%, seed 0)" in done.out
    assert f"{fitted.measured.rmse_biases:.4f} with biases only" in done.out
    assert f"{fitted.measured.rmse_mean:.4f} with the mean" in done.out
    assert "chose ALS, rank 2" in done.err


def test_suggestions_are_printed(file, fitted):
    user = fitted.user_ids[4]
    done = run("recommend", file, "--method", "als", "--rank", 2, "--user", user, "--top", 3, "-q")
    assert done.code == 0 and done.err == ""
    rows = [line.split() for line in done.out.splitlines()[-3:]]
    assert rows == [[s.item, f"{s.rating:.2f}"] for s in fitted.top(user, 3)]


def test_json_is_one_document(file, fitted):
    user, item = fitted.user_ids[0], fitted.item_ids[3]
    done = run("recommend", file, "--method", "als", "--rank", 2, "--user", user, "--json")
    document = json.loads(done.out)
    assert document["measured"]["rmse"] == fitted.rmse
    assert document["setting"]["method"] == "als" and document["setting"]["rank"] == document["factors"] == 2
    assert document["suggestions"]["items"] == [s._asdict() for s in fitted.top(user)]
    one = run("recommend", file, "--method", "als", "--rank", 2, "--user", user, "--item", item, "--json")
    prediction = json.loads(one.out)["prediction"]
    assert prediction["rating"] == fitted.predict(user, item) and "factors" in prediction["basis"]


def test_saved_model_is_used_without_fitting(file, fitted, tmp_path):
    model = tmp_path / "model.safetensors"
    done = run("recommend", file, "--method", "als", "--rank", 2, "--output", model)
    assert done.code == 0 and f"saved: {model}" in done.err
    assert Recommender.load(model).rmse == fitted.rmse
    asked = run("recommend", model, "--user", fitted.user_ids[4], "--top", 3)
    assert asked.code == 0
    assert asked.out.splitlines()[1].split()[0] == fitted.top(fitted.user_ids[4])[0].item
    about = run("recommend", model)
    assert f"RMSE {fitted.rmse:.4f}" in about.out


def test_unknown_users_and_items_are_reported(file, tmp_path, fitted):
    model = tmp_path / "m.safetensors"
    fitted.save(model)
    nobody = run("recommend", model, "--user", "nobody", "--top", 2)
    assert nobody.code == 0 and "user nobody has no ratings; items are ranked by their bias" in nobody.err
    new = run("recommend", model, "--user", fitted.user_ids[0], "--item", "new")
    assert "item new has no ratings; the prediction is the mean plus the user's bias" in new.err
    both = run("recommend", model, "--user", "nobody", "--item", "new")
    assert "user nobody and item new have no ratings; the prediction is the mean of all ratings" in both.err
    assert f"user nobody, item new: {fitted.model.mean:.4g}" in both.out


def test_notes_are_printed(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("a,x,1\na,x,5\nb,y,oops\n")
    done = run("recommend", path, "--skip-bad", "--user", "a")
    assert done.code == 0
    for message in (
        "note: skipped 1 bad line; the first is line 3",
        "note: dropped 1 repeated rating;",
        "note: no error is measured: at least 10 ratings are needed",
        "note: user a has rated every item",
    ):
        assert message in " ".join(done.err.split())
    assert "RMSE: not measured, because no ratings were held out" in done.out


def test_ids_are_printed_literally(tmp_path):
    """The library that prints tables treats brackets as styles, which must not apply to ids."""
    path = tmp_path / "r.csv"
    path.write_text(
        "user,item,rating\n[b]u[/b],[/x],3\n[b]u[/b],[bold]y[/bold],4\nv,[red]z,5\nv,\x1b[31mw,4\n"
    )
    for user, items in (("v", ["[/x]", "[bold]y[/bold]"]), ("[b]u[/b]", ["[red]z", "\\x1b[31mw"])):
        done = run("recommend", path, "--user", user, "--top", 9)
        assert done.code == 0 and f"for user {user}" in done.out
        assert {line.split()[0] for line in done.out.splitlines()[-2:]} == set(items)


def test_fit_options_are_refused_for_a_saved_model(file, tmp_path, fitted):
    model = tmp_path / "m.safetensors"
    fitted.save(model)
    for more in (["--rank", 3], ["--method", "als"], ["--holdout", 0.1], ["--seed", 1], ["--skip-bad"]):
        done = run("recommend", model, *more)
        assert done.code == 2 and done.out == "" and more[0] in done.err and "saved model" in done.err


BAD = {
    "missing": (["none.csv"], "no such file"),
    "bad line": (["bad.csv"], "line 2: expected a rating, found 'five'"),
    "pickle": (["model.pkl"], "the file is not text"),
    "not a model": (["bad.safetensors"], "bad.safetensors"),
    "method": (["good.csv", "--method", "svd"], "expected one of auto, biases, als, softimpute"),
    "rank": (["good.csv", "--rank", "0"], "expected a whole number of at least 1"),
    "holdout": (["good.csv", "--holdout", "1.5"], "less than 1"),
    "top": (["good.csv", "--top", "0"], "--top"),
    "item alone": (["good.csv", "--item", "x"], "this option needs --user"),
    "output of a model": (
        ["m.safetensors", "-o", "n.safetensors"],
        "is a saved model, which is not fitted again",
    ),
    "output exists": (["good.csv", "-o", "m.safetensors"], "--overwrite"),
    "output is a folder": (["good.csv", "-o", "f.safetensors"], "expected a file, found a folder"),
    "output without folder": (["good.csv", "-o", "no/m.safetensors"], "its folder does not exist"),
    "output of another kind": (["good.csv", "-o", "m.pkl"], "ends in .safetensors"),
    "old output option": (["good.csv", "--out", "m.safetensors"], "--out"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(tmp_path, monkeypatch, name):
    argv, expected = BAD[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text("a,x,1\na,y,5\nb,y,3\n")
    (tmp_path / "bad.csv").write_text("a,x,1\na,y,five\n")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    (tmp_path / "bad.safetensors").write_bytes(b"user,item,rating\n")
    (tmp_path / "m.safetensors").write_bytes(b"x")
    (tmp_path / "f.safetensors").mkdir()
    before = tree(tmp_path)
    done = run("recommend", *argv)
    assert done.code == 2 and done.out == "" and "Traceback" not in done.err
    assert "internal error" not in done.err
    assert expected in " ".join(done.err.split())
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1
    assert tree(tmp_path) == before
