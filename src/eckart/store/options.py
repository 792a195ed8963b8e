"""How a pass runs: workers, device, durability and progress."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from eckart.errors import UsageError
from eckart.parallel import OnProgress

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class PassOptions:
    """How a pass runs; none of this changes what it computes.

    Parameters
    ----------
    workers : int, optional
        Tensors in flight at once; by default one per core where memory allows.
    executor : concurrent.futures.Executor, optional
        Where to run instead, for example a process pool.
    device : {"cpu", "cuda"}
    durable : bool
        Whether to wait until the disk has each file. False for a store that will not outlive the process.
    progress : callable, optional
        Called with a `Progress` after each tensor.
    """

    workers: int | None = None
    executor: Executor | None = None
    device: str = "cpu"
    durable: bool = True
    progress: OnProgress | None = None

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"device={self.device!r}", f"expected one of {', '.join(DEVICES)}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers={self.workers}", "expected at least 1")


DEFAULT = PassOptions()
