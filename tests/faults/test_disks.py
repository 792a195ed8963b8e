"""Paths and disks that fail: each command reports one line, no internal error, and writes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

import eckart
from eckart.errors import AdapterError, CheckpointError, EckartError
from eckart.oserrors import _FIXES, fix_for
from support.fine_tune import make_fine_tune
from support.many import run_many
from support.terminal import run, tree

LONG = "a" * 300
# Every path that a command reads or writes is BAD in one of these lines.
LINES = """
    inspect BAD
    inspect BAD tuned.safetensors
    inspect base.safetensors BAD
    inspect base.safetensors tuned.safetensors --store BAD
    factor BAD tuned.safetensors -o new
    factor base.safetensors BAD -o new
    factor base.safetensors tuned.safetensors -o BAD
    extract base.safetensors tuned.safetensors -o BAD --rank 2
    extract base.safetensors tuned.safetensors -o new --plan BAD
    extract base.safetensors tuned.safetensors -o new --rank 2 --store BAD
    plan BAD --rank 2
    plan store --rank 2 -o BAD
    verify base.safetensors tuned.safetensors BAD
    verify BAD tuned.safetensors adapter
    resize BAD -o new --rank 1
    resize adapter -o BAD --rank 1
    combine adapter BAD -o new
    combine adapter adapter -o BAD
    merge BAD adapter -o new
    merge base.safetensors BAD -o new
    merge base.safetensors adapter -o BAD
    convert BAD -o new.safetensors --to kohya
    convert adapter -o BAD --to peft
    convert adapter -o BAD.safetensors --to kohya
    check BAD --for vllm
    check adapter --base BAD
    check adapter --against BAD
    explain svd 1,2;3,4 -o BAD
    explain svd BAD.csv
    explain svd BAD.npy
    image BAD.png
    recommend BAD.csv
    recommend BAD.safetensors
    demo --pair -o BAD
""".strip().splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A fine-tune, and next to it paths that fail in different ways."""
    folder = tmp_path_factory.mktemp("place")
    make_fine_tune(folder)
    (folder / "file").write_text("text\n")
    for suffix in ("", ".csv", ".npy", ".png", ".safetensors"):
        (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
        (folder / f"through{suffix}").symlink_to(f"through{suffix}/x")
    locked = folder / "locked"
    locked.mkdir()
    (locked / "x.csv").write_text("1,2\n3,4\n")
    (locked / "x.safetensors").write_bytes((folder / "base.safetensors").read_bytes())
    shutil.copytree(folder / "adapter", locked / "x")
    return folder


BAD = {
    "a link to itself": "loop",
    "a link through itself": "through",
    "a parent that is a file": "file/x",
    "a parent that is a link to itself": "loop/x",
    "a name that is too long": LONG,
    "a parent without permissions": "locked/x",
    "a folder without permissions": "locked",
}


@pytest.mark.skipif(sys.platform != "linux", reason="takes the rights of root away as Linux does")
@pytest.mark.parametrize("kind", BAD)
def test_a_path_that_cannot_be_used_is_one_line(place, kind):
    lines = [line.replace("BAD", BAD[kind]).split() for line in LINES]
    if BAD[kind] == "locked":  # the suffix makes it another path, which does not exist
        lines = [line for line in lines if not any(word.startswith("locked.") for word in line)]
    before = tree(place)
    (place / "locked").chmod(0)
    try:
        results = run_many(lines, place)
    finally:
        (place / "locked").chmod(0o755)
    assert len(results) == len(lines)
    for line, done in zip(lines, results, strict=True):
        errors = [text for text in done.err.splitlines() if not text.startswith("note: ")]
        assert (done.code, done.out) == (2, ""), (line, done)
        assert len(errors) == 1 and errors[0].startswith("eckart: `"), (line, done)
        assert "internal error" not in errors[0], (line, done)
    assert tree(place) == before


# A disk that fails


def fails(number: int, *names: object):
    """Return a function that raises an error of the system."""

    def fail(*args, **kwargs):
        if len(names) == 2:
            raise OSError(number, os.strerror(number), names[0], None, names[1])
        raise OSError(number, os.strerror(number), *names)

    return fail


@pytest.mark.parametrize("name", [name for name in _FIXES if hasattr(errno, name)])
def test_every_error_of_the_system_has_its_fix(tmp_path, monkeypatch, name):
    number = getattr(errno, name)
    monkeypatch.setattr(os, "scandir", fails(number, "the/path"))
    done = run("inspect", tmp_path)
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1
    assert "internal error" not in done.err
    if number not in (errno.ENOENT, errno.EACCES, errno.EPERM):  # these have messages of their own
        assert os.strerror(number) in done.err
        assert fix_for(OSError(number, "")) in done.err


def test_a_full_disk_while_the_pair_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", fails(errno.ENOSPC))
    done = run("demo", "--pair", "-o", tmp_path / "pair")
    assert done.code == 2 and done.out == ""
    assert done.err == (
        f"eckart: `{tmp_path / 'pair'}`: it cannot be written (No space left on device). "
        "Free some space, or use another path.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_a_file_of_the_base_is_copied(place, tmp_path, monkeypatch):
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes((place / "base.safetensors").read_bytes())
    (base / "config.json").write_text("{}")
    # As shutil reports it: the source first, although it is the copy that does not fit.
    monkeypatch.setattr(shutil, "copyfile", fails(errno.ENOSPC, str(base / "config.json"), "copy"))
    done = run("merge", base, place / "adapter", "-o", tmp_path / "new")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(
        f"eckart: `{tmp_path / 'new'}`: it cannot be written (No space left on device). Free some space"
    )
    monkeypatch.setattr(shutil, "copyfile", fails(errno.EIO, str(base / "config.json")))
    done = run("merge", base, place / "adapter", "-o", tmp_path / "new")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(
        f"eckart: `{base / 'config.json'}`: it cannot be read (Input/output error). Check the disk"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize(
    ("call", "error"),
    [(eckart.load_adapter, AdapterError), (eckart.checkpoint.Checkpoint.open, CheckpointError)],
    ids=["load_adapter", "Checkpoint.open"],
)
@pytest.mark.parametrize("name", ["is_dir", "stat", "open"])
def test_what_opens_files_raises_errors_of_its_own(place, monkeypatch, call, error, name):
    path = place / ("adapter" if error is AdapterError else "base.safetensors")
    original = getattr(Path, name)

    def fail(self, *args, **kwargs):
        if place in self.parents:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, name, fail)
    with pytest.raises(EckartError, match=r"cannot be read .Input/output error.. Check the disk") as caught:
        call(path)
    assert isinstance(caught.value, AdapterError | CheckpointError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EIO, "Input/output error", "x\x1b[2J"),
            r"eckart: `x\x1b[2J`: Input/output error. Check the disk",
        ),
        (OSError(errno.EIO, "Input/output error"), "eckart: Input/output error. Check the disk"),
        (OSError("no number"), "eckart: no number. Check the path and the disk."),
        (RecursionError("maximum depth"), "eckart: the input is nested too deeply."),
        (MemoryError(), "eckart: out of memory. Use --workers 1"),
        (KeyError("x"), "eckart: internal error: KeyError: 'x'. This is a bug in Eckart."),
    ],
    ids=["a file", "no file", "no number", "recursion", "memory", "a bug"],
)
def test_the_last_resort_names_what_happened(monkeypatch, error, line):
    def fail(app):
        raise error

    monkeypatch.setattr("eckart.cli.usage.run", fail)
    done = run("--version")
    assert done.code == 2 and done.out == ""
    assert done.err.startswith(line) and done.err.count("\n") == 1
