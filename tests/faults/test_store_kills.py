"""A pass that is killed at any moment: readers see the old or the new store, and the command completes."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import eckart
from eckart import FactorStore, factor
from support import crash
from support.pairs import MATRICES, SMALL, contents, make_pair

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no SIGKILL")

ENVIRONMENT = {
    **os.environ,
    "OPENBLAS_NUM_THREADS": "1",  # so that all processes add in the same order
    "PYTHONPATH": str(Path(eckart.__file__).parents[1]),
}
OLD = {"max_rank": 3}  # the pass that filled the old store
SCENARIOS = {"extended": {"max_rank": 9}, "overwritten": {"max_rank": 9, "overwrite": True}}


def run(pair, store, **options):
    """Run a pass in this process, one tensor at a time, and return the names of the tensors processed."""
    done = []
    with ThreadPoolExecutor(1) as threads:
        factor(*pair.paths, store, executor=threads, progress=lambda step: done.append(step.name), **options)
    return done


def kill_at_every_step(pair, folder, template, options):
    """Return the stores of passes that were killed at every step, and that of one that was not."""
    subprocess.run(
        [sys.executable, crash.__file__, *map(str, pair.paths), folder, template, json.dumps(options)],
        env=ENVIRONMENT,
        check=True,
        timeout=120,
    )
    *killed, last = sorted(folder.iterdir(), key=lambda store: int(store.name))
    return killed, last


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"), shapes=SMALL)


@pytest.fixture(scope="module", params=SCENARIOS)
def killed(request, pair, tmp_path_factory):
    """The options of a pass over an old store, the old store, the new one, and those of killed passes."""
    folder = tmp_path_factory.mktemp("killed")
    options = SCENARIOS[request.param]
    run(pair, folder / "old", **OLD)
    stores, new = kill_at_every_step(pair, folder / "stores", folder / "old", options)
    return options, folder / "old", new, stores


def test_an_uninterrupted_pass_over_an_old_store_gives_the_bytes_of_a_fresh_one(pair, killed, tmp_path):
    options, _, new, _ = killed
    run(pair, tmp_path / "fresh", max_rank=options["max_rank"])
    assert contents(new) == contents(tmp_path / "fresh")


def test_readers_find_the_old_or_the_new_store_complete(killed):
    _, old, new, stores = killed
    manifests = [(folder / "manifest.json").read_bytes() for folder in (old, new)]
    names = [record.name for record in FactorStore.open(new)]
    seen = set()
    for store in stores:
        seen.add(manifests.index((store / "manifest.json").read_bytes()))
        opened = FactorStore.open(store)
        assert opened.damaged(names) == [], store
        for record in opened:
            if record.rank:
                assert opened.factors(record.name).rank == record.rank
    assert seen == {0, 1}
    assert len(stores) > 3 * len(SMALL)


def test_the_same_command_completes_with_the_same_bytes_and_repeats_no_work(pair, killed, tmp_path):
    options, old, new, stores = killed
    pending = set(SMALL) if options.get("overwrite") else set(SMALL) & set(MATRICES)  # vectors are done
    remained = set()
    for store in stores:
        again = tmp_path / store.name
        shutil.copytree(store, again)
        is_old = (store / "manifest.json").read_bytes() == (old / "manifest.json").read_bytes()
        done = run(pair, again, **options)
        assert contents(again) == contents(new), store
        if is_old:
            assert set(done) == pending - journaled(store)
            remained.add(len(done))
    assert remained == set(range(len(pending) + 1))


def journaled(store):
    """Return the names of the tensors in the journal of a store."""
    if not (store / "journal.jsonl").exists():
        return set()
    _, *lines = (store / "journal.jsonl").read_bytes().splitlines()
    return {json.loads(line)["tensor"]["name"] for line in lines}


def test_the_command_without_overwrite_is_accepted_too(pair, killed, tmp_path):
    _, _, _, stores = killed
    for store in stores:
        again = tmp_path / store.name
        shutil.copytree(store, again)
        run(pair, again, max_rank=9)
        opened = FactorStore.open(again)
        assert opened.damaged([r.name for r in opened]) == []
        assert all(r.rank == min(9, r.size) for r in opened)
        kept = {"manifest.json", "spectra.safetensors", *(r.file for r in opened if r.file)}
        assert set(contents(again)) == kept, store


def test_a_resumed_pass_that_is_killed_again_completes(pair, killed, tmp_path):
    options, _, new, stores = killed
    again, last = kill_at_every_step(pair, tmp_path / "again", half_done(stores), options)
    assert contents(last) == contents(new)
    for store in again:
        run(pair, store, **options)
        assert contents(store) == contents(new)


def half_done(stores):
    """Return a store in which two matrices were finished."""
    return next(store for store in stores if len(journaled(store) & set(MATRICES)) == 2)


def test_overwrite_with_other_demands_than_the_interrupted_pass_starts_over(pair, killed, tmp_path):
    _, _, _, stores = killed
    store = tmp_path / "store"
    shutil.copytree(half_done(stores), store)
    assert len(run(pair, store, max_rank=4, overwrite=True)) == len(SMALL)
    run(pair, tmp_path / "fresh", max_rank=4)
    assert contents(store) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_factors_and_spectra_but_no_manifest_is_accepted(pair, tmp_path, overwrite):
    """Earlier versions left this when --overwrite was killed. Their files had no checksums in their names."""
    run(pair, tmp_path / "fresh")
    expected = contents(tmp_path / "fresh")
    store = tmp_path / "store"
    shutil.copytree(tmp_path / "fresh", store)
    (store / "manifest.json").unlink()
    for file in (store / "factors").iterdir():
        file.rename(file.with_name(".".join([*file.name.split(".")[:-2], "safetensors"])))
    with pytest.raises(eckart.errors.StoreError, match="it holds no manifest"):
        FactorStore.open(store)
    assert len(run(pair, store, overwrite=overwrite)) == len(SMALL)
    assert contents(store) == expected
