"""A pass that is killed at any moment can be resumed: it repeats no work and gives the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import eckart
from eckart import FactorStore, factor
from eckart.errors import StoreError
from eckart.rank import Rank
from eckart.store import pool
from eckart.store.journal import Journal, PassHeader
from support import crash
from support.pairs import MATRICES, SHAPES, SMALL, contents, make_pair

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no SIGKILL")

ENVIRONMENT = {
    **os.environ,
    "OPENBLAS_NUM_THREADS": "1",  # so that all processes add in the same order
    "PYTHONPATH": str(Path(eckart.__file__).parents[1]),
}
TABLES = [name for name in MATRICES if name in SMALL]

# A pass slow enough to be killed between two tensors, and fast enough to run often.
SLOW = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from eckart.store import fill, pool
real = pool.run_task
def slow(task):
    time.sleep(0.05)
    return real(task)
pool.run_task = slow
with ThreadPoolExecutor(2) as workers:
    print("go", flush=True)
    fill.factor(*sys.argv[1:], executor=workers)
"""


def resume(pair, store):
    """Resume a pass in this process, one tensor at a time, and return the names of the tensors processed."""
    done = []
    with ThreadPoolExecutor(1) as threads:
        factor(*pair.paths, store, executor=threads, progress=lambda step: done.append(step.name))
    return done


def lines(store):
    """Return the tensors in the complete lines of the journal; None without a journal."""
    journal = store / "journal.jsonl"
    if not journal.exists():
        return None
    return [json.loads(line)["tensor"]["name"] for line in journal.read_bytes().split(b"\n")[1:-1]]


def prints(store):
    """Return the inode and time of every factor file; both change when a file is written again."""
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in (store / "factors").glob("[!.]*")}


def file_of(files, name):
    """Return the path of a tensor's factors in a store: it begins with the name, for these tensors."""
    (path,) = (path for path in files if path.startswith(f"factors/{name}."))
    return path


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """A pair, the files of an uninterrupted pass, and the stores of passes killed at every step."""
    folder = tmp_path_factory.mktemp("crash")
    pair = make_pair(folder, shapes=SMALL)
    subprocess.run(
        [sys.executable, crash.__file__, *map(str, pair.paths), str(folder / "killed")],
        env=ENVIRONMENT,
        check=True,
        timeout=120,
    )
    stores = sorted((folder / "killed").iterdir(), key=lambda store: int(store.name))
    return pair, contents(stores[-1]), stores[:-1]


def test_the_killed_passes_cover_every_state_of_the_journal(crashed):
    _, expected, stores = crashed
    assert set(expected) == {
        "manifest.json",
        "spectra.safetensors",
        *(file_of(expected, name) for name in TABLES),
    }
    lengths = {len(lines(store)) for store in stores if lines(store) is not None}
    assert lengths == set(range(len(SMALL) + 1))
    assert any(list(store.rglob("*.tmp*")) for store in stores)


def test_a_store_of_a_killed_pass_cannot_be_opened(crashed):
    _, _, stores = crashed
    for store in stores:
        if (store / "manifest.json").exists():  # killed after the last step that matters
            assert len(FactorStore.open(store)) == len(SMALL)
            continue
        if (store / "journal.jsonl").exists():
            message = "the pass is unfinished"
        elif store.exists():
            message = "this is not a factor store: it holds no manifest.json"
        else:
            message = "there is no such folder"
        with pytest.raises(StoreError, match=message):
            FactorStore.open(store)


def test_a_pass_killed_at_any_step_resumes_to_the_same_bytes(crashed, tmp_path):
    pair, expected, stores = crashed
    assert len(stores) > 2 * len(SMALL)
    for killed in stores:
        store = tmp_path / killed.name
        shutil.copytree(killed, store)
        if lines(store) is None and not (store / "manifest.json").exists():
            continue  # see the test of a pass killed before its journal's first line
        known, before = lines(store), prints(store)
        done = resume(pair, store)
        assert contents(store) == expected, killed
        if known is not None:
            assert sorted(done) == sorted(set(SMALL) - set(known)), killed
            after = prints(store)
            for name in set(known) & set(TABLES):
                file = Path(file_of(expected, name)).name
                assert after[file] == before[file], (killed, name)


def test_a_pass_killed_before_its_first_journal_line_starts_over(crashed, tmp_path):
    pair, expected, stores = crashed
    early = [s for s in stores if lines(s) is None and not (s / "manifest.json").exists()]
    assert early
    for killed in early:
        store = tmp_path / killed.name
        shutil.copytree(killed, store)
        assert sorted(resume(pair, store)) == sorted(SMALL)
        assert contents(store) == expected


def test_a_resumed_pass_removes_temporary_files(crashed, tmp_path):
    pair, expected, stores = crashed
    left = [s for s in stores if any(s.glob("factors/.*tmp*")) and lines(s)]
    assert left
    store = tmp_path / "store"
    shutil.copytree(left[0], store)
    resume(pair, store)
    assert contents(store).keys() == expected.keys()


