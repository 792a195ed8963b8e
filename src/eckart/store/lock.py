"""The lock of a store: one pass at a time, among processes and among threads."""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from eckart.errors import StoreError
from eckart.store.files import LOCK
from eckart.unfinished import add_unfinished, forget_unfinished


@dataclass(frozen=True)
class Holder:
    """The thread that runs a pass, as it is recorded in the lock file.

    Parameters
    ----------
    process, thread : int
        Identifiers of the operating system.
    host : str
        Name of the machine.
    """

    process: int
    thread: int
    host: str

    @classmethod
    def of_this_thread(cls) -> Holder:
        """Return the calling thread."""
        return cls(os.getpid(), threading.get_ident(), platform.node())

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return the holder that a lock file names; None if it names none, or cannot be read."""
        try:
            if not path.is_file():  # opening a pipe would wait forever
                return None
            data = json.loads(path.read_bytes())
            return cls(int(data["process"]), int(data["thread"]), str(data["host"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


@contextmanager
def locked(folder: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a store; wait as long as another pass holds it.

    Parameters
    ----------
    folder : Path
        Folder of the store, which must exist.
    notify : callable
        Called with a sentence that names the store and the holder, if the lock is not free.

    Raises
    ------
    StoreError
        If this thread holds the lock itself, so that it would wait forever.
    OSError
        If the folder cannot be written.

    Notes
    -----
    The system releases the lock when its process ends, however it ends. The file is removed by its holder.
    A waiting process notices that the file it has opened is gone, and opens the new one.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK
    lock = FileLock(path, poll_interval=0.1)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = Holder.read(path)
        if holder == Holder.of_this_thread():
            raise StoreError(
                str(folder),
                "this thread is already running a pass on this store",
                "Wait until that pass has ended",
            ) from None
        notify(f"{folder}: another pass is filling this store ({_described(holder)}); waiting for it to end")
        lock.acquire()
    add_unfinished(path)
    try:
        _write_holder(path)
        yield
    finally:
        _release(path, lock.release)


@contextmanager
def locked_if_free(folder: Path) -> Iterator[bool]:
    """Hold the lock of a store if it is free and the folder can be written; yield whether it is held."""
    from filelock import FileLock, Timeout

    path = folder / LOCK
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        _release(path, lock.release)


def _write_holder(path: Path) -> None:
    with suppress(OSError):  # Windows refuses writing to a locked file; then waiting passes name no holder
        path.write_text(json.dumps(asdict(Holder.of_this_thread())) + "\n", encoding="utf-8")


def _release(path: Path, release: Callable[[], None]) -> None:
    try:
        if os.name != "nt":  # there, an open file cannot be removed, and the library removes it
            path.unlink(missing_ok=True)
    finally:
        forget_unfinished(path)
        release()


def _described(holder: Holder | None) -> str:
    if holder is None:
        return "in another process"
    this = Holder.of_this_thread()
    if (holder.process, holder.host) == (this.process, this.host):
        return "another thread of this process"
    return f"process {holder.process} on {holder.host}"
