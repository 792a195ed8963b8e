"""Writing: what went in comes out, the same bytes each time, and all of it or nothing."""

import errno
import hashlib
import json
import os
import stat

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
def test_the_library_reads_what_was_written(tmp_path, shape):
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    arrays = {name: numbers.astype(dtype) for name, dtype in DTYPES.items()}
    write_safetensors(tmp_path / "a.safetensors", arrays, {"format": "pt"})
    found = dict(deserialize((tmp_path / "a.safetensors").read_bytes()))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name]["dtype"] == name
        assert tuple(found[name]["shape"]) == shape
        assert bytes(found[name]["data"]) == array.tobytes()
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_bytes_are_those_of_the_library(tmp_path):
    arrays = {"b": W, "a\n\u00e9": W.astype(ml_dtypes.bfloat16), "c": W + 1}
    for metadata in (None, {"format": "pt \u00e9"}):
        write_safetensors(tmp_path / "a.safetensors", arrays, metadata)
        assert (tmp_path / "a.safetensors").read_bytes() == save(arrays, metadata)


@given(st.permutations("abcdefgh"), st.permutations("stuvwxyz"))
def test_the_order_given_does_not_change_the_bytes(tmp_path_factory, names, keys):
    arrays = {n: np.full(3, ord(n), np.int16 if n in "bdf" else np.float64) for n in names}
    path = tmp_path_factory.getbasetemp() / "order.safetensors"
    write_safetensors(path, arrays, {key: key * 2 for key in keys})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_safetensors(path, dict(sorted(arrays.items())), {key: key * 2 for key in sorted(keys)})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_views_and_foreign_byte_orders_are_written_as_their_values(tmp_path):
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
    ("arrays", "words"),
    [({"w": W + 1j}, "a.safetensors: w`.*complex"), ({"__metadata__": W}, "keeps this name")],
)
def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path, arrays, words):
    with pytest.raises(UsageError, match=words):
        write_safetensors(tmp_path / "a.safetensors", arrays)
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_its_order_and_ends_its_line(tmp_path):
    write_json(tmp_path / "a.json", {"r": 8, "alpha": 16, "name": "\u00e9"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n "r": 8,\n "alpha": 16,\n "name": "\u00e9"\n}\n'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_no_nan(tmp_path, number):
    with pytest.raises(OutputError, match="cannot be written as JSON"):
        write_json(tmp_path / "a.json", {"error": number})
    assert list(tmp_path.iterdir()) == []


@each_writer
def test_an_old_file_is_replaced_and_nothing_else_is_left(tmp_path, write, is_new):
    (tmp_path / "a").write_bytes(b"old")
    write(tmp_path / "a")
    assert is_new(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@each_writer
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path, write, is_new):
    (tmp_path / "plain").write_text("")
    write(tmp_path / "a")
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1


def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


@each_writer
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, write, is_new, call):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@each_writer
def test_the_file_is_whole_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, write, is_new):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(os.fstat(fd).st_size) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    write(tmp_path / "a")
    assert done == [(tmp_path / "a").stat().st_size, "replace"]


@each_writer
def test_places_that_cannot_be_written(tmp_path, write, is_new):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "no" / "a", tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(OutputError) as caught:
            write(path)
        assert str(path) in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


@each_writer
def test_an_interrupt_is_passed_on_and_leaves_nothing(tmp_path, monkeypatch, write, is_new):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
