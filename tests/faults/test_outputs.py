"""The rule for outputs: what exists is kept without --overwrite; with it, only our own is replaced."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.terminal import ENVIRONMENT, Ran, run, tree
from support.workshop import COMMANDS, Command

FILES = [name for name, command in COMMANDS.items() if not command.is_folder]
FOLDERS = [name for name, command in COMMANDS.items() if command.is_folder]
STREAMS = ["plan", "explain"]  # the commands that write text
each_command = pytest.mark.parametrize("name", COMMANDS)
each_option = pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=["kept", "overwrite"])
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and devices")


@pytest.fixture
def at(tmp_path, monkeypatch) -> Path:
    """Return the folder in which the outputs lie; the test runs in it."""
    folder = tmp_path / "at"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def command_of(name: str) -> Command:
    if COMMANDS[name].extra:
        pytest.importorskip(COMMANDS[name].extra)
    return COMMANDS[name]


def write(inputs: Path, name: str, out: object, *options: str, number: int = 2) -> Ran:
    return run(*COMMANDS[name].argv(inputs, number), "-o", out, *options)


def refuse(done: Ran, out: object, message: str) -> None:
    """Check for exit code 2, nothing on stdout, and one line on stderr that names the output."""
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith(f"eckart: `{out}`: ") and done.err.count("\n") == 1, done.err
    assert message in done.err


@each_command
def test_an_output_is_replaced_only_with_overwrite(inputs, at, name):
    command = command_of(name)
    out = at / command.name
    assert write(inputs, name, out, number=1).code == 0
    old = tree(at)
    refuse(write(inputs, name, out), out, "pass --overwrite to replace it")
    assert tree(at) == old
    assert write(inputs, name, out, "--overwrite").code == 0
    new = tree(at)
    assert new != old or name == "demo"  # which writes the same each time
    shutil.rmtree(out) if command.is_folder else out.unlink()
    assert write(inputs, name, out, "--overwrite").code == 0  # there is nothing to replace
    assert tree(at) == new


OTHERS: dict[str, Callable[[Path], bytes]] = {
    "a model": lambda p: (p / "base.safetensors").read_bytes(),
    "a manifest": lambda p: (p / "store" / "manifest.json").read_bytes(),
    "a statement": lambda p: (p / "a" / "eckart.json").read_bytes(),
    "weights of a folder": lambda p: (p / "a" / "adapter_model.safetensors").read_bytes(),
    "bytes": lambda p: bytes(range(256)),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("other", OTHERS)
@each_option
def test_a_file_of_another_kind_is_never_replaced(inputs, at, name, other, options):
    command = command_of(name)
    out = at / command.name
    out.write_bytes(OTHERS[other](inputs))
    before = tree(at)
    message = "so it will not be overwritten" if options else "this file exists already"
    refuse(write(inputs, name, out, *options), out, message)
    assert tree(at) == before


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_replaced_with_overwrite(inputs, at, name):
    """As mktemp makes it: there is nothing to lose."""
    out = at / command_of(name).name
    out.write_bytes(b"")
    assert write(inputs, name, out, "--overwrite").code == 0
    assert out.stat().st_size > 0


@pytest.mark.parametrize("name", FILES)
@each_option
def test_a_folder_is_never_replaced_by_a_file(inputs, at, name, options):
    out = at / command_of(name).name
    out.mkdir()
    refuse(write(inputs, name, out, *options), out, "expected a file, found a folder")
    assert tree(at) == {out.name: None}


@pytest.mark.parametrize("name", FOLDERS)
@each_option
def test_a_file_and_a_folder_of_other_things_are_never_replaced_by_a_folder(inputs, at, name, options):
    out = at / command_of(name).name
    out.write_bytes(b"mine")
    refuse(write(inputs, name, out, *options), out, "expected a folder, found a file")
    out.unlink()
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    refuse(write(inputs, name, out, *options), out, "the folder is not empty")
    assert tree(at) == {out.name: None, f"{out.name}/thesis.tex": b"mine"}


@pytest.mark.parametrize(
    ("name", "marker", "source"),
    [
        ("merge", "eckart.json", "a/eckart.json"),  # that of an adapter
        ("demo", "base/model.safetensors", "base.safetensors"),  # another model
    ],
)
def test_a_folder_whose_marker_is_of_another_kind_is_never_replaced(inputs, at, name, marker, source):
    (at / "out" / marker).parent.mkdir(parents=True)
    shutil.copyfile(inputs / source, at / "out" / marker)
    before = tree(at)
    refuse(write(inputs, name, at / "out", "--overwrite"), at / "out", f"its {marker} is not")
    assert tree(at) == before


@unix
@each_command
@pytest.mark.parametrize("special", ["a pipe", "a socket", "a device"])
def test_devices_pipes_and_sockets_are_never_replaced(inputs, at, name, special):
    out = at / command_of(name).name
    if special == "a pipe":
        os.mkfifo(out)
    elif special == "a socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(out.name)  # a relative path, because long ones are refused
    elif os.geteuid() == 0:
        os.mknod(out, stat.S_IFCHR | 0o600, os.stat("/dev/null").st_rdev)
    else:
        out.symlink_to("/dev/null")
    before = out.stat()
    for options in ([], ["--overwrite"]):
        refuse(write(inputs, name, out, *options), out, f"found {special}")
    after = out.stat()
    assert (after.st_mode, after.st_ino, after.st_rdev) == (before.st_mode, before.st_ino, before.st_rdev)
    assert [path.name for path in at.iterdir()] == [out.name]


@unix
@each_command
def test_a_link_is_followed_and_stays_a_link(inputs, at, name):
    command = command_of(name)
    out, real = at / command.name, at / f"real-{command.name}"
    assert write(inputs, name, real, number=1).code == 0
    out.symlink_to(real.name)
    refuse(write(inputs, name, out), out, "pass --overwrite to replace it")
    assert write(inputs, name, out, "--overwrite").code == 0
    assert out.is_symlink()
    replaced = tree(at)
    shutil.rmtree(real) if command.is_folder else real.unlink()
    assert write(inputs, name, real).code == 0
    assert tree(at) == replaced


@unix
@each_command
@each_option
@pytest.mark.parametrize("target", ["missing", "loop"])
def test_a_link_that_leads_nowhere_is_refused(inputs, at, name, options, target):
    out = at / command_of(name).name
    out.symlink_to(out.name if target == "loop" else "missing")
    refuse(write(inputs, name, out, *options), out, "this link leads nowhere")
    assert [path.name for path in at.iterdir()] == [out.name]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in STREAMS])
@pytest.mark.parametrize("stream", ["-", "/dev/stdout"])
def test_an_output_that_is_no_text_is_not_written_to_a_stream(inputs, at, name, stream):
    command_of(name)
    done = write(inputs, name, stream)
    assert done.code == 2 and done.out == ""
    assert done.err.count("\n") == 1 and done.err.startswith(f"eckart: `{stream}`: ")
    assert list(at.iterdir()) == []


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("stream", ["-", "/dev/stdout"])
def test_text_is_written_to_stdout_as_it_is_to_a_file(inputs, at, name, stream):
    command = command_of(name)
    format = ("--format", "markdown") if name == "explain" else ()
    assert write(inputs, name, at / command.name).code == 0
    done = write(inputs, name, stream, *format)
    assert done.code == 0
    assert done.out == (at / command.name).read_text("utf-8")
    assert [path.name for path in at.iterdir()] == [command.name]


@unix
def test_a_plan_on_a_redirected_stdout_reads_as_a_plan(inputs, at):
    """The shell has created the file, so it exists already; /dev/stdout leads to it."""
    argv = [*COMMANDS["plan"].argv(inputs, 2), "-o", "/dev/stdout"]
    with (at / "plan.json").open("w") as file:
        subprocess.run(
            [sys.executable, "-m", "eckart", *map(str, argv)], stdout=file, env=ENVIRONMENT, check=True
        )
    argv = ["extract", inputs / "base.safetensors", inputs / "tuned.safetensors", "-o", at / "made"]
    assert run(*argv, "--plan", at / "plan.json").code == 0


OVER_AN_INPUT = {
    "image": ["image", "photo.png", "--rank", 4, "-o", "photo.png"],
    "image-decoded": ["image", "photo.eki", "-o", "photo.eki"],
    "explain": ["explain", "rank", "matrix.csv", "-o", "matrix.csv"],
    "recommend": ["recommend", "ratings.csv", "-o", "ratings.csv"],
    "plan": ["plan", "store", "--rank", 2, "-o", "store/manifest.json"],
    "extract": ["extract", "base.safetensors", "tuned.safetensors", "--plan", "out/plan.json", "-o", "out"],
    "convert-file": ["convert", "k.safetensors", "--to", "diffusers", "-o", "k.safetensors"],
}


@pytest.mark.parametrize("name", OVER_AN_INPUT)
def test_an_input_is_never_replaced(inputs, tmp_path, monkeypatch, name):
    command_of(name)
    at = tmp_path / "copy"
    shutil.copytree(inputs, at)
    monkeypatch.chdir(at)
    (at / "matrix.csv").write_text("1,2\n3,4\n")
    assert run("extract", "base.safetensors", "tuned.safetensors", "--rank", 2, "-o", "out").code == 0
    assert run("plan", "store", "--rank", 2, "-o", "out/plan.json").code == 0
    before = tree(at)
    done = run(*OVER_AN_INPUT[name], "--overwrite")
    assert done.code == 2 and done.err.count("\n") == 1, done
    assert tree(at) == before


@unix
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("-", "cannot be written to the standard output"),
        ("/dev/stdout", "cannot be written to the standard output"),
        ("/dev/null", "expected a folder, found a device"),
        ("pipe", "expected a folder, found a pipe"),
        ("loop", "this link leads nowhere"),
        ("dangling", "this link leads nowhere"),
        ("file", "expected a folder, found a file"),
    ],
)
@pytest.mark.parametrize("command", ["factor", "extract", "inspect"])
def test_a_store_follows_the_same_rule(inputs, at, command, place, message):
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    os.symlink("missing", "dangling")
    (at / "file").write_text("mine")
    before = sorted(os.listdir())
    argv = [command, inputs / "base.safetensors", inputs / "tuned.safetensors"]
    if command == "extract":
        argv += ["--rank", 2, "-o", "out"]
    refuse(run(*argv, "-o" if command == "factor" else "--store", place), place, message)
    assert sorted(os.listdir()) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
