"""Pairs with extreme shapes, spectra and scales: `extract` and `verify` must hold on all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from support.matrices import with_values
from support.pairs import write_pair
from support.rules import command_line, one_of_each
from support.terminal import run

F32 = np.float32
NAMES = ("a.weight", "b.weight")


def weights(m, n, seed=0):
    return np.random.default_rng(seed).standard_normal((m, n)).astype(F32)


def updated(base, sigma, seed=5):
    """Return a weight, and the weight plus an update with these singular values."""
    return base, (base + with_values(np.asarray(sigma, float), *base.shape, seed)).astype(F32)


def scaled(scale):
    base, tuned = updated(weights(40, 30), 1 / np.arange(1, 31))
    return (base * F32(scale)).astype(F32), (tuned * F32(scale)).astype(F32)


# Each pair also has an ordinary layer, because a pair in which nothing changed is refused.
EDGES = {
    "no update": (weights(40, 30), weights(40, 30)),
    "one row": updated(weights(1, 30), [2.0]),
    "one column": updated(weights(40, 1), [2.0]),
    "one number": (np.array([[1.0]], F32), np.array([[3.5]], F32)),
    "rank 1": updated(weights(40, 30), [3.142]),
    "rank 1 in exact arithmetic": (
        np.zeros((40, 30), F32),
        np.outer(np.arange(40), np.arange(30)).astype(F32),
    ),
    "all tied": updated(weights(40, 30), np.ones(30)),
    "tied in pairs": updated(weights(40, 30), np.repeat(2.0 ** -np.arange(15), 2)),
    "identity": (np.zeros((30, 30), F32), np.eye(30, dtype=F32)),
    "large": scaled(1e30),
    "tiny": scaled(1e-30),
    "large and tiny rows": (
        np.zeros((40, 30), F32),
        (weights(40, 30) * np.logspace(-15, 15, 40)[:, None]).astype(F32),
    ),
    "one entry": (np.zeros((40, 30), F32), np.eye(40, 30, 7, dtype=F32) * (np.arange(30) == 9)),
    "large matrix, rank 1": updated(weights(300, 260), [3.142]),
    "large matrix, tied": updated(weights(300, 260), np.ones(260)),
    "large matrix, times 1e30": tuple(
        (x * F32(1e30)).astype(F32) for x in updated(weights(300, 260), 1 / np.arange(1, 261))
    ),
}
RULES = [command_line(keywords) for keywords in one_of_each(ratio=100, budget="1M").values()]


def product(folder, name):
    """Return B A of one module, in float64."""
    arrays = load_file(folder / "adapter_model.safetensors")
    A, B = (arrays[f"base_model.model.{name.removesuffix('.weight')}.lora_{x}.weight"] for x in "AB")
    return B.astype(np.float64) @ A.astype(np.float64)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0])
@pytest.mark.parametrize("edge", EDGES)
def test_the_stated_error_is_true_and_close_to_the_best(tmp_path, edge, rule):
    extreme, ordinary = EDGES[edge], updated(weights(24, 20), 1 / np.arange(1, 21))
    pair = write_pair(
        tmp_path,
        dict(zip(NAMES, (extreme[0], ordinary[0]), strict=True)),
        dict(zip(NAMES, (extreme[1], ordinary[1]), strict=True)),
    )
    done = run("extract", *pair.paths, "-o", tmp_path / "out", *rule, "--json")
    assert done.code == 0, done.err
    statement = json.loads(done.out)
    done = run("verify", *pair.paths, tmp_path / "out", "--json")
    assert done.code == 0, done.err
    verification = json.loads(done.out)
    assert verification["holds"]
    assert {m["name"] for m in verification["modules"]} == set(statement["modules"])
    for name in NAMES:
        module = name.removesuffix(".weight")
        rank = statement["plan"]["ranks"][name]
        update = pair.update(name)
        scale = np.abs(update).max() or 1.0  # so that no square overflows
        sigma = np.linalg.svd(update / scale, compute_uv=False)
        if not rank:
            assert module not in statement["modules"]
            # Nothing changed, or nothing exceeds the noise floor.
            assert not update.any() or rule == ["--noise-floor"]
            continue
        norm = np.linalg.norm(sigma)
        error = np.linalg.norm(update / scale - product(tmp_path / "out", name) / scale) / norm
        best = np.sqrt((sigma[rank:] ** 2).sum()) / norm
        stated = statement["modules"][module]["error"]
        # The SVD in float32 and the rounding of the factors cost 1e-6 of the update. Matrices that are too
        # large for LAPACK's route may have an error 0.5 % above the best.
        slack = 1e-6 + (5e-3 * best if max(update.shape) > 256 else 0.0)
        assert best - 1e-6 <= error <= best + slack
        assert stated == pytest.approx(error, rel=2e-4, abs=2e-6)  # the tolerance that verify states
        if rule[0] == "--energy":
            assert error**2 <= 0.1 + 1e-5
        if rule[0] == "--error":
            assert error <= 0.3 + 1e-5


@pytest.mark.parametrize(
    ("shape", "name", "changed"),
    [
        ((), "odd.scale", False),
        ((), "odd.scale", True),
        ((0,), "odd.bias", False),
        ((3, 0, 2), "odd.weight", False),
        ((8, 0), "odd.weight", False),
        ((0, 8), "odd.weight", False),
        ((0, 8), "embed_tokens.weight", False),
    ],
)
@pytest.mark.parametrize("rule", [("--rank", 4), ("--energy", 0.5), ("--noise-floor",)], ids=lambda r: r[0])
def test_empty_tensors_and_scalars_are_accepted(tmp_path, shape, name, changed, rule):
    base, tuned = updated(weights(24, 20), 1 / np.arange(1, 21))
    odd = np.ones(shape, F32)
    pair = write_pair(
        tmp_path, {"a.weight": base, name: odd}, {"a.weight": tuned, name: odd * F32(1 + changed)}
    )
    done = run("extract", *pair.paths, "-o", tmp_path / "out", *rule, "--json")
    assert done.code == 0, done.err
    statement = json.loads(done.out)
    assert set(statement["modules"]) == {"a"}
    assert [item["name"] for item in statement["not_carried"]] == ([name] if changed else [])
    assert run("verify", *pair.paths, tmp_path / "out").code == 0
    assert run("inspect", *pair.paths).code == 0
    assert run("factor", *pair.paths, "-o", tmp_path / "store").code == 0


def test_an_unchanged_tensor_adds_nothing_to_the_totals_of_the_plan(tmp_path):
    same, (base, tuned) = weights(30, 20), updated(weights(24, 20), [3.142, 2.718])
    pair = write_pair(tmp_path, {"a.weight": same, "b.weight": base}, {"a.weight": same, "b.weight": tuned})
    done = run("extract", *pair.paths, "-o", tmp_path / "out", "--rank", 2, "--json")
    plan = json.loads(done.out)["plan"]
    assert plan["ranks"] == {"a.weight": 0, "b.weight": 2}
    assert plan["reasons"]["a.weight"] == "unchanged"
    assert plan["parameters"] == 2 * (24 + 20)
    # Adding the update to weights of about 1 rounded it by up to 6e-8.
    assert plan["energy"] == pytest.approx(1.0, abs=1e-9)
