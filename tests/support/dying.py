"""Tasks of a pass whose process ends before they do."""

from __future__ import annotations

import os

from eckart.store.record import TensorRecord
from eckart.store.task import Task


def die(task: Task) -> TensorRecord:
    """End the process at once, as the kernel does when memory runs out."""
    os._exit(9)
