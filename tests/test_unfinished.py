"""The register of unfinished files and folders."""

from __future__ import annotations

import pytest

from eckart.unfinished import add_unfinished, forget_unfinished, remove_unfinished, scratch_folder


def test_what_is_registered_is_removed_and_nothing_else(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder, file, link = tmp_path / "folder", tmp_path / "file", tmp_path / "link"
    for path in (folder, file, link, tmp_path / "missing"):
        add_unfinished(path)
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").touch()
    file.touch()
    link.symlink_to(outside)
    done = tmp_path / "done"
    add_unfinished(done)
    done.touch()
    forget_unfinished(done)
    add_unfinished(tmp_path / "parent", only_if_empty=True)
    add_unfinished(tmp_path / "parent" / "inner", only_if_empty=True)
    (tmp_path / "parent" / "inner").mkdir(parents=True)
    add_unfinished(outside, only_if_empty=True)
    remove_unfinished()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done", "outside"]
    assert (outside / "kept").exists()
    parent = tmp_path / "parent"
    for path in (folder, file, link, tmp_path / "missing", outside, parent, parent / "inner"):
        forget_unfinished(path)


def test_a_scratch_folder_is_removed_at_the_end_of_its_block():
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").touch()
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), scratch_folder() as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    with scratch_folder() as folder:
        remove_unfinished()
        assert not folder.exists()
