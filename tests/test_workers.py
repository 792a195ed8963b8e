"""Worker threads: how they end when the caller leaves normally, with an error, or at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from eckart.parallel import map_unordered
from eckart.workers import AbandonedError, Pending, Workers, writing

SOON = 10.0  # seconds after which a test gives up


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that work waits for; it is set at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


def test_results_come_in_the_order_in_which_work_ends(gate):
    with Workers(2) as pool:
        pending: Pending[str] = Pending()
        pending.add(pool.submit(lambda: "slow" if gate.wait(SOON) else "never"))
        pending.add(pool.submit(lambda: "fast"))
        assert pending.next().result() == "fast"
        gate.set()
        assert pending.next().result() == "slow"
        assert len(pending) == 0


def test_an_error_is_raised_after_the_items_in_flight_have_ended():
    ended = []

    def work(item):
        if item == 0:
            raise ValueError("item 0")
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(ValueError, match="item 0"):
        list(map_unordered(work, range(9), workers=2))
    assert 1 in ended and len(ended) < 8  # those that had not started never ran
    before = list(ended)
    time.sleep(0.2)
    assert ended == before


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_does_not_wait_for_the_items_in_flight(gate, interruption):
    started, ran = threading.Event(), []

    def work(item):
        ran.append(item)
        started.set()
        gate.wait(60)

    def run():
        with Workers(1) as pool:
            futures.extend(pool.submit(work, item) for item in range(3))
            assert started.wait(SOON)
            raise interruption

    futures = []
    began = time.monotonic()
    with pytest.raises(interruption):
        run()
    assert time.monotonic() - began < SOON
    assert [future.cancelled() for future in futures] == [False, True, True]
    gate.set()
    futures[0].result(SOON)
    assert ran == [0]


def test_an_abandoned_thread_writes_nothing(gate):
    """Also if the thread goes on with its work long after the caller has left."""
    started, wrote = threading.Event(), []

    def work():
        started.set()
        gate.wait(SOON)
        with writing():
            wrote.append(True)

    with pytest.raises(KeyboardInterrupt), Workers(1) as pool:
        future = pool.submit(work)
        assert started.wait(SOON)
        raise KeyboardInterrupt
    gate.set()
    assert isinstance(future.exception(SOON), AbandonedError)
    assert wrote == []


def test_an_interruption_waits_for_what_is_being_written():
    started, wrote = threading.Event(), []

    def work():
        with writing():
            started.set()
            time.sleep(0.2)
            wrote.append(True)

    with pytest.raises(KeyboardInterrupt), Workers(1) as pool:
        pool.submit(work)
        assert started.wait(SOON)
        raise KeyboardInterrupt
    assert wrote == [True]


def test_closing_a_generator_leaves_its_workers(gate):
    def work(item):
        if item:
            gate.wait(60)
        return item

    results = map_unordered(work, range(9), workers=2)
    assert next(results) == 0
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < SOON


def test_the_main_thread_may_write_at_any_time():
    with writing():
        pass


def test_threads_of_workers_do_not_keep_a_process_alive():
    with Workers(3):
        mine = [thread for thread in threading.enumerate() if thread.name == "eckart"]
        assert len(mine) >= 3 and all(thread.daemon for thread in mine)
    assert not [thread for thread in mine[-3:] if thread.is_alive()]
