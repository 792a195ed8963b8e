"""Updates of any size and of any float dtype: what is stated holds, and what cannot be stated is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import eckart
from eckart.checkpoint import write_safetensors
from eckart.errors import CheckpointError, PairError
from support.checkpoints import read
from support.matrices import with_values

SIGMA = 2.0 ** -np.arange(10)
UPDATE = with_values(SIGMA, 14, 10, seed=3)
CUT = float(np.sqrt((SIGMA[4:] ** 2).sum() / (SIGMA**2).sum()))  # the error at rank 4


def save(folder, update, dtype):
    """Write zeros, and the update, next to a vector that does not change."""
    for name, array in (("base", np.zeros_like(update)), ("tuned", update)):
        tensors = {"layers.0.q_proj.weight": array, "norm.weight": np.ones(10)}
        write_safetensors(folder / f"{name}.safetensors", {k: v.astype(dtype) for k, v in tensors.items()})
    return folder / "base.safetensors", folder / "tuned.safetensors"


@pytest.mark.parametrize("adapter_dtype", [None, "float32", "float64"])
@pytest.mark.parametrize("size", [1e-30, 1e-15, 1.0, 1e15, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_of_any_size_is_stated_and_verified(dtype, size, adapter_dtype, tmp_path):
    pair = save(tmp_path, size * UPDATE, dtype)
    done = eckart.extract(*pair, tmp_path / "a", rank=4, dtype=adapter_dtype)
    checked = eckart.verify(*pair, tmp_path / "a")
    assert checked.holds and checked.error == pytest.approx(CUT, rel=1e-5)
    assert done.statement.error == pytest.approx(CUT, rel=1e-5)
    assert checked.modules[0].update == pytest.approx(size * np.linalg.norm(SIGMA), rel=1e-6)


@pytest.mark.parametrize("size", [1e-140, 1e-100, 1e-42, 1e42, 1e100, 1e140])
def test_a_float64_update_outside_the_range_of_float32_is_stated_and_verified(size, tmp_path):
    pair = save(tmp_path, size * UPDATE, np.float64)
    eckart.extract(*pair, tmp_path / "a", rank=4)
    checked = eckart.verify(*pair, tmp_path / "a")
    # float64 arithmetic throughout: 1e-12 is a few thousand roundings.
    assert checked.holds and checked.error == pytest.approx(CUT, rel=1e-12)
    assert checked.stated == pytest.approx(CUT, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_denormal_float32_updates_are_measured_without_loss(dtype, tmp_path):
    """Entries of 1e-42 have nine bits in float32; their factors of 1e-21 have all."""
    pair = save(tmp_path, 1e-42 * UPDATE, np.float32)
    eckart.extract(*pair, tmp_path / "a", rank=4, dtype=dtype)
    checked = eckart.verify(*pair, tmp_path / "a")
    tensors = read(tmp_path / "a")
    stored = {key.rpartition("lora_")[2][0]: array for key, array in tensors.items()}
    update = np.float64(1e-42 * UPDATE).astype(np.float32).astype(np.float64) * 1e42
    missed = update - (stored["B"] * 1e21) @ (stored["A"] * 1e21)
    exact = float(np.linalg.norm(missed) / np.linalg.norm(update))
    assert checked.holds and checked.error == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_an_adapter_of_any_size_is_measured(size, tmp_path):
    """The factors are written by hand: extraction refuses updates whose squares float64 does not hold."""
    pair = save(tmp_path, UPDATE, np.float64)
    eckart.extract(*pair, tmp_path / "a", rank=4)
    scaled = save(tmp_path, size * UPDATE, np.float64)
    file = tmp_path / "a" / "adapter_model.safetensors"
    write_safetensors(file, {k: v * math.sqrt(size) for k, v in read(tmp_path / "a").items()})
    statement = json.loads((tmp_path / "a" / "eckart.json").read_text())
    statement["modules"]["layers.0.q_proj"]["update"] *= size
    (tmp_path / "a" / "eckart.json").write_text(json.dumps(statement))
    checked = eckart.verify(*scaled, tmp_path / "a")
    assert checked.holds and checked.error == pytest.approx(CUT, rel=1e-12)
    assert checked.modules[0].update == pytest.approx(size * np.linalg.norm(SIGMA), rel=1e-12)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (1e-200, PairError, "differ by less than 1e-145"),
        (1e200, CheckpointError, r"overflows float64, once it is squared\. Divide both"),
    ],
)
def test_updates_whose_squares_float64_does_not_hold_are_refused(size, error, message, tmp_path):
    with pytest.raises(error, match=message):
        eckart.extract(*save(tmp_path, size * UPDATE, np.float64), tmp_path / "a", rank=4)
    assert not (tmp_path / "a").exists()


def test_a_false_norm_of_a_tiny_update_is_noticed(tmp_path):
    pair = save(tmp_path, 1e-42 * UPDATE, np.float64)
    eckart.extract(*pair, tmp_path / "a", rank=4)
    statement = json.loads((tmp_path / "a" / "eckart.json").read_text())
    statement["modules"]["layers.0.q_proj"]["update"] *= 2
    (tmp_path / "a" / "eckart.json").write_text(json.dumps(statement))
    assert not eckart.verify(*pair, tmp_path / "a").holds


@pytest.mark.parametrize("rule", [{"energy": 1.0}, {"error": 0.0}], ids=["energy 1", "error 0"])
@pytest.mark.parametrize("shape", [(14, 10), (300, 270)], ids=["small", "large"])
def test_everything_of_an_exact_rank_is_kept_and_no_more(shape, rule, tmp_path):
    """LAPACK leaves values near 1e-16 sigma_1 beyond the rank, which are below the tolerance of 1e-13."""
    update = with_values(np.array([4.0, 1.0, 1e-3, 1e-6, 1e-9]), *shape, seed=5)
    for name, array in (("base", np.zeros_like(update)), ("tuned", update)):
        write_safetensors(tmp_path / f"{name}.safetensors", {"layers.0.q_proj.weight": array})
    pair = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    done = eckart.extract(*pair, tmp_path / "a", **rule)
    assert done.plan.ranks == {"layers.0.q_proj.weight": 5}
    assert done.statement.error < 1e-13
    assert eckart.verify(*pair, tmp_path / "a").holds
