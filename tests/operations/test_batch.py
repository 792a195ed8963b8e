"""A folder of adapters is resized as a whole: all of them, or none."""

import json

from eckart.adapter import load_adapter
from eckart.operations import resize_all
from eckart.rank import Rank
from support.lora_folders import pair_with_values, write_lora
from support.terminal import run
from support.zoo import case_of


def ranks(folder):
    return {module.name: module.rank for module in load_adapter(folder)}


def test_a_folder_of_adapters_is_resized_one_by_one(tmp_path):
    names = ("bert", "llama", "mixtral")
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).symlink_to(case_of(name).adapter)
    result = run("resize", tmp_path / "in", "-o", tmp_path / "out", "--rank", 1, "--json", "--quiet")
    assert result.code == 0
    documents = json.loads(result.out)
    assert [document["adapter"] for document in documents] == [str(tmp_path / "out" / name) for name in names]
    for name in names:
        assert set(ranks(tmp_path / "out" / name).values()) == {1}
        case_of(name).loaded(tmp_path / "out" / name)


def test_one_damaged_adapter_is_named_and_nothing_is_written(tmp_path):
    for name in ("a", "b"):
        write_lora(tmp_path / "in" / name, {"q": pair_with_values([3.0, 2.0], 40, 30)})
    (tmp_path / "in" / "b" / "adapter_model.safetensors").write_bytes(b"nothing")
    result = run("resize", tmp_path / "in", "-o", tmp_path / "out", "--rank", 1)
    assert result.code == 2 and str(tmp_path / "in" / "b") in result.err
    assert not (tmp_path / "out").exists()


def test_the_results_have_their_final_paths(tmp_path):
    for name in ("a", "b"):
        write_lora(tmp_path / "in" / name, {"q": pair_with_values([3.0, 2.0], 40, 30)})
    seen = []
    batch = resize_all(tmp_path / "in", tmp_path / "out", rule=Rank(1), progress_for=seen.append)
    results = batch.results
    assert seen == ["a", "b"] and not batch.is_single
    assert [result.path for result in results] == [tmp_path / "out" / "a", tmp_path / "out" / "b"]
    assert all(len(result.adapter) == 1 for result in results)


def test_a_single_adapter_is_resized_in_its_own_place(tmp_path):
    path = write_lora(tmp_path / "in", {"q": pair_with_values([3.0, 2.0], 40, 30)})
    batch = resize_all(path, tmp_path / "out", rule=Rank(1))
    (result,) = batch.results
    assert batch.is_single and result.path == tmp_path / "out" and ranks(tmp_path / "out") == {"q": 1}
