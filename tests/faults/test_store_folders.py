"""Folders that are not stores are refused and left untouched, whatever their files are called."""

import json
import shutil

import numpy as np
import pytest

import eckart
from eckart import factor
from eckart.checkpoint import write_safetensors
from eckart.errors import OutputError
from support.pairs import SMALL, make_pair
from support.real_data import DATA
from support.terminal import run, tree

BRICKED = DATA / "cases" / "attack" / "bricked_store"
WEB_APP = {"name": "Notes", "short_name": "Notes", "start_url": ".", "display": "standalone", "icons": []}


def web_app(folder):
    (folder / "manifest.json").write_text(json.dumps(WEB_APP, indent=2))
    (folder / "index.html").write_text("<!doctype html>")


def lone_manifest(folder):
    (folder / "manifest.json").write_text(json.dumps(WEB_APP))


def manifest_with_a_format(folder):
    (folder / "manifest.json").write_text(json.dumps({"format": 2, "sources": ["src"], "tensors": []}))


def another_journal(folder):
    (folder / "journal.jsonl").write_text('{"day": "Monday"}\n')


def own_factors(folder):
    (folder / "factors").mkdir()
    write_safetensors(folder / "factors" / "weights.safetensors", {"mine": np.ones((3, 3), np.float32)})


def own_factors_and_manifest(folder):
    own_factors(folder)
    lone_manifest(folder)


def notes_in_factors(folder):
    (folder / "factors").mkdir()
    (folder / "factors" / "notes.txt").write_text("mine")


def hidden_file(folder):
    (folder / ".env").write_text("SECRET=1")


FOLDERS = [
    web_app,
    lone_manifest,
    manifest_with_a_format,
    another_journal,
    own_factors,
    own_factors_and_manifest,
    notes_in_factors,
    hidden_file,
]


@pytest.mark.parametrize("make", FOLDERS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_store_is_refused_and_left_untouched(tmp_path, make, overwrite):
    pair = make_pair(tmp_path, shapes=SMALL)
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    before = tree(folder)
    for call in (
        lambda: factor(*pair.paths, folder, overwrite=overwrite),
        lambda: eckart.extract(*pair.paths, tmp_path / "out", rank=2, store=folder, overwrite=overwrite),
        lambda: eckart.inspect(*pair.paths, store=folder),
    ):
        with pytest.raises(OutputError, match="the folder is not empty and is not a factor store"):
            call()
        assert tree(folder) == before
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_a_web_app(tmp_path):
    pair = make_pair(tmp_path, shapes=SMALL)
    folder = tmp_path / "folder"
    folder.mkdir()
    web_app(folder)
    done = run("factor", *pair.paths, "-o", folder, "--overwrite")
    assert done.code == 2 and "is not a factor store" in done.err
    assert sorted(file.name for file in folder.iterdir()) == ["index.html", "manifest.json"]


@pytest.mark.skipif(not BRICKED.is_dir(), reason="needs ECKART_TEST_DATA")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_that_an_earlier_version_bricked_is_accepted(tmp_path, overwrite):
    pair = make_pair(tmp_path, shapes=SMALL)
    store = tmp_path / "store"
    shutil.copytree(BRICKED, store, copy_function=shutil.copyfile)
    store.chmod(0o755)
    (store / "factors").chmod(0o755)
    again = factor(*pair.paths, store, overwrite=overwrite)
    assert {file.name for file in (store / "factors").iterdir()} == {
        r.file.removeprefix("factors/") for r in again if r.file
    }
    assert again.damaged(list(SMALL)) == []
