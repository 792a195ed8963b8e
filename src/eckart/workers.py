"""Worker threads that the caller can leave at once, and that write nothing after it has left them.

A call of LAPACK cannot be interrupted, and takes up to a minute for a large matrix. The standard thread pool
waits for it, both when the pool is left and when the interpreter exits. These threads do neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Condition, Thread, local
from types import TracebackType
from typing import Any, Generic, TypeVar

R = TypeVar("R")

POLL = 0.2  # seconds; on Windows, a wait for a queue can only be interrupted when it ends


class AbandonedError(Exception):
    """Raised in a worker thread whose caller has left. Nobody sees it."""


class Workers(Executor):
    """A pool of threads, as a context manager.

    Parameters
    ----------
    threads : int
        Number of threads.

    Notes
    -----
    If the block ends normally or with an `Exception`, the pool waits for the items in flight, as the standard
    pool does. If it ends with anything else (KeyboardInterrupt, SystemExit, or because a generator around it
    is closed), the pool is abandoned: items that have not started are cancelled, and those in flight run on,
    but can no longer begin a `writing` block. The pool only waits until no thread is inside such a block.
    The threads are daemons, which the interpreter does not wait for at exit.
    """

    def __init__(self, threads: int) -> None:
        self._items: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._items = SimpleQueue()
        self._state = Condition()
        self._writers = 0
        self._abandoned = False
        self._threads = [Thread(target=self._run, name="eckart", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    # Any: the signature of the base class, whose type parameters mypy cannot express in an override
    def submit(self, work: Callable[..., R], /, *args: Any) -> Future[R]:  # type: ignore[override]
        """Run ``work(*args)`` in a thread. The items start in the order in which they are submitted."""
        future: Future[R] = Future()
        self._items.put((future, work, args))
        return future

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None or issubclass(kind, Exception):
                self.shutdown(cancel_futures=kind is not None)
                return
        except BaseException:  # interrupted while it waited
            self.abandon()
            raise
        self.abandon()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when they have finished their items."""
        if cancel_futures:
            self._cancel_waiting()
        for _ in self._threads:
            self._items.put(None)
        while wait and any(thread.is_alive() for thread in self._threads):
            for thread in self._threads:
                thread.join(POLL)

    def abandon(self) -> None:
        """Cancel what has not started, and wait until no thread is inside a `writing` block."""
        with self._state:
            self._abandoned = True
        self.shutdown(wait=False, cancel_futures=True)
        with self._state:
            self._state.wait_for(lambda: self._writers == 0)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See the function `writing`."""
        with self._state:
            if self._abandoned:
                raise AbandonedError
            self._writers += 1
        try:
            yield
        finally:
            with self._state:
                self._writers -= 1
                self._state.notify_all()

    def _cancel_waiting(self) -> None:
        while True:
            try:
                item = self._items.get_nowait()
            except Empty:
                return
            if item is not None:
                item[0].cancel()

    def _run(self) -> None:
        _thread.workers = self
        while True:
            item = self._items.get()
            if item is None:
                return
            future, work, args = item
            if future.set_running_or_notify_cancel():
                try:
                    result = work(*args)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del item, future, work, args  # so that a thread that waits keeps nothing alive


class _Thread(local):
    """The pool that the current thread belongs to."""

    workers: Workers | None = None


_thread = _Thread()


@contextmanager
def writing() -> Iterator[None]:
    """Guard a block that writes files, in any thread.

    Raises
    ------
    AbandonedError
        If this thread belongs to a pool that the caller has left, so that the output may be gone.
    """
    if _thread.workers is None:
        yield
        return
    with _thread.workers.writing():
        yield


class Pending(Generic[R]):
    """Futures that have not been collected yet, in the order in which they end."""

    def __init__(self) -> None:
        self._ended: SimpleQueue[Future[R]] = SimpleQueue()
        self._count = 0

    def add(self, future: Future[R]) -> None:
        """Add a future."""
        self._count += 1
        future.add_done_callback(self._ended.put)

    def __len__(self) -> int:
        return self._count

    def next(self) -> Future[R]:
        """Wait for the next future that ends, and remove it. The wait can be interrupted on every system."""
        while True:
            try:
                future = self._ended.get(timeout=POLL)
            except Empty:
                continue
            self._count -= 1
            return future
