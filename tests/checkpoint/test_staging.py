"""Leftovers of dead runs are removed; those of live runs, links and other people's files are not."""

import os
import secrets
import signal
import subprocess
import sys
import threading

import pytest

from eckart.checkpoint import holding, staging
from eckart.checkpoint.staging import make_staging, remove_leftovers
from support.terminal import tree

TMP, OLD = ".out.tmp-0123456789abcdef", ".out.old-0123456789abcdef"
HOLDER = """
import sys, time
from pathlib import Path
from eckart.checkpoint import holding, staging
holding.LOCKED_BY_NAME = staging.LOCKED_BY_NAME = sys.argv[2] == "name"
held = staging.make_staging(Path(sys.argv[1]))
(held.path / "half").write_text("half")
print(held.path, flush=True)
time.sleep(60)
"""
each_lock = pytest.mark.parametrize("lock", ["inode", "name"] if sys.platform != "win32" else ["name"])


@pytest.fixture
def locked_by(monkeypatch):
    """Return a function that chooses how locks are taken: on Unix both ways work."""

    def choose(lock):
        for module in (holding, staging):
            monkeypatch.setattr(module, "LOCKED_BY_NAME", lock == "name")

    return choose


def put(path, text="left"):
    path.mkdir()
    (path / "a").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@each_lock
def test_a_folder_that_a_live_process_writes_is_kept_and_removed_once_it_is_killed(tmp_path, locked_by, lock):
    locked_by(lock)
    target = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(target), lock], stdout=subprocess.PIPE, text=True
    ) as process:
        path = process.stdout.readline().strip()
        remove_leftovers(target)
        alive = os.path.isdir(path)
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    assert alive
    assert os.path.isdir(path)
    remove_leftovers(target)
    assert names(tmp_path) == []


@each_lock
def test_a_folder_that_a_thread_of_this_process_writes_is_kept(tmp_path, locked_by, lock):
    locked_by(lock)
    held = make_staging(tmp_path / "out")
    other = threading.Thread(target=remove_leftovers, args=(tmp_path / "out",))
    other.start()
    other.join()
    assert held.path.is_dir()
    held.discard()
    assert names(tmp_path) == []


@each_lock
@pytest.mark.parametrize("name", [TMP, OLD, ".out.tmp-999999999", ".out.old-999999999"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_dead_run_left_is_removed(tmp_path, locked_by, lock, name, kind):
    locked_by(lock)
    put(tmp_path / "out", "good")
    if kind == "file":
        (tmp_path / name).write_text("left")
    else:
        put(tmp_path / name)
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "good"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reuses process ids at once")
def test_what_an_earlier_version_writes_at_this_moment_is_kept(tmp_path):
    put(tmp_path / f".out.tmp-{os.getppid()}")
    put(tmp_path / f".out.tmp-{os.getpid()}")  # this version writes no such names
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == [f".out.tmp-{os.getppid()}"]


@each_lock
@pytest.mark.parametrize("name", [OLD, ".out.old-999999999"])
def test_an_output_that_was_being_replaced_is_restored(tmp_path, locked_by, lock, name):
    locked_by(lock)
    put(tmp_path / name, "good")
    put(tmp_path / TMP, "half")
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "good"


@pytest.mark.skipif(sys.platform == "win32", reason="needs permission to make links")
def test_links_and_what_they_lead_to_are_kept(tmp_path):
    put(tmp_path / "victim")
    (tmp_path / TMP).symlink_to("victim")
    (tmp_path / OLD).symlink_to("victim")
    put(tmp_path / ".out.tmp-fedcba9876543210")
    (tmp_path / ".out.tmp-fedcba9876543210" / "link").symlink_to(tmp_path / "victim")
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == sorted([TMP, OLD, "victim"])
    assert (tmp_path / "victim" / "a").read_text() == "left"


@pytest.mark.skipif(sys.platform == "win32", reason="files have no owner there")
def test_files_of_other_users_are_kept(tmp_path, monkeypatch):
    put(tmp_path / TMP)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == [TMP]


@pytest.mark.parametrize(
    "name",
    [".out.tmp", ".out.tmp-", ".out.tmp-0123", ".outer.tmp-0123456789abcdef", "x.tmp-0123456789abcdef"],
)
def test_names_of_other_things_are_kept(tmp_path, name):
    """Four hexadecimal digits are the id of a process that does not run, in a name of an earlier version."""
    put(tmp_path / name)
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == ([] if name == ".out.tmp-0123" else [name])


def test_characters_that_stand_for_others_in_patterns_are_taken_literally(tmp_path):
    put(tmp_path / ".a[b]*.tmp-0123456789abcdef")
    put(tmp_path / ".ab.tmp-0123456789abcdef")
    remove_leftovers(tmp_path / "a[b]*")
    assert names(tmp_path) == [".ab.tmp-0123456789abcdef"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs permission to make links")
@each_lock
@pytest.mark.parametrize("planted", ["link to a folder", "link to nothing", "folder", "file"])
def test_something_at_the_hidden_name_is_not_used(tmp_path, monkeypatch, locked_by, lock, planted):
    """Names are random, so this can only happen by chance; the system call refuses it all the same."""
    locked_by(lock)
    put(tmp_path / "victim")
    taken = tmp_path / TMP
    if planted == "folder":
        put(taken)
    elif planted == "file":
        taken.write_text("left")
    else:
        taken.symlink_to("victim" if planted == "link to a folder" else "missing")
    before = tree(tmp_path)
    random = iter([TMP.removeprefix(".out.tmp-"), "f" * 16])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(random))
    held = make_staging(tmp_path / "out")
    assert held.path.name == ".out.tmp-" + "f" * 16
    held.discard()
    assert tree(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl")
def test_on_a_file_system_without_locks_outputs_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(45, "locks are not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    put(tmp_path / TMP)
    held = make_staging(tmp_path / "out")
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == sorted([TMP, held.path.name])
    held.discard()
    assert names(tmp_path) == [TMP]


@pytest.mark.skipif(sys.platform == "win32", reason="there the lock comes first")
@pytest.mark.parametrize("meanwhile", [remove_leftovers, lambda target: hold_all(target.parent)])
def test_a_folder_that_another_run_takes_before_it_is_locked_is_made_again(tmp_path, monkeypatch, meanwhile):
    """Another run may see the folder between its creation and its lock."""
    mkdir, made = type(tmp_path).mkdir, []

    def make_and_lose(path, *args, **options):
        mkdir(path, *args, **options)
        made.append(path)
        if len(made) == 1:
            meanwhile(tmp_path / "out")

    monkeypatch.setattr(type(tmp_path), "mkdir", make_and_lose)
    held = make_staging(tmp_path / "out")
    assert held.path.is_dir()
    assert made == [made[0], held.path]


def hold_all(folder):
    for path in folder.iterdir():
        assert holding.hold(path)
