"""Checkpoints are read as the safetensors library reads them, and no file outside the folder is read."""

import json
import os
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import deserialize
from safetensors.numpy import save_file

from eckart.checkpoint import DTYPES, Checkpoint, natural_sort
from eckart.errors import CheckpointError

W = np.arange(6, dtype=np.float32).reshape(2, 3)


def write_index(folder, weight_map, name="model.safetensors.index.json"):
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.fixture
def sharded(tmp_path):
    """Two shards with layers 2 and 10, and their index."""
    save_file({"layers.10.w": W + 10}, tmp_path / "a.safetensors")
    save_file({"layers.2.w": W + 2}, tmp_path / "b.safetensors")
    write_index(tmp_path, {"layers.10.w": "a.safetensors", "layers.2.w": "b.safetensors"})
    return tmp_path


def assert_open_fails(path, *parts):
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(path)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("shape", [(3, 5), (7,), (), (0,), (2, 0, 3)])
def test_every_dtype_is_read_as_the_library_reads_it(tmp_path, shape):
    file = tmp_path / "model.safetensors"
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    save_file({name: numbers.astype(dtype) for name, dtype in DTYPES.items()}, file)
    checkpoint, oracle = Checkpoint.open(file), dict(deserialize(file.read_bytes()))
    assert checkpoint.names() == tuple(natural_sort(DTYPES))
    for name, dtype in DTYPES.items():
        array = checkpoint.map(name)
        assert array.dtype == dtype
        assert checkpoint.info(name).dtype == oracle[name]["dtype"] == name
        assert array.shape == tuple(oracle[name]["shape"]) == shape
        assert array.tobytes() == bytes(oracle[name]["data"])
        np.testing.assert_array_equal(checkpoint.read_float(name), numbers.astype(dtype).astype(float))


def test_file_written_by_torch_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    numbers = torch.tensor([[1.5, -2.25], [0.1, 300.0]])
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
    file = tmp_path / "model.safetensors"
    save_torch({str(kind): numbers.to(kind) for kind in kinds}, file)
    checkpoint = Checkpoint.open(file)
    for kind in kinds:
        array = checkpoint.read_float(str(kind))
        np.testing.assert_array_equal(array, numbers.to(kind).float().numpy())


def test_unaligned_data_is_read(tmp_path):
    file = tmp_path / "model.safetensors"
    values = np.array([1.5, -3.0], ml_dtypes.bfloat16)
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    header = json.dumps({"w": entry}).encode()
    header += b" " * (1 - len(header) % 2)
    assert len(header) % 2 == 1
    file.write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    assert Checkpoint.open(file).read_float("w").tolist() == [1.5, -3.0]


def test_mapped_tensor_is_read_only(tmp_path):
    save_file({"w": W, "none": W[:0]}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    for name in ("w", "none"):
        assert not checkpoint.map(name).flags.writeable


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tensor_is_unmapped_with_its_last_view(tmp_path):
    save_file({"w": W}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)

    def is_mapped():
        return str(tmp_path) in Path("/proc/self/maps").read_text()

    row = checkpoint.map("w")[0]
    assert is_mapped()
    assert row.tolist() == [0, 1, 2]
    del row
    assert not is_mapped()


@pytest.mark.skipif(sys.platform != "linux", reason="posix_fadvise")
def test_prefetch_requests_the_bytes_of_the_tensor(tmp_path, monkeypatch):
    save_file({"v": W, "w": W}, tmp_path / "model.safetensors")
    checkpoint, requests = Checkpoint.open(tmp_path), []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *rest: requests.append(rest))
    checkpoint.prefetch("w")
    info = checkpoint.info("w")
    assert requests == [(info.start, 24, os.POSIX_FADV_WILLNEED)]


def test_prefetch_of_a_deleted_file_leaves_the_error_to_the_read(tmp_path):
    save_file({"w": W}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    checkpoint.prefetch("w")
    with pytest.raises(CheckpointError, match="cannot be mapped"):
        checkpoint.map("w")


def test_truncated_file_raises_instead_of_crashing(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"w": W}, file)
    checkpoint = Checkpoint.open(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="open it again"):
        checkpoint.map("w")


def test_unsupported_dtype_is_refused_on_reading(tmp_path):
    file = tmp_path / "model.safetensors"
    header = b'{"w":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    checkpoint = Checkpoint.open(file)
    assert checkpoint.info("w").dtype == "F4"
    with pytest.raises(CheckpointError, match="found F4"):
        checkpoint.map("w")


