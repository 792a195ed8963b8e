"""Parts of adapters that are not factors: whole modules, biases, tables, and rows of tables."""

import copy
import json

import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint
from eckart.errors import AdapterError
from eckart.operations import combine, convert, merge, resize
from support.adapter_files import REPLACED_ROWS, TABLE_FACTORS, adapter_with
from support.tuned_models import bert, llama, load_file, load_peft, torch
from support.zoo import case_of, json_of, make_adapter, same_outputs, save_base

TABLE_NAME = "model.embed_tokens.weight"
ROWS_KEY = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"


def rows_of(name):
    return load_adapter(case_of(name).adapter).rows[TABLE_NAME]


def test_rows_are_read_with_their_indices():
    assert rows_of("llama rows").indices == (1, 3, 5)
    assert rows_of("llama tied rows").indices == (2, 4)
    stored = load_file(case_of("llama rows").adapter / "adapter_model.safetensors")[ROWS_KEY]
    np.testing.assert_array_equal(rows_of("llama rows").values, stored.numpy())


def test_a_table_that_peft_saved_by_itself_is_not_a_module_to_save(tmp_path):
    case = case_of("llama tables")
    adapter = load_adapter(case.adapter)
    assert set(adapter.dense) == {TABLE_NAME, "lm_head.weight"} and not adapter.unknown
    resize(case.adapter, tmp_path / "out", rank=2)
    assert json_of(tmp_path / "out")["modules_to_save"] is None
    old, new = (load_file(f / "adapter_model.safetensors") for f in (case.adapter, tmp_path / "out"))
    assert old.keys() == new.keys()


@pytest.mark.parametrize("saved", [True, False])
def test_a_grown_vocabulary_is_merged(saved, tmp_path):
    """PEFT saves resized tables; merged, they replace those of the base."""
    model = llama()
    save_base(model, tmp_path / "base")
    model.resize_token_embeddings(61)
    make_adapter(model, tmp_path / "a", save=saved, r=2, lora_alpha=3, target_modules=["q_proj"])
    assert set(load_adapter(tmp_path / "a").dense) == ({TABLE_NAME, "lm_head.weight"} if saved else set())
    done = merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "m")
    assert sum("61 rows" in note for note in done.notes) == (2 if saved else 0)
    shape = Checkpoint.open(tmp_path / "m").info(TABLE_NAME).shape
    assert shape[0] == (61 if saved else Checkpoint.open(tmp_path / "base").info(TABLE_NAME).shape[0])
    if saved:
        np.testing.assert_array_equal(
            Checkpoint.open(tmp_path / "m").map(TABLE_NAME),
            model.get_input_embeddings().weight.detach().numpy(),
        )


def test_the_index_states_the_size_of_the_tensors(tmp_path):
    """Whole tensors in float32 take the base's bfloat16."""
    case = case_of("bert")
    case.fresh_base().to(torch.bfloat16).save_pretrained(tmp_path / "base", max_shard_size="20kB")
    merge(tmp_path / "base", [case.adapter], tmp_path / "m")
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    model = Checkpoint.open(tmp_path / "m")
    assert index["metadata"]["total_size"] == sum(info.nbytes for info in model.tensors.values())
    assert {info.dtype for info in model.tensors.values()} == {"BF16"}


# --- two adapters ---


def two(folder, first, second):
    model = bert()
    save_base(model, folder / "base")
    for name, settings, seed in (("a", first, 1), ("b", second, 2)):
        make_adapter(model, folder / name, seed=seed, r=2, lora_alpha=3, **settings)
    return model


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(12).reshape(2, 6)).logits


SAVED = {"target_modules": ["query"], "modules_to_save": ["classifier"]}
BIASED = {"target_modules": ["key"], "bias": "lora_only"}


