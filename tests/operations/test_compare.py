"""The difference of two adapters' updates is measured, and compared with what one of them states."""

import json
import math

import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.errors import InputError
from eckart.operations import compare, resize
from support.adapter_files import (
    ALPHAS,
    K1,
    Q0,
    TABLE_FACTORS,
    VARIED_RANKS,
    adapter_with,
    random_factors,
    write_peft,
)
from support.consumers_emulated import error, intended

EXACT = 1e-6  # factors in float32 carry 6e-8 each, and an update of rank 6 adds up a few of them


def test_the_difference_is_what_numpy_measures_and_what_is_stated(tmp_path):
    path = adapter_with(ranks=VARIED_RANKS, **ALPHAS)(tmp_path / "a")
    resize(path, tmp_path / "small", rank=2)
    comparison = compare(load_adapter(tmp_path / "small"), load_adapter(path))
    before, after = intended(path), intended(tmp_path / "small")
    assert comparison.error == pytest.approx(error(before, after), rel=1e-9)
    assert comparison.stated == pytest.approx(comparison.error, rel=1e-4) and comparison.holds
    for name, update in before.items():
        difference = np.linalg.norm(update - after[name]) / np.linalg.norm(update)
        assert comparison.modules[name] == pytest.approx(difference, rel=1e-6, abs=1e-7)
        sigma = np.linalg.svd(update, compute_uv=False)
        best = np.linalg.norm(sigma[2:]) / np.linalg.norm(sigma)
        assert difference == pytest.approx(best, rel=1e-5, abs=EXACT)


def test_a_false_statement_does_not_hold(tmp_path):
    path = adapter_with(ranks=VARIED_RANKS)(tmp_path / "a")
    resize(path, tmp_path / "small", rank=2)
    statement = json.loads((tmp_path / "small/eckart.json").read_text())
    statement["error"] *= 0.99
    (tmp_path / "small/eckart.json").write_text(json.dumps(statement))
    assert not compare(load_adapter(tmp_path / "small"), load_adapter(path)).holds


def test_modules_that_only_one_adapter_has_count_whole(tmp_path):
    whole, part = adapter_with()(tmp_path / "a"), adapter_with(without="k_proj")(tmp_path / "b")
    forward = compare(load_adapter(part), load_adapter(whole))
    backward = compare(load_adapter(whole), load_adapter(part))
    energy = {name: float((update**2).sum()) for name, update in intended(whole).items()}
    total = sum(energy.values())
    missing = sum(e for name, e in energy.items() if "k_proj" in name)
    assert forward.error == pytest.approx(math.sqrt(missing / total), rel=1e-9)
    assert backward.error == pytest.approx(math.sqrt(missing / (total - missing)), rel=1e-9)
    assert forward.modules[K1] == 1.0 and backward.modules[K1] == 1.0
    assert compare(load_adapter(whole), load_adapter(whole)).error < 1e-12


def test_modules_that_a_layout_left_out_are_in_the_measured_and_in_the_stated_error(tmp_path):
    path = adapter_with(more=TABLE_FACTORS)(tmp_path / "a")
    resize(path, tmp_path / "out", rank=64, consumers="tgi")
    comparison = compare(load_adapter(tmp_path / "out"), load_adapter(path))
    assert comparison.error == pytest.approx(error(intended(path), intended(tmp_path / "out")), rel=1e-9)
    assert comparison.holds and comparison.error > 0.1


def test_adapters_of_different_shapes_are_refused(tmp_path):
    B, A = random_factors("x", 7, 7, 4)
    other = write_peft(tmp_path / "b", {f"{Q0}.lora_A.weight": A, f"{Q0}.lora_B.weight": B})
    with pytest.raises(InputError, match=r"the update has shape"):
        compare(load_adapter(adapter_with()(tmp_path / "a")), load_adapter(other))
