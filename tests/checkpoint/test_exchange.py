"""exchange gives a new file or folder the name of an old one, and loses neither."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from eckart.checkpoint import exchange

WAYS = ["one call", "two renames"]
each_way = pytest.mark.parametrize("way", WAYS)


def choose(way, monkeypatch):
    if way == "two renames":
        monkeypatch.setattr(exchange, "_function", lambda name: None)


def make(path, kind, text):
    if kind == "folder":
        path.mkdir()
        (path / "a").write_text(text)
    else:
        path.write_text(text)


def content(path):
    return (path / "a").read_text() if path.is_dir() else path.read_text()


@each_way
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_new_one_gets_the_name_and_the_old_one_is_kept(tmp_path, monkeypatch, kind, way):
    choose(way, monkeypatch)
    make(tmp_path / "new", kind, "new")
    make(tmp_path / "target", kind, "old")
    old = exchange.exchange(tmp_path / "new", tmp_path / "target")
    assert content(tmp_path / "target") == "new"
    assert content(old) == "old"
    assert sorted(tmp_path.iterdir()) == sorted([old, tmp_path / "target"])


@each_way
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_without_an_old_one_the_new_one_is_renamed(tmp_path, monkeypatch, kind, way):
    choose(way, monkeypatch)
    make(tmp_path / "new", kind, "new")
    assert exchange.exchange(tmp_path / "new", tmp_path / "target") is None
    assert content(tmp_path / "target") == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="other systems have no such call")
def test_this_system_exchanges_in_one_call(tmp_path, monkeypatch):
    """Otherwise the tests above and the suite of kills would not test it."""
    monkeypatch.setattr(os, "rename", None)
    make(tmp_path / "new", "folder", "new")
    make(tmp_path / "target", "folder", "old")
    assert exchange.exchange(tmp_path / "new", tmp_path / "target") == tmp_path / "new"


@each_way
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_missing_new_one_keeps_the_old_one(tmp_path, monkeypatch, kind, way):
    choose(way, monkeypatch)
    make(tmp_path / "target", kind, "old")
    with pytest.raises(FileNotFoundError):
        exchange.exchange(tmp_path / "new", tmp_path / "target")
    assert content(tmp_path / "target") == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


@each_way
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_taken_name_is_refused_by_rename_new(tmp_path, monkeypatch, kind, way):
    choose(way, monkeypatch)
    make(tmp_path / "new", kind, "new")
    make(tmp_path / "target", kind, "old")
    with pytest.raises(OSError) as caught:
        exchange.rename_new(tmp_path / "new", tmp_path / "target")
    assert caught.value.errno in exchange.TAKEN
    assert (content(tmp_path / "new"), content(tmp_path / "target")) == ("new", "old")


@each_way
def test_an_empty_folder_does_not_take_a_name(tmp_path, monkeypatch, way):
    choose(way, monkeypatch)
    make(tmp_path / "new", "folder", "new")
    (tmp_path / "target").mkdir()
    exchange.rename_new(tmp_path / "new", tmp_path / "target")
    assert content(tmp_path / "target") == "new"


@each_way
def test_threads_that_exchange_the_same_name_lose_no_folder(tmp_path, monkeypatch, way):
    choose(way, monkeypatch)
    for i in range(8):
        make(tmp_path / f"new{i}", "folder", str(i))
    with ThreadPoolExecutor(8) as pool:
        olds = list(pool.map(lambda i: exchange.exchange(tmp_path / f"new{i}", tmp_path / "t"), range(8)))
    kept = [old for old in olds if old is not None]
    assert len(kept) == 7
    assert sorted(content(path) for path in tmp_path.iterdir()) == [str(i) for i in range(8)]


def test_a_very_long_name_gets_a_hidden_name_that_the_system_accepts(tmp_path):
    names = ["n" * 255, "n" * 254 + "m"]
    hidden = [exchange.hidden_path(tmp_path / name, "tmp") for name in names]
    for path in hidden:
        path.mkdir()
    assert exchange.hidden_stem(names[0]) != exchange.hidden_stem(names[1])


def test_an_error_of_the_system_is_not_taken_for_a_missing_call(tmp_path, monkeypatch):
    def fail(new, target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(exchange, "_swap", fail)
    make(tmp_path / "new", "folder", "new")
    make(tmp_path / "target", "folder", "old")
    with pytest.raises(OSError, match="Input/output error"):
        exchange.exchange(tmp_path / "new", tmp_path / "target")
    assert (content(tmp_path / "new"), content(tmp_path / "target")) == ("new", "old")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows needs the library")
def test_importing_checkpoint_loads_no_lock_library():
    """Locks by name are for Windows; the library takes 30 ms to import."""
    code = "import sys, eckart.checkpoint; print('filelock' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
