"""OutputFolder writes a folder completely or not at all, and never replaces a folder without its marker."""

import errno
import os
import shutil

import pytest

from eckart.checkpoint import OutputFolder, exchange, refuse_overlap
from eckart.errors import OutputError, UsageError

MARKER = "plan.json"


def tree(folder):
    return {str(p.relative_to(folder)): p.is_dir() or p.read_text() for p in folder.rglob("*")}


@pytest.fixture
def old(tmp_path):
    """Create a folder as an earlier run leaves it."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / MARKER).write_text("old")
    (folder / "stale").write_text("old")
    return folder


OLD = {"out": True, f"out/{MARKER}": "old", "out/stale": "old"}


def test_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "out"
    with OutputFolder(target) as staging:
        (staging / "a").write_text("new")
        assert not target.exists()
        assert staging.parent == tmp_path
        assert staging.name.startswith(".")
    assert tree(tmp_path) == {"out": True, "out/a": "new"}


def test_parent_folders_are_created_and_removed_on_failure(tmp_path):
    with OutputFolder(tmp_path / "x" / "y" / "out") as staging:
        (staging / "a").write_text("new")
    assert tree(tmp_path / "x" / "y") == {"out": True, "out/a": "new"}
    with pytest.raises(RuntimeError), OutputFolder(tmp_path / "z" / "y" / "out"):
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with OutputFolder(tmp_path / "out") as staging:
        (staging / "a").write_text("new")
    assert tree(tmp_path) == {"out": True, "out/a": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path, error):
    with pytest.raises(error), OutputFolder(tmp_path / "out") as staging:
        (staging / "a").write_text("new")
        raise error
    assert tree(tmp_path) == {}


def test_folder_that_is_not_empty_is_kept(old):
    with pytest.raises(OutputError, match=r"is not empty.*overwrite=True"), OutputFolder(old):
        pytest.fail("the block must not run")
    assert tree(old.parent) == OLD


def test_overwriting_replaces_the_whole_folder_at_the_end(old):
    with OutputFolder(old, overwrite=True, marker=MARKER) as staging:
        (staging / "a").write_text("new")
        assert (old / "stale").read_text() == "old"
    assert tree(old.parent) == {"out": True, "out/a": "new"}


def test_failure_while_overwriting_keeps_the_old_folder(old):
    with (
        pytest.raises(RuntimeError),
        OutputFolder(old, overwrite=True, marker=MARKER) as staging,
    ):
        (staging / "a").write_text("new")
        raise RuntimeError
    assert tree(old.parent) == OLD


def refuse_exchange(number):
    """Return a replacement of the atomic exchange that fails with an error number."""

    def fail(new, target):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("failing", [1, 2])
def test_failed_rename_keeps_the_old_folder(old, monkeypatch, failing):
    """On a file system without an atomic exchange, replacing takes two renames."""
    rename, calls = os.rename, []
    monkeypatch.setattr(exchange, "_swap", refuse_exchange(errno.ENOSYS))

    def fail(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with (
        pytest.raises(OutputError, match="Input/output error"),
        OutputFolder(old, overwrite=True, marker=MARKER) as staging,
    ):
        (staging / "a").write_text("new")
        monkeypatch.setattr(os, "rename", fail)
    assert len(calls) >= failing
    assert tree(old.parent) == OLD


def test_failed_exchange_keeps_the_old_folder(old, monkeypatch):
    monkeypatch.setattr(exchange, "_swap", refuse_exchange(errno.EIO))
    with (
        pytest.raises(OutputError, match="Input/output error"),
        OutputFolder(old, overwrite=True, marker=MARKER) as staging,
    ):
        (staging / "a").write_text("new")
    assert tree(old.parent) == OLD


def test_folder_without_the_marker_is_never_overwritten(old):
    (old / MARKER).unlink()
    with (
        pytest.raises(OutputError, match=f"has no {MARKER}"),
        OutputFolder(old, overwrite=True, marker=MARKER),
    ):
        pytest.fail("the block must not run")
    assert (old / "stale").read_text() == "old"


def test_overwriting_without_a_marker_is_refused(old):
    with pytest.raises(UsageError, match="overwrite=True needs a marker"):
        OutputFolder(old, overwrite=True)


def test_folder_filled_by_another_process_meanwhile_is_kept(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="is not empty"), OutputFolder(target) as staging:
        (staging / "a").write_text("new")
        target.mkdir()
        (target / "theirs").write_text("theirs")
    assert tree(tmp_path) == {"out": True, "out/theirs": "theirs"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_file_at_the_path_is_kept(tmp_path, overwrite):
    (tmp_path / "out").write_text("file")
    for path in (tmp_path / "out", tmp_path / "out" / "below"):
        with (
            pytest.raises(OutputError) as caught,
            OutputFolder(path, overwrite=overwrite, marker=MARKER),
        ):
            pytest.fail("the block must not run")
        assert str(path) in str(caught.value)
    assert tree(tmp_path) == {"out": "file"}


def test_root_folder_is_refused():
    with pytest.raises(OutputError, match="the root folder cannot be replaced"):
        OutputFolder("/", overwrite=True, marker=MARKER)


def test_link_to_a_folder_stays_a_link(old):
    link = old.parent / "link"
    link.symlink_to("out")
    with OutputFolder(link, overwrite=True, marker=MARKER) as staging:
        (staging / "a").write_text("new")
    assert link.is_symlink()
    assert tree(old) == {"a": "new"}


def test_staging_folder_of_a_killed_run_is_cleared(tmp_path):
    with OutputFolder(tmp_path / "out") as staging:
        shutil.copytree(staging, tmp_path / "kept")
        name = staging.name
    (tmp_path / name).mkdir()
    (tmp_path / name / "half").write_text("")
    with OutputFolder(tmp_path / "out") as staging:
        assert list(staging.iterdir()) == []
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_check_refuses_what_entering_refuses_and_writes_nothing(tmp_path, overwrite):
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("text")
    before = tree(tmp_path)
    for name in ("file", "full"):
        folder = OutputFolder(tmp_path / name, overwrite=overwrite, marker=MARKER)
        with pytest.raises(OutputError) as checked:
            folder.check()
        with pytest.raises(OutputError) as entered, folder:
            pytest.fail("the block must not run")
        assert str(checked.value) == str(entered.value)
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        OutputFolder(tmp_path / "file" / "a" / "b").check()
    OutputFolder(tmp_path / "new" / "folder").check()
    assert tree(tmp_path) == before


def test_an_output_that_is_or_contains_an_input_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    for out in (tmp_path / "in", tmp_path, tmp_path / "link", tmp_path / "in" / ".." / "in"):
        with pytest.raises(OutputError, match="is or contains the input"):
            refuse_overlap(out, [None, tmp_path / "elsewhere", tmp_path / "in"])
    refuse_overlap(tmp_path / "in" / "below", [tmp_path / "in"])
    refuse_overlap(tmp_path / "i", [tmp_path / "in", None])
