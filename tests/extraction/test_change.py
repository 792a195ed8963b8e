"""What counts as the change between two checkpoints: every stored tensor, once. Explicit cases, by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import eckart
from eckart.adapter import Adapter
from eckart.checkpoint import write_safetensors
from eckart.extraction.change import Carrier, Region, parts_of_change
from eckart.store.sources import PairSources
from support.checkpoints import read
from support.terminal import run

LINEAR = "model.layers.0.q_proj"
TABLE = "model.embed_tokens"
TIED = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}


def diagonal(*values: float) -> np.ndarray:
    """Return a matrix (4, 4) with these singular values: its energies are sums of their squares."""
    return np.diag([*values, *[0.0] * (4 - len(values))]).astype(np.float32)


def save(folder, before, after, config=None):
    for side, tensors in (("base", before), ("tuned", after)):
        (folder / side).mkdir(parents=True)
        write_safetensors(folder / side / "model.safetensors", tensors)
        (folder / side / "config.json").write_text(json.dumps(config or {}))
    return folder / "base", folder / "tuned"


def zeros(*names):
    return {name: np.zeros((4, 4), np.float32) for name in names}


def stated(folder):
    statement = json.loads((folder / "eckart.json").read_text())
    left_out = {entry["name"]: entry["update"] for entry in statement["not_carried"]}
    return statement["error"], statement["error_of_whole_change"], left_out


def test_a_tied_output_layer_is_not_a_second_tensor(tmp_path):
    """The layer has sigma 4 and 3, of which 4 is kept; the table changes by 5: 9 + 25 of 16 + 9 + 25."""
    after = {f"{LINEAR}.weight": diagonal(4, 3), f"{TABLE}.weight": diagonal(5)}
    pair = save(tmp_path, zeros(*after), after, TIED)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    error, whole, left_out = stated(tmp_path / "a")
    assert error == pytest.approx(3 / 5) and whole == pytest.approx(math.sqrt(34 / 50))
    assert left_out == {f"{TABLE}.weight": 5.0}
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_factors_of_a_tied_table_count_once_although_the_head_has_them_too(tmp_path):
    after = {f"{LINEAR}.weight": diagonal(4, 3), f"{TABLE}.weight": diagonal(5, 1)}
    pair = save(tmp_path, zeros(*after), after, TIED)
    done = eckart.extract(*pair, tmp_path / "a", rank=1, embeddings=True)
    error, whole, left_out = stated(tmp_path / "a")
    assert error == whole == pytest.approx(math.sqrt(10 / 51)) and left_out == {}
    assert set(done.adapter.modules) == {LINEAR, TABLE, "lm_head"}
    assert any("adds the update to that weight twice" in note for note in done.notes)
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_a_table_that_is_stored_under_two_names_counts_under_both(tmp_path):
    after = {f"{LINEAR}.weight": diagonal(4, 3), f"{TABLE}.weight": diagonal(5)}
    after["lm_head.weight"] = after[f"{TABLE}.weight"]
    pair = save(tmp_path, zeros(*after), after, TIED)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    _, whole, left_out = stated(tmp_path / "a")
    assert whole == pytest.approx(math.sqrt((9 + 25) / (25 + 25 + 25))) and left_out == {
        f"{TABLE}.weight": 5.0
    }
    assert run("verify", *pair, tmp_path / "a").code == 0


@pytest.mark.parametrize("leaf", ["rel", "weight_v", "lora_A", "relative_position_bias_table"])
def test_a_second_matrix_of_a_module_is_a_tensor_of_its_own(leaf, tmp_path):
    after = {f"{LINEAR}.weight": diagonal(4), f"{LINEAR}.{leaf}": diagonal(3)}
    pair = save(tmp_path, zeros(*after), after)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    error, whole, left_out = stated(tmp_path / "a")
    assert error == pytest.approx(0, abs=1e-7) and whole == pytest.approx(3 / 5)
    assert left_out == {f"{LINEAR}.{leaf}": 3.0}
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_new_rows_and_new_tensors_count_with_all_their_entries(tmp_path):
    before = zeros(f"{LINEAR}.weight", "lm_head.weight")
    head = np.concatenate([diagonal(2), np.full((1, 4), 1.5, np.float32)])  # a new row of norm 3
    after = {f"{LINEAR}.weight": diagonal(4), "lm_head.weight": head, "classifier.weight": diagonal(6)}
    pair = save(tmp_path, before, after)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    _, whole, left_out = stated(tmp_path / "a")
    assert whole == pytest.approx(math.sqrt((9 + 36) / (16 + 4 + 9 + 36)))
    assert left_out == {"lm_head.weight": 3.0, "classifier.weight": 6.0}
    assert eckart.inspect(*pair).share == pytest.approx((16 + 4) / (16 + 4 + 9 + 36))
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_tensors_of_the_base_alone_and_integers_do_not_count(tmp_path):
    before = zeros(f"{LINEAR}.weight", "old.weight") | {"ids": np.arange(4)}
    after = {f"{LINEAR}.weight": diagonal(4), "ids": np.arange(4) + 1}
    pair = save(tmp_path, before, after)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    assert stated(tmp_path / "a")[1] == pytest.approx(0, abs=1e-7)
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_a_scalar_outside_all_modules_is_listed_and_not_saved_whole(tmp_path):
    after = {f"{LINEAR}.weight": diagonal(4), "logit_scale": np.float32(3.0).reshape(())}
    before = zeros(f"{LINEAR}.weight") | {"logit_scale": np.zeros((), np.float32)}
    pair = save(tmp_path, before, after)
    done = eckart.extract(*pair, tmp_path / "a", rank=1, modules_to_save=True)
    assert not done.adapter.dense and stated(tmp_path / "a")[2] == {"logit_scale": 3.0}
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_a_stack_of_which_one_expert_changed_is_completed_with_zeros(tmp_path):
    stack = np.zeros((3, 4, 4), np.float32)
    changed = stack.copy()
    changed[1] = diagonal(4, 3)
    name = "model.layers.0.mlp.experts.down_proj"
    pair = save(tmp_path, {name: stack}, {name: changed})
    done = eckart.extract(*pair, tmp_path / "a", rank=1)
    assert [module.name for module in eckart.load_adapter(tmp_path / "a")] == [
        f"{name}[{e}]" for e in range(3)
    ]
    assert set(done.statement.modules) == {f"{name}[1]"} and done.statement.error == pytest.approx(3 / 5)
    assert run("verify", *pair, tmp_path / "a").code == 0


def test_every_stored_tensor_is_one_part_and_a_grown_one_two(tmp_path):
    before = zeros(f"{LINEAR}.weight", f"{TABLE}.weight", "old.weight")
    after = {
        f"{LINEAR}.weight": diagonal(4),
        f"{TABLE}.weight": np.ones((6, 4), np.float32),
        "new.bias": np.ones(4, np.float32),
    }
    sources = PairSources.open(*save(tmp_path, before, after))
    parts = [(part.name, part.region, part.carrier) for part in parts_of_change(sources, Adapter({}))]
    assert parts == [
        (f"{TABLE}.weight", Region.SHARED, Carrier.NOTHING),
        (f"{TABLE}.weight", Region.NEW_ROWS, Carrier.NOTHING),
        (f"{LINEAR}.weight", Region.SHARED, Carrier.NOTHING),
        ("new.bias", Region.TUNED_ONLY, Carrier.NOTHING),
    ]


def test_an_update_of_an_unchanged_layer_has_no_relative_error(tmp_path):
    after = {f"{LINEAR}.weight": diagonal(4), "model.layers.1.q_proj.weight": diagonal(3)}
    pair = save(tmp_path, zeros(*after), after)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    (tmp_path / "a" / "eckart.json").unlink()
    other = save(tmp_path / "other", zeros(*after), after | zeros("model.layers.1.q_proj.weight"))
    checked = eckart.verify(*other, tmp_path / "a")
    assert {module.name: module.error for module in checked.modules}["model.layers.1.q_proj"] is None
    assert checked.error == pytest.approx(3 / 4)
    table = run("verify", *other, tmp_path / "a")
    assert table.code == 0 and json.loads(run("verify", *other, tmp_path / "a", "--json").out)["holds"]


def test_exchanged_checkpoints_are_named_with_the_command_to_type(tmp_path):
    after = {f"{LINEAR}.weight": diagonal(4, 1)}
    base, tuned = save(tmp_path, zeros(*after), after)
    eckart.extract(base, tuned, tmp_path / "a", rank=1)
    done = run("verify", tuned, base, tmp_path / "a")
    assert done.code == 1
    assert "its statement holds for the opposite change, so base and tuned look exchanged" in done.err
    assert f"eckart verify {base} {tuned} {tmp_path / 'a'}" in done.err


def test_extract_repeats_the_remark_of_inspect_on_a_wrong_base(tmp_path):
    random = np.random.default_rng(0)
    sides = [{f"{LINEAR}.weight": random.standard_normal((30, 20)).astype(np.float32)} for _ in range(2)]
    pair = save(tmp_path, *sides)
    (remark,) = eckart.inspect(*pair).diagnosis
    assert "does not look like a fine-tune of this base" in remark
    assert remark in eckart.extract(*pair, tmp_path / "a", rank=4).notes
    assert f"note: {remark}" in run("extract", *pair, "-o", tmp_path / "b", "--rank", 4).err


@pytest.mark.parametrize("embeddings", [True, False])
def test_an_adapter_that_exceeds_its_budget_by_a_tied_layer_reports_this(embeddings, tmp_path):
    """The plan has rank 2 for both tensors, 32 numbers; the tied head repeats the 16 of the table."""
    after = {f"{LINEAR}.weight": diagonal(4, 3), f"{TABLE}.weight": diagonal(5, 1)}
    pair = save(tmp_path, zeros(*after), after, TIED)
    done = eckart.extract(*pair, tmp_path / "a", budget=32, embeddings=embeddings)
    notes = [note for note in done.notes if "within the budget" in note]
    if embeddings:
        assert (done.plan.parameters, done.adapter.parameters) == (32, 48)
        assert "with 32 parameters. The adapter has 16 more" in notes[0]
    else:
        assert (done.plan.parameters, done.adapter.parameters) == (16, 16) and notes == []


def test_rows_that_an_adapter_replaces_are_measured(tmp_path):
    """PEFT's trainable tokens: rows of a table change by 3 and 4, and the adapter has 2 for the second."""
    after = {f"{LINEAR}.weight": diagonal(4), f"{TABLE}.weight": diagonal(3, 4)}
    pair = save(tmp_path, zeros(*after), after)
    eckart.extract(*pair, tmp_path / "a", rank=1)
    (tmp_path / "a" / "eckart.json").unlink()
    assert eckart.verify(*pair, tmp_path / "a").error_of_whole_change == pytest.approx(math.sqrt(25 / 41))
    file, config = tmp_path / "a" / "adapter_model.safetensors", tmp_path / "a" / "adapter_config.json"
    settings = json.loads(config.read_text()) | {"trainable_token_indices": {"embed_tokens": [1]}}
    config.write_text(json.dumps(settings))
    row = np.array([[0, 2, 0, 0]], np.float32)
    key = f"base_model.model.{TABLE}.token_adapter.trainable_tokens_delta"
    write_safetensors(file, {k: v.astype(np.float32) for k, v in read(tmp_path / "a").items()} | {key: row})
    checked = eckart.verify(*pair, tmp_path / "a")
    assert checked.error_of_whole_change == pytest.approx(math.sqrt((9 + 4) / 41))