def test_a_pass_killed_at_random_times_resumes_to_the_same_bytes(crashed, tmp_path):
    pair, expected, _ = crashed
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    moments = random.Random(0)
    kills = 0
    for attempt in range(4):
        store = tmp_path / str(attempt)
        for _ in range(2):  # killed, resumed, and killed again
            process = subprocess.Popen(
                [sys.executable, script, *map(str, pair.paths), str(store)],
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
            )
            assert process.stdout.readline() == b"go\n"
            time.sleep(moments.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.stdout.close()
            kills += process.wait() == -signal.SIGKILL
        if lines(store) is None and store.exists() and not (store / "manifest.json").exists():
            shutil.rmtree(store)  # see the test of a pass killed before its journal's first line
        resume(pair, store)
        assert contents(store) == expected
    assert kills


@pytest.fixture
def half_done(crashed, tmp_path):
    """A store whose pass was killed with four tensors in the journal."""
    pair, expected, stores = crashed
    killed = next(s for s in stores if len(lines(s) or []) == 4 and not list(s.rglob("*.tmp*")))
    shutil.copytree(killed, tmp_path / "store")
    return pair, expected, tmp_path / "store"


@pytest.mark.parametrize("keep", [1, 0.5, -1])
def test_a_truncated_journal_line_is_ignored(half_done, keep):
    pair, expected, store = half_done
    journal = store / "journal.jsonl"
    *whole, last, end = journal.read_bytes().split(b"\n")
    assert end == b""
    cut = last[: len(last) // 2 if keep == 0.5 else keep]
    journal.write_bytes(b"\n".join([*whole, cut]))
    cut_off = json.loads(last)["tensor"]["name"]
    done = resume(pair, store)
    assert cut_off in done and len(done) == len(SMALL) - 3
    assert contents(store) == expected


def test_a_tensor_with_an_incomplete_last_line_is_factored_again(half_done):
    # Without its newline, the line may be incomplete.
    pair, expected, store = half_done
    journal = store / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-1])
    assert len(resume(pair, store)) == len(SMALL) - 3
    assert contents(store) == expected


INVALID_JOURNALS = {
    "empty": b"",
    "an empty object": b"{}\n",
    "not JSON": b"garbage\n",
    "no sources": b'{"format": 1}\n',
    "a list": b"[1]\n",
}


@pytest.mark.parametrize("text", INVALID_JOURNALS.values(), ids=INVALID_JOURNALS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_invalid_journal_is_refused(half_done, text, overwrite):
    pair, expected, store = half_done
    (store / "journal.jsonl").write_bytes(text)
    if overwrite:
        with ThreadPoolExecutor(1) as threads:
            factor(*pair.paths, store, executor=threads, overwrite=True)
        assert contents(store) == expected
        return
    before = contents(store)
    with pytest.raises(StoreError, match="overwrite"):
        resume(pair, store)
    assert contents(store) == before


def test_an_unfinished_pass_over_other_files_is_refused(half_done, tmp_path):
    _, _, store = half_done
    other = make_pair(tmp_path / "other")
    before = contents(store)
    with pytest.raises(StoreError, match=r"another base.*--overwrite"):
        resume(other, store)
    assert contents(store) == before


def test_an_error_in_one_tensor_keeps_the_others(crashed, tmp_path, monkeypatch):
    pair, expected, _ = crashed
    real, fails = pool.run_task, TABLES[1]  # not the largest tensor, which runs first

    def failing(task):
        if task.name == fails:
            raise RuntimeError("the disk is gone")
        return real(task)

    monkeypatch.setattr(pool, "run_task", failing)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        resume(pair, tmp_path / "store")
    known = lines(tmp_path / "store")
    assert known and fails not in known
    monkeypatch.setattr(pool, "run_task", real)
    assert sorted(resume(pair, tmp_path / "store")) == sorted(set(SMALL) - set(known))
    assert contents(tmp_path / "store") == expected


def test_a_tensor_factored_alone_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pair = make_pair(tmp_path)
    store = tmp_path / "store"
    finished = factor(*pair.paths, store)
    expected = contents(store)
    large = max(SHAPES, key=lambda name: np.prod(SHAPES[name]))
    records = [r for r in finished if r.name != large]
    with Journal(store, PassHeader(finished.sources), records):
        (store / "manifest.json").unlink()
    (store / finished.record(large).file).unlink()
    done = []
    factor(*pair.paths, store, progress=lambda step: done.append(step.name))
    assert done == [large]
    assert contents(store) == expected


def test_a_pass_killed_while_extending_leaves_the_old_store_valid(tmp_path):
    pair = make_pair(tmp_path)
    store = tmp_path / "store"
    finished = factor(*pair.paths, store, max_rank=4)
    expected = contents(store)
    with Journal(store, PassHeader(finished.sources), []):
        pass  # a second pass was killed before it had finished a tensor
    done = []
    again = factor(*pair.paths, store, rule=Rank(1), progress=lambda step: done.append(step.name))
    assert done == [] and again.records == finished.records
    # A rule that needs more uses what the store held: every value, the noise floor and the components.
    table = MATRICES[0]
    again = factor(
        *pair.paths, store, rule=Rank(6, include=[table]), progress=lambda step: done.append(step.name)
    )
    assert done == [table]
    changed = {k for k, v in contents(store).items() if expected.get(k) != v}
    assert changed == {"manifest.json", again.record(table).file}
    assert again.record(table).known == again.record(table).size
    assert again.record(table).noise_floor == finished.record(table).noise_floor


@pytest.mark.parametrize("damage", ["a flipped bit", "a missing newline"])
def test_a_damaged_journal_line_leaves_one_tensor_unfinished_and_not_the_others(half_done, damage):
    pair, expected, store = half_done
    journal = store / "journal.jsonl"
    header, *done, end = journal.read_bytes().split(b"\n")
    names = lines(store)
    if damage == "a flipped bit":
        done[1] = done[1][:40] + bytes([done[1][40] ^ 1]) + done[1][41:]
        lost = [names[1]]
    else:
        done[1:3] = [done[1] + done[2]]
        lost = names[1:3]
    journal.write_bytes(b"\n".join([header, *done, end]))
    assert sorted(resume(pair, store)) == sorted({*SMALL} - {*names} | {*lost})
    assert contents(store) == expected
