"""The spectra of adapters: singular values known by construction, and those of adapters made by PEFT."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eckart.adapter import Module, save_adapter
from eckart.adapter.formats import is_adapter
from eckart.checkpoint import Checkpoint, write_safetensors
from eckart.errors import AdapterError
from eckart.operations import inspect_adapter
from support.adapters import adapter, module
from support.matrices import with_values
from support.terminal import run
from support.zoo import ZOO, case_of, matrices


def known(name, values, rows=30, columns=20, rank=None, scale=0.5, seed=0):
    """Return a module whose update has these singular values, in factors of a rank that may be larger."""
    matrix = with_values(np.array(values), rows, columns, seed=seed)
    U, s, Vh = np.linalg.svd(matrix, full_matrices=False)
    rank = rank or len(values)
    mixed = np.linalg.qr(np.random.default_rng(seed).standard_normal((rank, rank)))[0]
    left = (U[:, :rank] * s[:rank]) @ mixed / scale
    return Module(name, "linear", left.astype(np.float32), (mixed.T @ Vh[:rank]).astype(np.float32), scale)


def test_the_given_singular_values_are_found():
    (row,) = inspect_adapter(adapter(known("q", [3.142, 2.718, 1.0]))).modules
    energies = np.cumsum(np.array([3.142, 2.718, 1.0]) ** 2)
    assert row.size == pytest.approx(np.sqrt(energies[-1]), rel=1e-6)
    assert row.sigma_1 == pytest.approx(3.142, rel=1e-6)
    assert row.first == pytest.approx(energies[0] / energies[-1], rel=1e-6)
    assert row.stable_rank == pytest.approx(energies[-1] / energies[0], rel=1e-6)
    assert row.ranks == {"80%": 2, "90%": 2, "95%": 3, "99%": 3}
    assert (row.rank, row.shape, row.relative) == (3, (30, 20), None)


@pytest.mark.parametrize("name", ZOO)
def test_every_module_of_peft_has_the_spectrum_that_numpy_computes(name):
    case = case_of(name)
    rows = {r.name: r for r in inspect_adapter(case.adapter).modules}
    updates = matrices(case.adapter)
    assert rows.keys() == updates.keys()
    for module_name, row in rows.items():
        values = np.linalg.svd(updates[module_name], compute_uv=False)
        shares = np.cumsum(values**2) / np.sum(values**2)
        assert row.sigma_1 == pytest.approx(values[0], rel=1e-9)
        assert row.size == pytest.approx(np.linalg.norm(updates[module_name]), rel=1e-9)
        assert row.ranks["90%"] == int(np.argmax(shares >= 0.9)) + 1
        assert row.stable_rank == pytest.approx(np.sum(values**2) / values[0] ** 2, rel=1e-9)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "gpt_oss", "conv"])
def test_the_relative_size_is_that_of_update_and_weight(name):
    case = case_of(name)
    base = Checkpoint.open(case.base)
    rows = inspect_adapter(case.adapter, case.base).modules
    plain = {r.name: r for r in inspect_adapter(case.adapter).modules}
    for row in rows:
        parameter, _, number = row.name.removesuffix("]").partition("[")
        weight = base.map(parameter if number else f"{parameter}.weight").astype(np.float64)
        norm = np.linalg.norm(weight[int(number)] if number else weight)
        assert row.relative == pytest.approx(row.size / norm, rel=1e-6)
        if row.name in plain:  # experts that the base stores separately have other names there
            assert row.size == pytest.approx(plain[row.name].size, rel=1e-12)


def test_the_stored_rank_may_exceed_the_rank_of_the_update():
    (row,) = inspect_adapter(adapter(known("q", [2.0], rank=4))).modules
    assert (row.rank, row.ranks["99%"], row.knee) == (4, 1, 1)
    assert row.first == pytest.approx(1.0)


def test_the_diagnosis_distinguishes_dominated_from_spread_out_spectra():
    few = adapter(*(known(f"q{i}", [10.0] + [0.1] * 7, seed=i) for i in range(3)))
    assert any("dominate: 3 of 3 modules" in line for line in inspect_adapter(few).diagnosis)
    flat = adapter(*(known(f"q{i}", [1.0] * 8, seed=i) for i in range(3)))
    assert any("1.5 to 2 times" in line for line in inspect_adapter(flat).diagnosis)
    fallen = adapter(*(known(f"q{i}", 2.0 ** -np.arange(4), seed=i) for i in range(3)))
    (line,) = inspect_adapter(fallen).diagnosis
    assert "takes rank 2: 300 of 600 parameters" in line


def test_an_adapter_of_zeros_has_learned_nothing():
    zero = Module("q", "linear", np.zeros((6, 2), np.float32), np.ones((2, 5), np.float32))
    summary = inspect_adapter(adapter(zero))
    (row,) = summary.modules
    assert row.size == row.sigma_1 == row.first == 0 and row.knee is None
    assert summary.diagnosis == ["Every B A is zero: the adapter has not learned anything."]


def test_a_base_of_other_shapes_is_refused(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"q.weight": np.ones((3, 3), np.float32)})
    with pytest.raises(
        AdapterError, match=r"its factors make 6 x 5, but the base holds 3 x 3.*Pass the base"
    ):
        inspect_adapter(adapter(module("q")), tmp_path)


# --- the command ---


def test_adapters_are_distinguished_from_checkpoints(tmp_path):
    case = case_of("llama")
    assert is_adapter(case.adapter) and is_adapter(case.adapter / "adapter_model.safetensors")
    assert not is_adapter(case.base) and not is_adapter(tmp_path) and not is_adapter(tmp_path / "none")
    save_adapter(
        adapter(module("unet.mid_block.q"), components=("unet",)), tmp_path / "k.safetensors", "kohya"
    )
    assert is_adapter(tmp_path / "k.safetensors")


def test_the_command_prints_what_the_library_measures():
    case = case_of("llama")
    summary = inspect_adapter(case.adapter, case.base)
    rows = summary.modules
    document = json.loads(run("inspect", case.base, case.adapter, "--json").out)
    assert document["modules"] == json.loads(json.dumps([r.to_json() for r in rows]))
    assert document["diagnosis"] == summary.diagnosis
    table = run("inspect", case.adapter).out.splitlines()
    assert table[0].split()[:4] == ["module", "shape", "rank", "|BA|"]
    assert sum(line.startswith("model.layers.") for line in table) == sum("layers" in r.name for r in rows)
    assert any(line.startswith(f"{len(rows)} modules, ") for line in table)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--dry-run"], "an adapter needs no pass, so there is no cost to estimate"),
        (["--store", "s"], "an adapter needs no factor store"),
    ],
)
def test_options_for_checkpoints_are_refused_for_adapters(options, message):
    result = run("inspect", case_of("llama").adapter, *options)
    assert result.code == 2 and message in result.err
