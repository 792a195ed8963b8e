"""Run the tasks of a pass in parallel: how many at once, how many threads each, and progress reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager
from dataclasses import replace

from threadpoolctl import threadpool_limits

from eckart.checkpoint import TensorInfo
from eckart.errors import WorkerError
from eckart.linalg.decompose import krylov_limit
from eckart.parallel import OnProgress, Progress
from eckart.store.options import PassOptions
from eckart.store.record import TensorRecord
from eckart.store.task import Task, run_task
from eckart.text import clip, count
from eckart.workers import Pending, Workers

LIGHT = 1 << 22  # up to this many entries, the memory that a tensor needs does not matter
OWN_ERRORS = {"builtins", "eckart", "numpy", "scipy", "torch"}  # where the errors of a task are defined


def run_tasks(tasks: list[Task], options: PassOptions, finished: int = 0) -> Iterable[TensorRecord]:
    """Run tasks and yield records as tensors finish. The largest start first, so that workers end together.

    Parameters
    ----------
    tasks : list of Task
        One per tensor.
    options : PassOptions
        How the pass runs.
    finished : int
        Number of tensors that the store already holds. Reports count them too.

    Yields
    ------
    TensorRecord
        In the order in which the tensors finish.

    Notes
    -----
    The bytes of a product depend on the number of BLAS threads, so that number must not depend on how many
    tensors are left. Large tensors that may need every singular value run first, one at a time, with all
    cores. All others run in parallel with one thread each, because thin products do not fill two cores.
    """
    tasks = sorted(tasks, key=lambda t: -t.tuned.nbytes)
    meter = Meter(tasks, options.progress, finished)
    if options.executor is not None:
        with threadpool_limits(1, user_api="blas"):
            yield from _collect(options.executor, run_task_alone, tasks, meter)
        return
    cores = os.cpu_count() or 1
    heavy = [task for task in tasks if _is_heavy(task)]
    light = [task for task in tasks if not _is_heavy(task)]
    for group, workers, threads in (
        (heavy, options.workers or 1, cores),
        (light, options.workers or cores, 1),
    ):
        if group:
            ahead = [replace(task, upcoming=_upcoming(group, i + workers)) for i, task in enumerate(group)]
            with threadpool_limits(threads, user_api="blas"), Workers(workers) as pool:
                yield from _collect(pool, run_task, ahead, meter)


def run_task_alone(task: Task) -> TensorRecord:
    """Run a task with one BLAS thread, in any process."""
    with threadpool_limits(1, user_api="blas"):
        return run_task(task)


class Meter:
    """Counts finished tensors, and the bytes read by this pass, over all groups, and reports them."""

    def __init__(self, tasks: list[Task], on_progress: OnProgress | None, finished: int) -> None:
        self.total, self.total_bytes = finished + len(tasks), sum(t.nbytes for t in tasks)
        self.done, self.bytes_done = finished, 0
        self.on_progress = on_progress

    def add(self, task: Task) -> None:
        """Count one finished tensor."""
        self.done += 1
        self.bytes_done += task.nbytes
        if self.on_progress is not None:
            step = Progress(self.done, self.total, task.name, self.bytes_done, self.total_bytes)
            self.on_progress(step)


def _collect(
    pool: Executor, work: Callable[[Task], TensorRecord], tasks: list[Task], meter: Meter
) -> Iterable[TensorRecord]:
    # Not `map_unordered`: the largest tensor must start first, and a pool may be a cluster's.
    pending: Pending[TensorRecord] = Pending()
    task_of: dict[Future[TensorRecord], Task] = {}
    try:
        with _errors_of(pool, meter):
            for task in tasks:
                future = pool.submit(work, task)
                task_of[future] = task
                pending.add(future)
        while len(pending):
            future = pending.next()
            with _errors_of(pool, meter):
                record = future.result()
            yield record
            meter.add(task_of[future])  # outside: an error of the caller's progress callback stays as it is
    finally:
        for future in task_of:
            future.cancel()


@contextmanager
def _errors_of(pool: Executor, meter: Meter) -> Iterator[None]:
    """Replace an error of the executor by one that says what happened and what to do."""
    try:
        yield
    except Exception as error:
        if _is_of_pool(error):
            raise _pool_failed(pool, error, meter) from error
        raise


def _is_of_pool(error: Exception) -> bool:
    """Return whether an error comes from an executor that the caller passed, and not from a task.

    A heuristic: tasks raise errors of Eckart, Python and NumPy. An executor of another library, such as dask,
    reports a lost worker by a class of its own.
    """
    origin = type(error).__module__.partition(".")[0]
    return isinstance(error, BrokenExecutor | CancelledError) or origin not in OWN_ERRORS


def _pool_failed(pool: Executor, error: Exception, meter: Meter) -> WorkerError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return WorkerError(
        f"executor={type(pool).__name__}",
        f"a worker ended before its tensor was finished, as it does when memory runs out ({clip(reason)}). "
        f"{meter.done} of {count(meter.total, 'tensor')} are done",
        "Use an executor with fewer workers, or more memory for each. The same call resumes the pass",
    )


def _upcoming(tasks: list[Task], index: int) -> tuple[TensorInfo, ...]:
    """Return the file regions of the task at ``index``, to be read ahead; none if there is no such task."""
    if index >= len(tasks):
        return ()
    task = tasks[index]
    return tuple(info for info in (task.base, task.tuned) if info is not None)


def _is_heavy(task: Task) -> bool:
    """Return whether a tensor is large and may take the exact route, which needs several times its memory."""
    goal, shape = task.demand.goal, (task.base or task.tuned).shape
    if task.tuned.size <= LIGHT or len(shape) != 2 or (goal is None and not task.demand.whole):
        return False
    if task.demand.whole or goal is None or goal.kind != "rank":
        return True
    return max(goal.value, task.demand.hold) > krylov_limit(*shape)
