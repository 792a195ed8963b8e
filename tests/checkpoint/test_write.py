"""Written files hold the given data, are the same bytes each time, and appear completely or not at all."""

import errno
import hashlib
import json
import os
import secrets
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize, safe_open
from safetensors.numpy import load_file, save

from eckart.checkpoint import DTYPES, Checkpoint, write_json, write_safetensors
from eckart.errors import OutputError, UsageError

W = np.arange(6, dtype=np.float32).reshape(2, 3)
WRITERS = [
    (lambda path: write_safetensors(path, {"w": W}), lambda path: load_file(path)["w"].sum() == 15),
    (lambda path: write_json(path, {"r": 8}), lambda path: json.loads(path.read_text())["r"] == 8),
]
each_writer = pytest.mark.parametrize(("write", "is_new"), WRITERS, ids=["safetensors", "json"])


@pytest.mark.parametrize("shape", [(3, 5), (7,), (), (0,), (2, 0, 3)])
def test_library_reads_what_was_written(tmp_path, shape):
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    arrays = {name: numbers.astype(dtype) for name, dtype in DTYPES.items()}
    write_safetensors(tmp_path / "a.safetensors", arrays, {"format": "pt"})
    entries = dict(deserialize((tmp_path / "a.safetensors").read_bytes()))
    assert entries.keys() == arrays.keys()
    for name, array in arrays.items():
        assert entries[name]["dtype"] == name
        assert tuple(entries[name]["shape"]) == shape
        assert bytes(entries[name]["data"]) == array.tobytes()
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_bytes_are_those_of_the_library(tmp_path):
    arrays = {"b": W, "a\n\u00e9": W.astype(ml_dtypes.bfloat16), "c": W + 1}
    for metadata in (None, {"format": "pt \u00e9"}):
        write_safetensors(tmp_path / "a.safetensors", arrays, metadata)
        assert (tmp_path / "a.safetensors").read_bytes() == save(arrays, metadata)


@given(st.permutations("abcdefgh"), st.permutations("stuvwxyz"))
def test_order_of_the_tensors_does_not_change_the_bytes(tmp_path_factory, names, keys):
    arrays = {n: np.full(3, ord(n), np.int16 if n in "bdf" else np.float64) for n in names}
    path = tmp_path_factory.getbasetemp() / "order.safetensors"
    write_safetensors(path, arrays, {key: key * 2 for key in keys})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_safetensors(path, dict(sorted(arrays.items())), {key: key * 2 for key in sorted(keys)})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_views_and_big_endian_arrays_are_written_by_value(tmp_path):
    arrays = {
        "t": W.T,
        "step": W[:, ::2],
        "big": W.astype(">f4"),
        "mirror": W[::-1],
        "row": W[0, ::-1],
    }
    write_safetensors(tmp_path / "a.safetensors", arrays)
    checkpoint = Checkpoint.open(tmp_path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.map(name), array)


def test_every_tensor_is_aligned(tmp_path):
    arrays = {n: np.ones(3, d) for n, d in zip("abcd", ["i1", "f8", "f2", "f4"], strict=True)}
    write_safetensors(tmp_path / "a.safetensors", arrays)
    for info in Checkpoint.open(tmp_path).tensors.values():
        assert info.start % arrays[info.name].itemsize == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [({"w": W + 1j}, "a.safetensors: w`.*complex"), ({"__metadata__": W}, "reserves this name")],
)
def test_tensor_that_the_format_cannot_hold_is_refused_by_name(tmp_path, arrays, message):
    with pytest.raises(UsageError, match=message):
        write_safetensors(tmp_path / "a.safetensors", arrays)
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_its_key_order_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"r": 8, "alpha": 16, "name": "\u00e9"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n "r": 8,\n "alpha": 16,\n "name": "\u00e9"\n}\n'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_in_json(tmp_path, number):
    with pytest.raises(OutputError, match="cannot be written as JSON"):
        write_json(tmp_path / "a.json", {"error": number})
    assert list(tmp_path.iterdir()) == []


@each_writer
def test_old_file_is_replaced_and_nothing_else_is_left(tmp_path, write, is_new):
    (tmp_path / "a").write_bytes(b"old")
    write(tmp_path / "a")
    assert is_new(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@each_writer
def test_new_file_has_the_usual_permissions(tmp_path, write, is_new):
    (tmp_path / "plain").write_text("")
    write(tmp_path / "a")
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1


def raise_disk_full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


@each_writer
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, write, is_new, call):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, call, raise_disk_full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@each_writer
def test_file_is_complete_on_disk_before_it_gets_its_name(tmp_path, monkeypatch, write, is_new):
    calls, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        status = os.fstat(descriptor)
        calls.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", lambda *names: calls.append("replace") or replace(*names))
    write(tmp_path / "a")
    folder = [] if sys.platform == "win32" else ["folder"]  # the new name, too, has reached the disk
    assert calls == [(tmp_path / "a").stat().st_size, "replace", *folder]


@each_writer
def test_path_that_cannot_be_written_is_refused(tmp_path, write, is_new):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "no" / "a", tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(OutputError) as caught:
            write(path)
        assert str(path) in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


@each_writer
def test_interrupt_is_passed_on_and_leaves_nothing(tmp_path, monkeypatch, write, is_new):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs permission to make links")
@each_writer
@pytest.mark.parametrize("target", ["victim", "missing"])
def test_a_link_at_the_hidden_name_is_not_followed(tmp_path, monkeypatch, write, is_new, target):
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / f".a.tmp-{'0' * 16}").symlink_to(target)
    random = iter(["0" * 16, "f" * 16])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(random))
    write(tmp_path / "a")
    assert is_new(tmp_path / "a")
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert sorted(file.name for file in tmp_path.iterdir()) == [f".a.tmp-{'0' * 16}", "a", "victim"]


@each_writer
def test_threads_that_write_the_same_file_leave_a_complete_one(tmp_path, write, is_new):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write(tmp_path / "a"), range(40)))
    assert is_new(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
