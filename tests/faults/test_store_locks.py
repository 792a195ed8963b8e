"""Several passes on one store at once, in processes and in threads: all end complete and correct."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import eckart
from eckart import FactorStore, factor
from eckart.errors import StoreError
from eckart.store.lock import Holder, locked
from support.pairs import EPS, MATRICES, SMALL, contents, make_pair
from support.terminal import ENVIRONMENT, run

# A pass whose tensors wait until the file that is the first argument exists.
HELD = """
import sys, time
from pathlib import Path
from eckart.cli import app
from eckart.store import pool
real, gate = pool.run_task, Path(sys.argv.pop(1))
def held(task):
    end = time.monotonic() + 60
    while not gate.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return real(task)
pool.run_task = held
app.main()
"""


def check(pair, store, rank):
    """Compare every tensor of a store with NumPy in float64."""
    opened = FactorStore.open(store)
    assert [record.name for record in opened] == list(pair.before)[: len(opened)]
    assert opened.damaged([record.name for record in opened]) == []
    for record in opened:
        update = pair.update(record.name)
        assert record.energy == pytest.approx((update**2).sum(), rel=1e-6)
        if record.size:
            sigma = pair.sigma(record.name)
            assert record.rank == min(rank, record.size)
            tolerance = 20 * EPS * sigma[0]  # LAPACK in float32
            np.testing.assert_allclose(opened.spectrum(record.name).values, sigma, rtol=0, atol=tolerance)
            factors = opened.factors(record.name)
            left = np.linalg.norm(update - (factors.U.astype(np.float64) * factors.s) @ factors.Vh)
            assert left == pytest.approx(
                np.sqrt((sigma[record.rank :] ** 2).sum()), abs=20 * EPS * np.linalg.norm(sigma)
            )
    kept = {"manifest.json", "spectra.safetensors", *(r.file for r in opened if r.file)}
    assert set(contents(store)) == kept


def start(*argv, gate=None):
    program = ["-m", "eckart"] if gate is None else ["-c", HELD, gate]
    return subprocess.Popen(
        [sys.executable, *map(str, program), *map(str, argv)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_held(pair, store, gate, rank):
    """Start a pass that fills a store, and wait until it holds the lock; it goes on when the gate exists."""
    process = start("factor", *pair.paths, "-o", store, "--max-rank", rank, "--workers", 1, gate=gate)
    wait_for(store / "journal.jsonl")
    return process


def ended(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(path, timeout=60.0):
    """Wait until a file exists: a pass that was started has come that far."""
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def pair(tmp_path):
    return make_pair(tmp_path, shapes=SMALL)


def test_two_passes_with_different_ranks_end_complete_and_correct(pair, tmp_path):
    store, gate = tmp_path / "store", tmp_path / "gate"
    first = start_held(pair, store, gate, rank=4)
    second = start("factor", *pair.paths, "-o", store, "--max-rank", 9)
    host = Holder.of_this_thread().host
    assert second.stderr.readline() == (
        f"{store}: another pass is filling this store (process {first.pid} on {host}); "
        "waiting for it to end\n"
    )
    gate.touch()
    code, out, err = ended(second)
    assert code == 0, err
    assert out == f"{store}: 6 tensors, 3 with factors up to rank 9\n"
    assert ended(first)[0] == 0
    check(pair, store, 9)


def test_the_second_pass_uses_what_the_first_has_stored(pair, tmp_path):
    store, gate = tmp_path / "store", tmp_path / "gate"
    first = start_held(pair, store, gate, rank=9)
    done, waited = [], []

    def waits(sentence):
        waited.append(sentence)
        gate.touch()

    factor(*pair.paths, store, max_rank=4, progress=lambda step: done.append(step.name), notify=waits)
    assert done == [] and len(waited) == 1 and ended(first)[0] == 0
    check(pair, store, 9)


def test_extract_waits_for_a_pass_that_fills_its_store(pair, tmp_path):
    store, out, gate = tmp_path / "store", tmp_path / "adapter", tmp_path / "gate"
    first = start_held(pair, store, gate, rank=4)
    second = start("extract", *pair.paths, "-o", out, "--rank", 7, "--store", store)
    assert f"{store}: another pass is filling this store" in second.stderr.readline()
    gate.touch()
    code, _, err = ended(second)
    assert code == 0, err
    assert ended(first)[0] == 0
    verified = run("verify", *pair.paths, out)
    assert verified.code == 0, verified.out + verified.err
    opened = FactorStore.open(store)
    assert {r.rank for r in opened if r.kind == "linear"} == {7}
    assert opened.damaged(list(SMALL)) == []


def test_readers_do_not_wait_for_a_pass_that_extends_the_store(pair, tmp_path):
    store, gate = tmp_path / "store", tmp_path / "gate"
    old = factor(*pair.paths, store, max_rank=4)
    plan = eckart.plan(store, rank=3)
    running = start_held(pair, store, gate, rank=9)
    factors = old.factors(MATRICES[0])
    path = store / old.record(MATRICES[0]).file
    assert eckart.plan(store, rank=3) == plan
    eckart.extract(*pair.paths, tmp_path / "adapter", rank=3, store=store)
    eckart.inspect(*pair.paths, store=store)
    assert running.poll() is None  # the pass was running all the time
    gate.touch()
    assert ended(running)[0] == 0
    # A store that was opened before finds the new factors: the old file is gone.
    assert not path.exists()
    again = old.factors(MATRICES[0], 4)
    np.testing.assert_allclose(again.U, factors.U, rtol=0, atol=20 * EPS)
    assert old.record(MATRICES[0]).rank == 9


def test_a_store_that_is_replaced_by_one_of_other_files_is_refused_to_an_old_reader(pair, tmp_path):
    old = factor(*pair.paths, tmp_path / "store", max_rank=4)
    other = make_pair(tmp_path / "other", shapes=SMALL, size=0.1)
    factor(*other.paths, tmp_path / "store", max_rank=4, overwrite=True)
    with pytest.raises(StoreError, match="another pass replaced this store while it was read"):
        old.factors(MATRICES[0])


def test_six_threads_that_fill_one_store_all_get_a_complete_store(pair, tmp_path):
    store = tmp_path / "store"
    ranks = [3, 9, 5, 7]
    waited = []

    def work(thread):
        got = []
        for step in range(4):
            rank = ranks[(thread + step) % 4]
            got.append(factor(*pair.paths, store, max_rank=rank, workers=1, notify=waited.append))
            assert all(r.rank >= min(rank, r.size) for r in got[-1] if r.size)
            assert got[-1].damaged([r.name for r in got[-1]]) == []
        return got

    with ThreadPoolExecutor(6) as threads:
        stores = [s for stores in threads.map(work, range(6)) for s in stores]
    assert len(stores) == 24
    assert all("another thread of this process" in sentence for sentence in waited)
    check(pair, store, 9)


def test_two_threads_that_overwrite_one_store_take_turns(pair, tmp_path):
    store = tmp_path / "store"
    factor(*pair.paths, store, max_rank=2)
    started = threading.Barrier(2)

    def work(rank):
        started.wait()
        return factor(*pair.paths, store, max_rank=rank, overwrite=True, workers=1)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, (4, 6)))
    last = FactorStore.open(store)
    held = {r.rank for r in last if r.size}
    assert held in ({4}, {6})
    check(pair, store, held.pop())


def test_a_thread_does_not_wait_for_itself(pair, tmp_path):
    store = tmp_path / "store"
    errors = []

    def nested(step):
        with pytest.raises(StoreError) as error:
            factor(*pair.paths, store, max_rank=9)
        errors.append(str(error.value))
        raise InterruptedError  # one call is enough

    with pytest.raises(eckart.errors.OutputError):
        factor(*pair.paths, store, max_rank=4, workers=1, progress=nested)
    assert errors == [
        f"`{store}`: this thread is already running a pass on this store. Wait until that pass has ended."
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_the_lock_of_a_killed_pass_is_free(pair, tmp_path):
    store = tmp_path / "store"
    killed = start_held(pair, store, tmp_path / "gate", rank=4)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (store / ".lock").exists()
    waited = []
    factor(*pair.paths, store, max_rank=4, notify=waited.append)
    assert waited == []
    check(pair, store, 4)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process")
def test_an_interrupt_ends_the_wait_and_leaves_the_running_pass_alone(pair, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    with locked(store, lambda sentence: None):
        waiting = start("factor", *pair.paths, "-o", store)
        assert "waiting for it to end" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        code, _, err = ended(waiting)
        assert code == 130, err
        assert json.loads((store / ".lock").read_text())["process"] == os.getpid()
    assert list(store.iterdir()) == []


def test_a_temporary_store_takes_no_lock(pair, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a lock was taken")

    monkeypatch.setattr("eckart.store.fill.locked", refuse)
    eckart.extract(*pair.paths, tmp_path / "adapter", rank=2)
    eckart.inspect(*pair.paths)
