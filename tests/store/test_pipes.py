"""A named pipe in the place of a file of a store is never opened: a reader would wait forever."""

from __future__ import annotations

import os
import shutil

import pytest

import eckart
from support.pairs import SMALL, make_pair
from support.terminal import start

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    pair = make_pair(folder, shapes=SMALL)
    eckart.factor(*pair.paths, folder / "store", max_rank=4)

    def stop(step):
        if step.done == 2:
            raise RuntimeError("the pass ends here")

    with pytest.raises(RuntimeError, match="ends here"):
        eckart.factor(*pair.paths, folder / "half", max_rank=4, workers=1, progress=stop)
    return folder


def put_pipe(store, pattern):
    """Replace the first file of a store that matches a pattern."""
    file = sorted(store.glob(pattern))[0]
    file.unlink()
    os.mkfifo(file)


def factor(whole, store):
    return start("factor", whole / "base.safetensors", whole / "tuned.safetensors", "-o", store, "--quiet")


@pytest.mark.parametrize("file", ["manifest.json", "spectra.safetensors", "factors/*.safetensors"])
def test_a_pass_replaces_a_pipe_in_place_of_a_file(whole, tmp_path, file):
    store = shutil.copytree(whole / "store", tmp_path / "store")
    put_pipe(store, file)
    planned = start("plan", store, "--rank", 2)  # it needs the manifest alone
    assert planned.returncode == (2 if file == "manifest.json" else 0), planned
    done = factor(whole, store)
    assert done.returncode == 0, done
    assert all(path.is_file() for path in store.rglob("*") if not path.is_dir())
    assert start("plan", store, "--rank", 2).returncode == 0


def test_a_pipe_in_place_of_the_journal_is_refused(whole, tmp_path):
    store = shutil.copytree(whole / "half", tmp_path / "half")
    put_pipe(store, "journal.jsonl")
    done = factor(whole, store)
    assert done.returncode == 2 and "expected a regular file, found a pipe or a device" in done.stderr, done