def test_unknown_tensor_name_suggests_similar_names(tmp_path):
    save_file({"lm_head.weight": W}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    assert "lm_head.weight" in checkpoint
    assert "lm_head.wieght" not in checkpoint
    with pytest.raises(CheckpointError, match=r"Did you mean lm_head\.weight"):
        checkpoint.map("lm_head.wieght")


def test_names_are_sorted_in_natural_order():
    names = ["h.10.w", "h.2.w", "h.02.w", "h.w", "a", "h." + "9" * 5000]
    assert natural_sort(names) == ["a", "h.02.w", "h.2.w", "h.10.w", names[-1], "h.w"]


def test_sharded_checkpoint_is_opened_by_folder_and_by_index(sharded):
    for path in (sharded, sharded / "model.safetensors.index.json"):
        checkpoint = Checkpoint.open(path)
        assert checkpoint.names() == ("layers.2.w", "layers.10.w")
        assert len(checkpoint) == 2
        assert [file.name for file in checkpoint.files] == ["a.safetensors", "b.safetensors"]
        np.testing.assert_array_equal(checkpoint.map("layers.10.w"), W + 10)
        assert checkpoint.notes == []


def test_index_of_any_name_with_shards_in_a_subfolder_is_read(tmp_path):
    (tmp_path / "shards").mkdir()
    save_file({"w": W}, tmp_path / "shards" / "a.safetensors")
    write_index(tmp_path, {"w": "shards/a.safetensors"}, "unet.safetensors.index.json")
    checkpoint = Checkpoint.open(tmp_path)
    np.testing.assert_array_equal(checkpoint.map("w"), W)
    assert [f["name"] for f in checkpoint.fingerprint()["files"]] == ["shards/a.safetensors"]


def test_single_file_of_any_name_is_read(tmp_path):
    save_file({"w": W}, tmp_path / "adapter_model.safetensors")
    assert Checkpoint.open(str(tmp_path)).names() == ("w",)


def test_usual_file_name_takes_precedence_and_ignored_files_are_noted(tmp_path):
    save_file({"w": W}, tmp_path / "model.safetensors")
    save_file({"v": W}, tmp_path / "model.fp16.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.names() == ("w",)
    assert "ignored: model.fp16.safetensors" in checkpoint.notes[0]


def test_shards_without_an_index_are_refused_and_listed(sharded):
    (sharded / "model.safetensors.index.json").unlink()
    assert_open_fails(sharded, "a.safetensors, b.safetensors", "model.safetensors.index.json")


def test_folder_of_pickles_is_refused_with_the_conversion_command(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert_open_fails(tmp_path, "only pickles", "torch.load('pytorch_model.bin', weights_only=True)")


def test_folder_without_a_checkpoint_is_refused(tmp_path):
    assert_open_fails(tmp_path, "an empty folder")
    (tmp_path / "README.md").write_text("")
    assert_open_fails(tmp_path, "found README.md")


def test_missing_path_is_refused(tmp_path):
    assert_open_fails(tmp_path / "base", "there is no such file or folder")


def test_missing_shard_is_named(sharded):
    (sharded / "b.safetensors").unlink()
    assert_open_fails(sharded, "missing shards (1 of 2): b.safetensors")


@pytest.mark.parametrize(
    "shard",
    [
        "../a.safetensors",
        "/etc/passwd",
        "x/../../a",
        "..\\a",
        "C:\\a",
        "C:a",
        "sub\\a.safetensors",
        "",
        "a\x00",
        "x" * 300,
    ],
)
def test_shard_outside_the_folder_is_refused(sharded, shard):
    write_index(sharded, {"layers.2.w": shard})
    assert_open_fails(sharded, "layers.2.w", "expected the name of a file in this folder")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the index: expected an object, found an empty list"),
        ("{}", "expected an entry weight_map, found none"),
        ('{"weight_map": {"layers.2.w": 1}}', "weight_map.layers.2.w`: expected a string, found 1"),
        ('{"weight_map": {}}', "at least one tensor"),
        ('{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}', "'w' appears twice"),
    ],
)
def test_invalid_index_is_refused(sharded, index, message):
    (sharded / "model.safetensors.index.json").write_text(index)
    assert_open_fails(sharded, "model.safetensors.index.json", message)


def test_index_that_contradicts_its_shards_is_refused(sharded):
    write_index(sharded, {"layers.10.w": "b.safetensors", "layers.2.w": "a.safetensors"})
    assert_open_fails(sharded, "b.safetensors: layers.10.w", "the file does not hold it")
    write_index(sharded, {"layers.10.w": "a.safetensors", "lost": "b.safetensors"})
    assert_open_fails(sharded, "b.safetensors: lost", "the file does not hold it")


def test_tensors_missing_from_the_index_are_noted(sharded):
    save_file({"layers.2.w": W, "extra": W}, sharded / "b.safetensors")
    checkpoint = Checkpoint.open(sharded)
    assert "extra" in checkpoint
    assert "the index does not list 1 tensor in the shards: extra" in checkpoint.notes[0]


def test_tensor_in_two_shards_is_refused(sharded):
    save_file({"layers.2.w": W, "layers.10.w": W}, sharded / "b.safetensors")
    assert_open_fails(sharded, "b.safetensors: layers.10.w", "is also in a.safetensors")


def test_damaged_shard_is_named(sharded):
    (sharded / "b.safetensors").write_bytes((sharded / "b.safetensors").read_bytes()[:-4])
    assert_open_fails(sharded, "b.safetensors: layers.2.w", "4 bytes are missing")


def test_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"w": W}, tmp_path / "outside.safetensors")
    (folder / "model.safetensors").symlink_to("../outside.safetensors")
    assert_open_fails(folder, "this link leads out of its folder", "outside.safetensors")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    assert_open_fails(folder, "this link leads out")
    write_index(folder, {"w": "a.safetensors"})
    assert_open_fails(folder, "a.safetensors`: this link leads out")
    (folder / "model.safetensors.index.json").rename(tmp_path / "index.json")
    (folder / "model.safetensors.index.json").symlink_to("../index.json")
    assert_open_fails(folder, "index.json`: this link leads out")
    # A link that the user names directly is followed.
    assert Checkpoint.open(folder / "a.safetensors").names() == ("w",)


