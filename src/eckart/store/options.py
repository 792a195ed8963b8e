"""How a pass runs: workers, device, durability and progress."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from eckart.checks import check_choice, check_whole_number
from eckart.parallel import OnProgress

DEVICES = ("cpu", "cuda")


def log_notice(sentence: str) -> None:
    """Log a remark on a pass. Python prints it on stderr, unless the program configures its logs."""
    logging.getLogger("eckart").warning("%s", sentence)


@dataclass(frozen=True)
class PassOptions:
    """How a pass runs. These options do not change the numbers, except for rounding.

    Parameters
    ----------
    workers : int, optional
        Number of tensors to factor at once. By default one per core, but large tensors run one at a time.
    executor : concurrent.futures.Executor, optional
        Where to run the tasks instead of in threads of this process, for example a process pool.
    device : {"cpu", "cuda"}
        Where to factor.
    durable : bool
        Whether to wait until each file has reached the disk, and to lock the store against other passes.
        False suits a temporary store.
    progress : callable, optional
        Called with a `Progress` after each tensor.
    notify : callable
        Called with a sentence if another pass is filling the store, and if stored factors are damaged.

    Raises
    ------
    UsageError
        If the device is unknown, or the number of workers is not a whole number of at least 1.
    """

    workers: int | None = None
    executor: Executor | None = None
    device: str = "cpu"
    durable: bool = True
    progress: OnProgress | None = None
    notify: Callable[[str], None] = log_notice

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", check_choice(self.device, "device", DEVICES))
        if self.workers is not None:
            check_whole_number(self.workers, f"workers={self.workers!r}", 1)


DEFAULT = PassOptions()
