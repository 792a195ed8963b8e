"""Tasks run side by side: how many at once, with how many threads each, and progress reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import replace

from threadpoolctl import threadpool_limits

from eckart.checkpoint import TensorInfo
from eckart.linalg.decompose import krylov_limit
from eckart.parallel import OnProgress, Progress
from eckart.store.options import PassOptions
from eckart.store.record import TensorRecord
from eckart.store.task import Task, run_task

LIGHT = 1 << 22  # up to this many numbers, the memory of a worker does not matter


def run_tasks(tasks: list[Task], options: PassOptions) -> Iterable[TensorRecord]:
    """Yield records as tensors finish, the largest started first so that the workers end together.

    Notes
    -----
    The bytes of a product depend on its number of BLAS threads, which must therefore not depend on how many
    tensors are left. Light tensors get one thread each and run side by side, because thin products do not
    fill two cores. Large tensors on the exact route come first, one at a time, with all cores.
    """
    tasks = sorted(tasks, key=lambda t: -t.tuned.nbytes)
    meter = Meter(tasks, options.progress)
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
            with threadpool_limits(threads, user_api="blas"), ThreadPoolExecutor(workers) as pool:
                yield from _collect(pool, run_task, ahead, meter)


def run_task_alone(task: Task) -> TensorRecord:
    """Run a task with one BLAS thread, whatever process it lands in."""
    with threadpool_limits(1, user_api="blas"):
        return run_task(task)


class Meter:
    """Counts finished tensors and their bytes over all groups of a pass, and reports them."""

    def __init__(self, tasks: list[Task], on_progress: OnProgress | None) -> None:
        self.total, self.total_bytes = len(tasks), sum(t.nbytes for t in tasks)
        self.done = self.bytes_done = 0
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
    futures: dict[Future[TensorRecord], Task] = {pool.submit(work, t): t for t in tasks}
    try:
        for future in as_completed(futures):
            yield future.result()
            meter.add(futures[future])
    finally:
        for future in futures:
            future.cancel()


def _upcoming(tasks: list[Task], index: int) -> tuple[TensorInfo, ...]:
    """Return the file regions of the task that will start when this one ends, to be read ahead."""
    if index >= len(tasks):
        return ()
    task = tasks[index]
    return tuple(info for info in (task.base, task.tuned) if info is not None)


def _is_heavy(task: Task) -> bool:
    """Whether a tensor is large and may take the exact route, which needs several times its size."""
    goal, shape = task.demand.goal, (task.base or task.tuned).shape
    if task.tuned.size <= LIGHT or len(shape) != 2 or (goal is None and not task.demand.whole):
        return False
    if task.demand.whole or goal is None or goal.kind != "rank":
        return True
    return max(goal.value, task.demand.hold) > krylov_limit(*shape)
