"""Work on several items at once: threads, their share of BLAS threads, and progress reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from eckart.workers import Pending, Workers

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # items in flight per worker: enough to keep every worker busy, with little memory


@dataclass(frozen=True)
class Progress:
    """How far a task has got.

    Parameters
    ----------
    done, total : int
        Number of finished items, and of all items; ``total`` is None if it is not known. Both include the
        items that an earlier, interrupted run has finished.
    name : str
        The item that was just finished.
    bytes_done, bytes_total : int
        Bytes read so far, and bytes to read; 0 if bytes are not counted.
    noun : str
        What an item is, in the singular.
    """

    done: int
    total: int | None
    name: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    noun: str = "tensor"


OnProgress = Callable[[Progress], None]


def half_of(progress: OnProgress | None, second: bool) -> OnProgress | None:
    """Return a callback for one of two passes of equal length, which are reported as a single task.

    Parameters
    ----------
    progress : callable or None
        Receives the progress of the whole task.
    second : bool
        Whether the callback is for the second pass.

    Returns
    -------
    callable or None
        None if ``progress`` is None.
    """
    if progress is None:
        return None

    def report(step: Progress) -> None:
        total = step.total or 0
        progress(Progress(step.done + total * second, 2 * total, step.name, noun="step"))

    return report


def map_unordered(work: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterable[R]:
    """Apply a function to items in threads, and yield the results in the order in which they are ready.

    Parameters
    ----------
    work : callable
        Called with one item at a time, from several threads.
    items : iterable
        The items.
    workers : int, optional
        Number of threads; one per core by default.

    Yields
    ------
    object
        The result for one item.

    Notes
    -----
    Each worker uses one BLAS thread, because thin factors do not fill two cores, and because results must not
    depend on the number of workers. At most ``2 * workers`` items are in flight.
    """
    items = list(items)
    threads = min(workers or os.cpu_count() or 1, len(items))
    # One item also runs in a thread: the caller can then be interrupted while LAPACK works on it.
    with (
        _blas("scipy.linalg" in sys.modules, "torch" in sys.modules).limit(limits=1, user_api="blas"),
        Workers(threads) as pool,
    ):
        pending: Pending[R] = Pending()
        for item in items:
            pending.add(pool.submit(work, item))
            if len(pending) >= AHEAD * threads:
                yield pending.next().result()
        while len(pending):
            yield pending.next().result()


def threads_each(items: int, workers: int | None) -> int:
    """Return how many threads each item may use: more than one if there are fewer items than workers."""
    return max((workers or os.cpu_count() or 1) // max(items, 1), 1)


@cache
def _blas(*loaded: bool) -> ThreadpoolController:
    """Return the controller of the loaded BLAS libraries, cached because finding them takes 1 ms.

    ``loaded`` tells which libraries are imported, so that the cache is not used after another import.
    """
    return ThreadpoolController()