def test_link_within_the_folder_and_link_to_the_folder_are_followed(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"w": W}, folder / "data")
    (folder / "model.safetensors").symlink_to("data")
    (tmp_path / "link").symlink_to("model")
    assert Checkpoint.open(tmp_path / "link").names() == ("w",)


def test_link_to_itself_is_refused(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("model.safetensors")
    assert_open_fails(tmp_path, "cannot be read")


@pytest.fixture
def cache(tmp_path):
    """Two models in the layout of the Hugging Face cache."""
    for name in ("models--me--tiny", "models--you--other"):
        (tmp_path / name / "blobs").mkdir(parents=True)
        (tmp_path / name / "snapshots" / "abc").mkdir(parents=True)
        save_file({"w": W}, tmp_path / name / "blobs" / "0f0f")
        (tmp_path / name / "blobs" / "1e1e").write_text('{"model_type": "llama"}')
    return tmp_path / "models--me--tiny" / "snapshots" / "abc"


def test_links_of_the_hugging_face_cache_are_followed(cache):
    (cache / "model.safetensors").symlink_to("../../blobs/0f0f")
    (cache / "config.json").symlink_to("../../blobs/1e1e")
    checkpoint = Checkpoint.open(cache)
    np.testing.assert_array_equal(checkpoint.map("w"), W)
    assert checkpoint.config == {"model_type": "llama"}


def test_link_from_one_cached_model_to_another_is_refused(cache):
    (cache / "model.safetensors").symlink_to("../../../models--you--other/blobs/0f0f")
    assert_open_fails(cache, "this link leads out")


def test_config_outside_the_folder_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"w": W}, folder / "model.safetensors")
    (tmp_path / "secret.json").write_text("{}")
    (folder / "config.json").symlink_to("../secret.json")
    assert_open_fails(folder, "config.json", "this link leads out")


def test_config_in_the_same_folder_is_read_and_may_be_missing_but_not_invalid(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"w": W}, file, {"format": "pt"})
    assert Checkpoint.open(file).config == {}
    assert Checkpoint.open(file).metadata == {"format": "pt"}
    (tmp_path / "config.json").write_text('{"vocab_size": 7}')
    assert Checkpoint.open(file).config == {"vocab_size": 7}
    (tmp_path / "config.json").write_text('{"vocab_size": ')
    assert_open_fails(file, "config.json", "the configuration is not valid JSON")


def test_fingerprint_is_json_and_changes_with_size_time_and_header(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"w": W}, file)
    first = Checkpoint.open(file).fingerprint()
    (one,) = first["files"]
    assert json.loads(json.dumps(first)) == first
    assert (one["name"], one["size"]) == ("model.safetensors", file.stat().st_size)
    assert Checkpoint.open(tmp_path).fingerprint() == first
    time = one["mtime_ns"]
    os.utime(file, ns=(time, time + 1))
    assert Checkpoint.open(file).fingerprint()["files"][0] == {**one, "mtime_ns": time + 1}
    save_file({"v": W}, file)  # the same size as before
    os.utime(file, ns=(time, time))
    (renamed,) = Checkpoint.open(file).fingerprint()["files"]
    assert renamed["header"] != one["header"]
    assert {**renamed, "header": 0} == {**one, "header": 0}
