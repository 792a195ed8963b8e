"""The errors that an extracted adapter states, against float64 sums over the files."""

import json

import numpy as np
import pytest

import eckart
from eckart.checkpoint import write_safetensors
from support.matrices import with_values
from support.rules import one_of_each
from support.stated_errors import measured, read, statement
from support.weights import SHAPES, save_pair, updates, weights

RULES = {
    **one_of_each(rank=7, energy=0.8, ratio=8, budget="12K"),
    "noise floor": {"noise_floor": True, "max_rank": 40},
    "rank bounded": {"energy": 0.9, "min_rank": 2, "max_rank": 12, "multiple_of": 4},
    "uniform": {"energy": 0.7, "uniform": True},
}

# The energy left out is ||dW||^2 - sum s^2 while it is above 1e-3 of the whole; s^2 is right to about
# 1e-7 in float32, hence the energy to 1e-4 and its root to half of that.
RELATIVE = 1e-4
# An update that the factors hold exactly leaves float32 roundings of the product: some 1e-7.
ABSOLUTE = 1e-6


@pytest.fixture(scope="module", params=["F32", "BF16"])
def pair(request, tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"), weights(), updates(), request.param)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("rule", RULES)
def test_stated_errors_are_those_of_the_files(rule, dtype, pair, tmp_path):
    done = eckart.extract(*pair, tmp_path / "a", dtype=dtype, **RULES[rule])
    errors, together = measured(*pair, tmp_path / "a")
    stated = statement(tmp_path / "a")
    assert stated == json.loads(json.dumps(done.statement.to_json()))  # a pair of bounds is a list in JSON
    assert set(stated["modules"]) == set(errors)
    for name, error in errors.items():
        assert stated["modules"][name]["error"] == pytest.approx(error, rel=RELATIVE, abs=ABSOLUTE), name
    assert stated["error"] == pytest.approx(together, rel=RELATIVE, abs=ABSOLUTE)

    checked = eckart.verify(*pair, tmp_path / "a")
    assert checked.holds and not checked.problems
    assert checked.error == pytest.approx(together, rel=1e-5, abs=ABSOLUTE)
    assert {m.name: m.error for m in checked.modules} == {
        name: pytest.approx(error, rel=1e-5, abs=ABSOLUTE) for name, error in errors.items()
    }
    assert {m.name: m.rank for m in checked.modules} == {n: m["rank"] for n, m in stated["modules"].items()}


def test_the_written_adapter_reaches_the_goal_of_its_rule(pair, tmp_path):
    """Errors are measured after rounding, so a target may be missed by that and by nothing more."""
    eckart.extract(*pair, tmp_path / "e", energy=0.8, dtype="F32")
    eckart.extract(*pair, tmp_path / "r", error=0.3, dtype="F32")
    done = eckart.extract(*pair, tmp_path / "b", budget="12K", dtype="F32")
    for error in measured(*pair, tmp_path / "e")[0].values():
        assert 1 - error**2 >= 0.8 - 1e-6
    for error in measured(*pair, tmp_path / "r")[0].values():
        assert error <= 0.3 + 1e-6
    written = sum(a.size for k, a in read(tmp_path / "b").items())
    cheapest = min(sum(shape) for shape, _ in SHAPES.values())
    assert done.statement.parameters == written
    assert 12_000 - cheapest < written <= 12_000  # not one component more would have fitted


@pytest.mark.parametrize("rule", [{"rank": 5}, {"energy": 1 - 1e-9}, {"error": 1e-4}])
def test_an_exact_low_rank_update_is_held_exactly(rule, tmp_path):
    change = {
        f"{n}.weight": with_values(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), *s) for n, (s, _) in SHAPES.items()
    }
    base = {name: np.zeros_like(array) for name, array in weights().items()}
    pair = save_pair(tmp_path, base, change)
    done = eckart.extract(*pair, tmp_path / "a", dtype="F32", **rule)
    assert {m.rank for m in done.adapter} == {5}
    assert max(measured(*pair, tmp_path / "a")[0].values()) < ABSOLUTE
    assert done.statement.error < ABSOLUTE and done.statement.error_of_whole_change < ABSOLUTE
    assert eckart.verify(*pair, tmp_path / "a").holds


def test_a_small_update_of_a_large_base_keeps_its_own_error(tmp_path):
    """The subtraction is exact to the base's rounding, and errors are relative to the update."""
    small = {name: 1e-4 * array for name, array in updates().items()}
    pair = save_pair(tmp_path, weights(), small)
    eckart.extract(*pair, tmp_path / "a", rank=4, dtype="F32")
    errors, _ = measured(*pair, tmp_path / "a")
    stated = statement(tmp_path / "a")["modules"]
    assert {n: m["error"] for n, m in stated.items()} == {
        n: pytest.approx(e, rel=RELATIVE) for n, e in errors.items()
    }


def test_the_error_of_the_whole_change_includes_tensors_without_factors(tmp_path):
    change = updates() | {"norm.weight": np.full(60, 0.5), "layers.0.q_proj.bias": np.full(40, 0.25)}
    pair = save_pair(tmp_path, weights(), change)
    eckart.extract(*pair, tmp_path / "a", rank=3, dtype="F32", exclude=["down_proj"])
    before, after, factors = read(pair[0]), read(pair[1]), read(tmp_path / "a")
    lost = everything = 0.0
    for name in before:
        update = after[name] - before[name]
        everything += np.linalg.norm(update) ** 2
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight"
        if key in factors and name.endswith(".weight"):
            update = update - factors[key.replace("lora_A", "lora_B")] @ factors[key]
        lost += np.linalg.norm(update) ** 2
    stated = statement(tmp_path / "a")
    assert stated["error_of_whole_change"] == pytest.approx(np.sqrt(lost / everything), rel=RELATIVE)
    shares = {item["name"]: item for item in stated["not_carried"]}
    assert set(shares) == {"layers.2.down_proj.weight", "norm.weight", "layers.0.q_proj.bias"}
    assert shares["norm.weight"]["share"] == pytest.approx(60 * 0.25 / everything, rel=1e-5)
    assert shares["layers.2.down_proj.weight"]["why"] == "left out by --include or --exclude"


def test_an_update_near_the_largest_number_of_float32_states_its_error(tmp_path):
    """Its largest singular value is beyond float32, though every entry of the factors is within."""
    largest = float(np.finfo(np.float32).max)
    base = {"layer.weight": np.zeros((8, 6), np.float32)}
    signs = np.outer([1, -1, 1, 1, -1, 1, -1, 1], [1, 1, -1, 1, -1, -1])  # rank 1, norm sqrt(48)
    tuned = {"layer.weight": (0.9 * largest * signs).astype(np.float32)}
    tuned["layer.weight"][0, 0] /= 2
    for name, tensors in (("base", base), ("tuned", tuned)):
        write_safetensors(tmp_path / f"{name}.safetensors", tensors)
    paths = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    done = eckart.extract(*paths, tmp_path / "a", rank=1)
    sigma = np.linalg.svd(tuned["layer.weight"].astype(np.float64), compute_uv=False)
    expected = np.sqrt((sigma[1:] ** 2).sum() / (sigma**2).sum())
    assert done.statement.error == pytest.approx(expected, rel=RELATIVE)
    assert eckart.verify(*paths, tmp_path / "a").holds
