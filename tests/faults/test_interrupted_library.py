"""KeyboardInterrupt in a program that uses the library, as in a notebook; and executors that fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

import eckart
from eckart.errors import WorkerError
from eckart.parallel import Progress
from eckart.store import pool
from support.dying import die
from support.fine_tune import FineTune, make_fine_tune
from support.terminal import ENVIRONMENT, tree

SOON = 10.0  # seconds; work that is waited for takes a minute
needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to its own process")


@pytest.fixture(scope="module")
def fine_tune(tmp_path_factory) -> FineTune:
    return make_fine_tune(tmp_path_factory.mktemp("fine_tune"))


class Gate:
    """Stops every task of a pass but the first.

    It interrupts the main thread when that has counted the first task, and all workers are stopped.
    """

    def __init__(self, workers: int) -> None:
        self.opened, self.counted, self.workers = threading.Event(), threading.Event(), workers
        self.lock, self.started, self.finished = threading.Lock(), 0, 0

    def on_progress(self, step: Progress) -> None:
        self.counted.set()

    def run_task(self, task):
        with self.lock:
            self.started += 1
            number = self.started
        if number > 1:
            if number == 1 + self.workers:
                self.counted.wait(60)
                os.kill(os.getpid(), signal.SIGINT)
            self.opened.wait(60)
        try:
            return run_task(task)
        finally:
            with self.lock:
                self.finished += 1


run_task = pool.run_task


@pytest.fixture
def gate(monkeypatch) -> Iterator[Gate]:
    gate = Gate(workers=2)
    monkeypatch.setattr(pool, "run_task", gate.run_task)
    yield gate
    gate.opened.set()


def is_over(gate: Gate) -> bool:
    """Wait until the tasks that were in flight have ended, long after the caller was interrupted."""
    gate.opened.set()
    deadline = time.monotonic() + SOON
    while gate.finished < gate.started and time.monotonic() < deadline:
        time.sleep(0.01)
    return gate.finished == gate.started


@needs_kill
@pytest.mark.parametrize("kept", [False, True], ids=["without a store", "with a store"])
def test_an_interrupted_extraction_leaves_nothing(fine_tune, tmp_path, monkeypatch, gate, kept):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    store = tmp_path / "store" if kept else None
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        eckart.extract(
            *fine_tune.pair.paths, tmp_path / "out", rank=2, store=store, workers=2, progress=gate.on_progress
        )
    assert time.monotonic() - began < SOON
    left = tree(tmp_path)
    assert {name for name in left if not name.startswith("store")} == {"scratch"}
    assert is_over(gate)
    assert gate.started == 3  # those that waited never started
    assert tree(tmp_path) == left  # and those in flight wrote nothing afterwards
    if store is not None:
        monkeypatch.setattr(pool, "run_task", run_task)
        resumed = []
        eckart.extract(
            *fine_tune.pair.paths,
            tmp_path / "out",
            rank=2,
            store=store,
            progress=lambda s: resumed.append(s.name),
        )
        assert len(resumed) == 4


@needs_kill
def test_an_interrupted_inspection_leaves_no_scratch_folder(fine_tune, tmp_path, monkeypatch, gate):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        eckart.inspect(*fine_tune.pair.paths, workers=2, progress=gate.on_progress)
    assert list(tmp_path.iterdir()) == []
    assert is_over(gate)
    assert list(tmp_path.iterdir()) == []


# Executors


class Stalled(Executor):
    """An executor that never runs anything; after the last task, it interrupts the main thread."""

    def __init__(self, tasks: int) -> None:
        self.futures: list[Future] = []
        self.tasks = tasks

    def submit(self, work, /, *args):
        self.futures.append(Future())
        if len(self.futures) == self.tasks:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        return self.futures[-1]


@needs_kill
def test_an_interruption_cancels_the_tasks_of_an_executor(fine_tune, tmp_path):
    executor = Stalled(tasks=5)
    with pytest.raises(KeyboardInterrupt):
        eckart.factor(*fine_tune.pair.paths, tmp_path / "store", executor=executor)
    assert len(executor.futures) == 5 and all(future.cancelled() for future in executor.futures)


def test_a_killed_worker_process_is_named(fine_tune, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "run_task_alone", die)
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=spawn) as executor,
        pytest.raises(WorkerError, match="a worker ended before its tensor was finished") as caught,
    ):
        eckart.factor(*fine_tune.pair.paths, tmp_path / "store", executor=executor)
    assert str(caught.value).startswith("`executor=ProcessPoolExecutor`: ")
    assert str(caught.value).endswith(
        "0 of 5 tensors are done. Use an executor with fewer workers, or more memory for each. "
        "The same call resumes the pass."
    )
    assert isinstance(caught.value.__cause__, BrokenProcessPool)
    monkeypatch.undo()
    resumed = eckart.factor(*fine_tune.pair.paths, tmp_path / "store")
    assert len(resumed) == len(eckart.FactorStore.open(fine_tune.store))


class Failing(Executor):
    """An executor whose second task fails."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.submitted = error, 0

    def submit(self, work, /, *args):
        self.submitted += 1
        future: Future = Future()
        if self.submitted == 2:
            future.set_exception(self.error)
        else:
            future.set_result(work(*args))
        return future


class KilledWorker(Exception):
    """As dask raises it."""

    __module__ = "distributed.scheduler"


@pytest.mark.parametrize(
    "error", [KilledWorker("factor", "tcp://x"), CancelledError()], ids=["dask", "cancelled"]
)
def test_the_failure_of_another_executor_is_named(fine_tune, tmp_path, error):
    with pytest.raises(WorkerError, match=r"`executor=Failing`: .* 1 of 5 tensors are done"):
        eckart.factor(*fine_tune.pair.paths, tmp_path / "store", executor=Failing(error))


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), MemoryError(), eckart.errors.CheckpointError("a", "b")]
)
def test_an_error_of_a_task_is_not_taken_for_one_of_the_executor(fine_tune, tmp_path, error):
    with pytest.raises(type(error)) as caught:
        eckart.factor(*fine_tune.pair.paths, tmp_path / "store", executor=Failing(error))
    assert caught.value is error


class CallersError(Exception):
    """An error of the caller's own."""


def test_an_error_of_the_progress_callback_is_not_taken_for_one_of_the_executor(fine_tune, tmp_path):
    error = CallersError("from the callback")

    def report(step):
        raise error

    with pytest.raises(CallersError) as caught:
        eckart.factor(*fine_tune.pair.paths, tmp_path / "store", progress=report)
    assert caught.value is error


def test_an_interrupted_program_does_not_wait_for_its_threads(fine_tune, tmp_path):
    """A script without any handling of its own: the interpreter ends although a thread works on."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, time, eckart\n"
        "from eckart.store import pool\n"
        "def stuck(task):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "pool.run_task = stuck\n"
        "eckart.factor(*sys.argv[1:], workers=1)\n"
    )
    command = [sys.executable, script, *fine_tune.pair.paths, tmp_path / "store"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=50)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.returncode == -signal.SIGINT
