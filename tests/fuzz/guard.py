"""What a case may not do, and how it is noticed: writes elsewhere, other programs, time and memory."""

from __future__ import annotations

import faulthandler
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

CPU_SECONDS = 5
WALL_SECONDS = 60  # for a case that waits for something that never comes; a busy machine needs long, too
MEMORY = 1 << 30
ADDRESSES = 3 << 30  # beyond what the process has at the start; stacks and arenas of threads reserve much
PATHS_OF = {  # audit events, and which of their arguments are paths
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.link": (0, 1),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
}
FORBIDDEN = (
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "urllib.Request",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Records forbidden actions while a case runs; Python reports each of them as an audit event."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._actions: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """Yield the list of forbidden actions; writes are allowed in this folder."""
        self._actions, self._folder = [], os.path.realpath(folder)
        try:
            yield self._actions
        finally:
            self._folder = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None:
            return
        if event in FORBIDDEN:
            self._actions.append(f"{event} {arguments[:1]}")
        elif event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITES)
            if writes and not isinstance(path, int):
                self._check(event, path)
        elif event in PATHS_OF:
            for i in PATHS_OF[event]:
                if not isinstance(arguments[i], int):
                    self._check(event, arguments[i])

    def _check(self, event: str, path: Any) -> None:
        folder, self._folder = self._folder, None  # realpath raises no event of its own, but may one day
        assert folder is not None
        try:
            place = os.fsdecode(path)
            place = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
            if event == "open":
                place = os.path.realpath(place)
            if not place.startswith(folder + os.sep) and place != os.devnull:
                self._actions.append(f"{event} {place}")
        finally:
            self._folder = folder


@dataclass
class Memory:
    """The growth of the resident memory since this object was made, at its peak."""

    start: int = 0

    def __post_init__(self) -> None:
        if self._can_reset():
            Path("/proc/self/clear_refs").write_text("5")
        self.start = self._peak()

    def grown(self) -> int:
        """Return the growth in bytes."""
        return max(0, self._peak() - self.start)

    @staticmethod
    def _can_reset() -> bool:
        return os.access("/proc/self/clear_refs", os.W_OK)

    def _peak(self) -> int:
        if self._can_reset():
            status = Path("/proc/self/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def limit_memory() -> None:
    """Limit the address space of this process, where the system can."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        size = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, size + ADDRESSES))


@contextmanager
def time_limit(trace: TextIO) -> Iterator[None]:
    """End this process if its CPU time or the clock passes the limit; the stack is written to a file."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime + CPU_SECONDS) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    faulthandler.register(signal.SIGXCPU, trace, chain=True)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
    faulthandler.dump_traceback_later(WALL_SECONDS, exit=True, file=trace)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
