"""A checkpoint that changes while it is read: the command ends, and nothing of mixed origin is recorded."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

import eckart
from eckart import FactorStore, factor
from eckart.errors import CheckpointError, StoreError
from support.pairs import SMALL, contents, make_pair
from support.terminal import run


@pytest.fixture
def pair(tmp_path):
    return make_pair(tmp_path, shapes=SMALL)


def in_place(path):
    """Change one byte, so that the size stays the same."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def replaced(path):
    """Put another file in its place, of the same size and modification time."""
    other = path.with_name("other")
    shutil.copyfile(path, other)
    in_place(other)
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def longer(path):
    with path.open("ab") as file:
        file.write(b"\0")


def removed(path):
    path.unlink()


CHANGES = [in_place, replaced, longer]


def changing(change, path, after=2):
    """Return a progress callback that changes a file after some tensors."""

    def progress(step):
        if step.done == after:
            change(path)

    return progress


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("after", [1, 3, len(SMALL)])
def test_a_source_that_changes_during_a_pass_ends_it(pair, tmp_path, side, change, after):
    store, path = tmp_path / "store", getattr(pair, side)
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(CheckpointError) as error,
    ):
        factor(*pair.paths, store, executor=pool, progress=changing(change, path, after))
    assert str(error.value).startswith(f"`{path}`: the file has changed while it was being read. ")
    # Only the tensors that were read before the change are recorded, under the old state of the file.
    _, *lines = (store / "journal.jsonl").read_bytes().splitlines()
    assert len(lines) == after
    with pytest.raises(StoreError, match="the pass is unfinished"):
        FactorStore.open(store)


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_later_pass_notices_that_the_source_has_changed(pair, tmp_path, side):
    store, path = tmp_path / "store", getattr(pair, side)
    with pytest.raises(CheckpointError):
        factor(*pair.paths, store, workers=1, progress=changing(in_place, path))
    with pytest.raises(StoreError, match=rf"the {side} has changed since the store was filled.*--overwrite"):
        factor(*pair.paths, store)
    factor(*pair.paths, store, overwrite=True, workers=1)
    factor(*pair.paths, tmp_path / "fresh", workers=1)
    assert contents(store) == contents(tmp_path / "fresh")


def test_a_source_that_is_removed_during_a_pass_ends_it(pair, tmp_path):
    with pytest.raises(CheckpointError, match=r"base\.safetensors`: there is no such file"):
        progress = changing(removed, pair.base, after=len(SMALL))
        factor(*pair.paths, tmp_path / "store", workers=1, progress=progress)


def test_an_old_store_stays_valid_when_the_source_changes_during_overwrite(pair, tmp_path):
    old = factor(*pair.paths, tmp_path / "store", max_rank=3)
    manifest = (old.path / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError):
        factor(*pair.paths, old.path, overwrite=True, progress=changing(in_place, pair.base))
    assert (old.path / "manifest.json").read_bytes() == manifest
    assert FactorStore.open(old.path).damaged(list(SMALL)) == []


@pytest.mark.parametrize("kept", [False, True], ids=["temporary store", "kept store"])
@pytest.mark.parametrize("after", [1, len(SMALL)])
def test_a_source_that_changes_during_extract_ends_it(pair, tmp_path, kept, after):
    store = tmp_path / "store" if kept else None
    with pytest.raises(CheckpointError, match="the file has changed while it was being read"):
        eckart.extract(
            *pair.paths,
            tmp_path / "adapter",
            rank=3,
            store=store,
            progress=changing(in_place, pair.tuned, after),
        )
    assert not (tmp_path / "adapter").exists()


def test_a_source_that_changes_after_the_pass_ends_extract(pair, tmp_path, monkeypatch):
    # New rows and tensors that are saved whole are read again when the factors are cut.
    from eckart.extraction import extract

    real = extract.arrange

    def late(*args):
        in_place(pair.tuned)
        return real(*args)

    monkeypatch.setattr(extract, "arrange", late)
    with pytest.raises(CheckpointError, match="the file has changed while it was being read"):
        eckart.extract(*pair.paths, tmp_path / "adapter", rank=3)
    assert not (tmp_path / "adapter").exists()


def test_a_base_that_changes_during_merge_ends_it(pair, tmp_path):
    eckart.extract(*pair.paths, tmp_path / "adapter", rank=3)
    with pytest.raises(CheckpointError, match=r"base\.safetensors`: the file has changed while it was being"):
        eckart.merge(
            pair.base, [tmp_path / "adapter"], out=tmp_path / "merged", progress=changing(in_place, pair.base)
        )
    assert not (tmp_path / "merged").exists()


def test_the_command_ends_with_2(pair, tmp_path, monkeypatch):
    from eckart.store import pool

    real, left = pool.run_task, [2]

    def task(task):
        left[0] -= 1
        if left[0] == 0:
            in_place(pair.base)
        return real(task)

    monkeypatch.setattr(pool, "run_task", task)
    done = run("factor", *pair.paths, "-o", tmp_path / "store", "--workers", "1")
    assert done.code == 2
    assert f"{pair.base}`: the file has changed while it was being read" in done.err.replace("\n", "")


def test_a_touched_config_does_not_end_a_pass(pair, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(pair.tuned, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))

    def progress(step):
        (folder / "config.json").touch()

    assert len(factor(pair.base, folder, tmp_path / "store", progress=progress)) == len(SMALL)
