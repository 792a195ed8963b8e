"""`eckart plan`: the ranks it chooses from a store, and the file it writes."""

from __future__ import annotations

import json

from eckart.rank import RankPlan
from support.fine_tune import LINEAR
from support.terminal import run


def test_the_plan_file_is_the_printed_json(fine_tune, tmp_path):
    done = run("plan", fine_tune.store, "--rank", "6", "-o", tmp_path / "plan.json", "--json")
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written == json.loads(done.out)
    plan = RankPlan.from_json(written)
    assert plan.ranks == dict.fromkeys(LINEAR, 6)
    assert plan.parameters == 6 * (70 + 103)


def test_a_rank_above_the_stored_one_factors_the_tensors_again_and_reports_it(fine_tune, tmp_path):
    store = tmp_path / "store"
    run("factor", *fine_tune.pair.paths, "-o", store, "--max-rank", "2")
    done = run("plan", store, "--rank", "8")
    assert done.code == 0
    assert done.err == f"factoring 2 of 2 tensors again, to a higher rank: {', '.join(LINEAR)}\n"
    assert run("plan", store, "--rank", "8").err == ""
    assert run("plan", store, "--rank", "9", "--quiet").err == ""
