"""`eckart extract`: the adapter it writes and the error it states, from factoring to verification."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eckart.rank import RankPlan
from support.fine_tune import LINEAR, MODULES
from support.terminal import run, table_rows


def test_factor_plan_extract_and_verify_agree(fine_tune, tmp_path):
    pair = fine_tune.pair
    store, plan_file, adapter = tmp_path / "store", tmp_path / "plan.json", tmp_path / "adapter"
    assert run("factor", *pair.paths, "-o", store, "--max-rank", "9").code == 0
    assert run("plan", store, "--rank", "6", "-o", plan_file).code == 0
    plan = RankPlan.from_json(json.loads(plan_file.read_text()))
    done = run("extract", *pair.paths, "-o", adapter, "--plan", plan_file, "--store", store, "--json")
    stated = json.loads(done.out)
    assert stated["parameters"] == plan.parameters == 6 * (70 + 103)
    assert {name: m["rank"] for name, m in stated["modules"].items()} == dict.fromkeys(MODULES, 6)
    for name, module in zip(LINEAR, MODULES, strict=True):
        sigma = pair.sigma(name)
        best = np.sqrt((sigma[6:] ** 2).sum() / (sigma**2).sum())
        # Rounding the factors to float32 changes the update by 1e-7 of its norm.
        assert stated["modules"][module]["error"] == pytest.approx(best, abs=1e-6)
    done = run("verify", *pair.paths, adapter, "--json")
    measured = json.loads(done.out)
    assert done.code == 0 and measured["holds"] is True and measured["problems"] == []
    assert measured["stated"] == stated["error"]
    assert measured["error"] == pytest.approx(stated["error"], rel=2e-4)  # the tolerance that verify states
    table = table_rows(run("verify", *pair.paths, adapter).out)
    assert all(table[module][-1] == "yes" for module in MODULES)