@pytest.mark.parametrize("first, second", [(SAVED, BIASED), (BIASED, SAVED)])
def test_whole_tensors_of_both_adapters_are_loaded_from_their_sum(first, second, tmp_path):
    model = two(tmp_path, first, second)
    done = combine([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    config = json_of(tmp_path / "both")
    assert config["modules_to_save"] == ["classifier"] and config["bias"] == "lora_only"
    loaded = load_peft(copy.deepcopy(model), tmp_path / "both").eval()
    # By hand: the base with both updates merged, the one's classifier and the other's biases.
    merge(tmp_path / "base", [tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    merged = type(model).from_pretrained(tmp_path / "m").eval()
    same_outputs(logits(merged), logits(loaded))
    whole = load_adapter(tmp_path / "both").dense
    assert set(whole) == {
        "classifier.weight",
        "classifier.bias",
        *(f"bert.encoder.layer.{i}.attention.self.key.bias" for i in range(2)),
    }
    assert done.statement.error < 1e-6


def test_an_adapter_of_weight_zero_adds_no_whole_tensor(tmp_path):
    two(tmp_path, BIASED, SAVED)
    combine([tmp_path / "a", tmp_path / "b"], tmp_path / "both", [1.0, 0.0])
    assert not any("classifier" in name for name in load_adapter(tmp_path / "both").dense)
    merge(tmp_path / "base", [tmp_path / "a", tmp_path / "b"], tmp_path / "m", [1.0, 0.0])
    before, after = (Checkpoint.open(tmp_path / n).map("classifier.weight") for n in ("base", "m"))
    np.testing.assert_array_equal(before, after)


def test_equal_rows_of_two_adapters_are_kept_and_different_rows_are_refused(tmp_path):
    rows = {"trainable_token_indices": [1, 3]}
    one = adapter_with(more=REPLACED_ROWS, **rows)(tmp_path / "1")
    same = adapter_with(more=REPLACED_ROWS, **rows)(tmp_path / "2")
    moved = adapter_with(more=REPLACED_ROWS, trainable_token_indices=[1, 2])(tmp_path / "3")
    combine([one, same], tmp_path / "both")
    assert load_adapter(tmp_path / "both").rows[TABLE_NAME].indices == (1, 3)
    doubled = {key: 2 * value for key, value in REPLACED_ROWS.items()}
    for other in (moved, adapter_with(more=doubled, **rows)(tmp_path / "4")):
        with pytest.raises(AdapterError, match=r"embed_tokens\.weight`: two .* hold different new rows"):
            combine([one, other], tmp_path / "no")
    assert not (tmp_path / "no").exists()


# --- rows that cannot be used ---


@pytest.mark.parametrize(
    "indices, message",
    [
        (None, "trainable_token_indices does not list 2 rows"),
        ([1], "does not list 2 rows"),
        ([1, -3], "does not list 2 rows"),
        ({"lm_head": [1, 3]}, "does not list 2 rows"),
    ],
)
def test_rows_without_indices_are_refused(indices, message, tmp_path):
    path = adapter_with(more=REPLACED_ROWS, trainable_token_indices=indices)(tmp_path / "a")
    with pytest.raises(AdapterError, match=message) as caught:
        load_adapter(path)
    assert "trainable_tokens_delta" in str(caught.value)


@pytest.mark.parametrize(
    "indices, found",
    [
        ("1, 3", 'trainable_token_indices`: expected a list .*, found "1, 3"'),
        ([1, 3.5], r"\[1\]`: .*found 3.5"),
    ],
)
def test_rows_with_indices_of_another_type_are_refused(indices, found, tmp_path):
    path = adapter_with(more=REPLACED_ROWS, trainable_token_indices=indices)(tmp_path / "a")
    with pytest.raises(AdapterError, match=found):
        load_adapter(path)


@pytest.mark.parametrize("indices", [[1, 999], [999, 1]])
def test_rows_beyond_the_table_of_the_base_are_refused(indices, tmp_path):
    case = case_of("llama rows")
    folder = tmp_path / "a"
    folder.mkdir()
    for file in case.adapter.glob("adapter_*"):
        (folder / file.name).write_bytes(file.read_bytes())
    config = json_of(folder) | {"trainable_token_indices": [0, *indices]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match=r"up to row 999, but the base has shape \(\d+, \d+\)"):
        merge(case.base, [folder], tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
def test_formats_of_one_file_refuse_rows(to, tmp_path):
    with pytest.raises(AdapterError, match=r"has new rows, which the .* format cannot store"):
        convert(case_of("llama rows").adapter, tmp_path / "o.safetensors", to)


def test_rows_are_left_out_for_a_server_that_refuses_them_with_a_note(tmp_path):
    more = REPLACED_ROWS | TABLE_FACTORS
    path = adapter_with(more=more, trainable_token_indices=[1, 3])(tmp_path / "a")
    done = resize(path, tmp_path / "out", rank=4, consumers="vllm")
    assert done.statement.layout.whole_left_out == (TABLE_NAME,)
    assert any("1 tensor saved whole or by rows left out (vLLM)" in note for note in done.notes)
    assert "trainable_token_indices" not in json_of(tmp_path / "out")
    assert not load_adapter(tmp_path / "out").rows


def test_unknown_tensors_are_noted_and_left_out_of_a_sum(tmp_path):
    path = adapter_with(more={"model.strange.weight": np.ones((2, 2), np.float32)})(tmp_path / "a")
    assert any(
        "strange" in note and "outside the low-rank updates" in note for note in load_adapter(path).notes
    )
    done = combine([path, path], tmp_path / "out")
    assert any("strange" in note and "left out of the sum" in note for note in done.notes)
    assert not load_adapter(tmp_path / "out").unknown
