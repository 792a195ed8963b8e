"""Threads and processes that write the same output, and links at the hidden names of earlier versions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import eckart
from eckart.adapter import Adapter, load_adapter
from eckart.errors import OutputError
from support.adapters import adapter, module
from support.terminal import ENVIRONMENT, run, tree
from support.workshop import COMMANDS

NAME = "unet.mid_block.attentions.0.proj_in"
WRITER = """
import sys
from pathlib import Path
from support.adapters import adapter, module
from test_same_output import variant
target, format, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
for _ in range(25):
    variant(number).save(target, format, overwrite=True)
"""
each_format = pytest.mark.parametrize("format", ["peft", "kohya"])


def variant(number: int) -> Adapter:
    """Return an adapter whose two modules hold the same number, so that a mix of two shows."""
    first, second = (module(name, 12, 10, rank=4) for name in (NAME, NAME.replace("in", "out")))
    filled = [replace(m, left=m.left * 0 + number, right=m.right * 0 + number) for m in (first, second)]
    return adapter(*filled, components=("unet",))


def number_of(path: Path) -> int:
    """Return the one number that an adapter holds."""
    read = load_adapter(path)
    numbers = {float(x) for m in read for part in (m.left, m.right) for x in (part.min(), part.max())}
    (number,) = numbers
    return int(number)


def target_in(folder: Path, format: str) -> Path:
    return folder / ("out" if format == "peft" else "out.safetensors")


@each_format
def test_threads_that_overwrite_the_same_output_leave_one_complete_output(tmp_path, format):
    out = target_in(tmp_path, format)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: variant(number).save(out, format, overwrite=True), range(1, 33)))
    assert number_of(out) in range(1, 33)
    assert list(tmp_path.iterdir()) == [out]


@each_format
def test_of_threads_that_write_the_same_new_output_one_succeeds(tmp_path, format):
    def write(number: int) -> int | None:
        try:
            variant(number).save(out, format)
        except OutputError as error:
            assert error.where == str(out)
            assert "exists already" in error.what or "is not empty" in error.what
            return None
        return number

    for attempt in range(8):
        place = tmp_path / str(attempt)
        place.mkdir()
        out = target_in(place, format)
        with ThreadPoolExecutor(4) as pool:
            written = [number for number in pool.map(write, range(1, 5)) if number is not None]
        assert written == [number_of(out)]
        assert list(place.iterdir()) == [out]


@each_format
def test_processes_that_overwrite_the_same_output_never_leave_its_name_free(tmp_path, format):
    out = target_in(tmp_path, format)
    variant(1).save(out, format)
    path = [str(Path(__file__).parent), *(p for p in sys.path if p)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(out), format, str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(path)},
        )
        for number in (1, 2)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    missing = 0
    while any(writer.poll() is None for writer in writers):
        missing += not out.exists()
        time.sleep(0.0002)
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors
    assert number_of(out) in (1, 2)
    assert list(tmp_path.iterdir()) == [out]
    if sys.platform in ("linux", "darwin"):
        assert missing == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs permission to make links")
@pytest.mark.parametrize("name", COMMANDS)
def test_links_at_the_hidden_names_of_earlier_versions_are_not_followed(inputs, tmp_path, name):
    """They had the id of the process in place of a random number, and could be prepared by another user."""
    if COMMANDS[name].extra:
        pytest.importorskip(COMMANDS[name].extra)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("victim")
    victims = tree(tmp_path / "victim")
    out = tmp_path / "at" / COMMANDS[name].name
    out.parent.mkdir()
    target = "../victim" if COMMANDS[name].is_folder else "../victim/file"
    links = [out.parent / f".{out.name}.{state}-{os.getpid()}" for state in ("tmp", "old")]
    for link in links:
        link.symlink_to(target)
    argv = COMMANDS[name].argv(inputs, 2)
    assert run(*argv, "-o", out).code == 0
    assert run(*argv, "-o", out, "--overwrite").code == 0
    assert tree(tmp_path / "victim") == victims
    assert sorted(out.parent.iterdir()) == sorted([*links, out])


def test_leftovers_of_many_killed_runs_are_removed_by_the_next(inputs, tmp_path):
    """Also those of earlier versions, whose names hold the id of a process."""
    for number in range(50):
        (tmp_path / f".out.tmp-{10**9 + number}").mkdir()
        (tmp_path / f".out.tmp-{10**9 + number}" / "half").write_text("half")
        (tmp_path / f".out.old-{number:016x}").mkdir()
    (tmp_path / ".out.tmp-mine").write_text("not ours")
    argv = COMMANDS["convert"].argv(inputs, 2)
    assert run(*argv, "-o", tmp_path / "out").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.tmp-mine", "out"]
    assert eckart.load_adapter(tmp_path / "out").format == "peft"
