"""Ctrl-C and requests to stop: the program ends within a second, with one line and nothing half-written.

A signal raises `Interrupted` in the main thread, and the blocks that write files then remove what is
unfinished. If the main thread does not end in time, for example because it is inside a call of LAPACK, which
no signal interrupts, a second thread removes the unfinished files and ends the process. Either way, the
process does not wait for its worker threads.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from eckart.unfinished import remove_unfinished

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last is Ctrl-Break, which only Windows has
PATIENCE = 0.6  # seconds that the main thread has to end after a signal
REPEATED = 0.2  # seconds within which a signal is a copy: some programs pass on what the terminal sent too


class Interrupted(BaseException):
    """Raised in the main thread by a signal. It is not a KeyboardInterrupt, which typer would catch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_interruptibly(work: Callable[[], int], last_words: Callable[[int], str]) -> int:
    """Run the program, and end the process if a signal arrives meanwhile.

    Parameters
    ----------
    work : callable
        The program; it returns the exit code.
    last_words : callable
        Called with the number of the signal; returns what is printed on stderr before the process ends.

    Returns
    -------
    int
        The exit code of `work`. If a signal arrives, the function does not return.

    Notes
    -----
    A signal that was ignored when the program started stays ignored, as ``nohup`` requires.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # only the main thread may handle signals
    watch = _Watch(last_words)
    try:
        watch.install()
        code = work()
        watch.is_over = True
    except Interrupted as stop:
        watch.end(stop.number)
    finally:
        watch.is_over = True
        watch.uninstall()
    return code


class _Watch:
    """The handlers of all signals, and the thread that ends the process if the main thread does not."""

    def __init__(self, last_words: Callable[[int], str]) -> None:
        self.last_words = last_words
        self.is_over = False  # the work is done; only the exit code is still to be returned
        self._arrived: float | None = None  # when the first signal was handled
        self._ending = threading.Lock()
        self._previous: dict[int, object] = {}
        self._unraisable = sys.unraisablehook
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._thread = threading.Thread(target=self._watch, name="eckart-signals", daemon=True)

    def install(self) -> None:
        """Handle signals from now on."""
        self._thread.start()
        sys.unraisablehook = self._on_unraisable
        # Python writes the number of a signal to this socket at once, even while the main thread is busy.
        self._wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in _numbers():
            previous = signal.getsignal(number)
            if previous not in (signal.SIG_IGN, None):
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Restore the previous handlers."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]  # it comes from getsignal
        signal.set_wakeup_fd(self._wakeup)
        sys.unraisablehook = self._unraisable
        self._sender.close()  # ends the thread
        self._thread.join()
        self._receiver.close()

    def end(self, number: int) -> NoReturn:
        """Print the last words, remove unfinished files and end the process."""
        self._ending.acquire()  # never released: of the two threads, the second one waits here for the end
        with suppress(OSError):
            os.write(2, self.last_words(number).encode("ascii", "backslashreplace"))
        remove_unfinished()
        leave(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._arrived is None and not self.is_over:
            self._arrived = now
            raise Interrupted(number)
        if self.is_over or now - (self._arrived or now) > REPEATED:
            leave(number)

    def _watch(self) -> None:
        number = self._receive(None)
        if number is None:
            return
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            again = self._receive(start + PATIENCE - time.monotonic())
            if again is not None and time.monotonic() - start > REPEATED:
                leave(number)
        self.end(number)

    def _receive(self, timeout: float | None) -> int | None:
        """Return the number of the next signal; None if the time is up, or the program has ended."""
        self._receiver.settimeout(timeout if timeout is None else max(timeout, 0.001))
        with suppress(OSError):  # also TimeoutError
            received = self._receiver.recv(1)
            if received and received[0] in self._previous:
                return received[0]
        return None

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        # Python discards an exception that is raised in a destructor. The thread then ends the process.
        if not isinstance(unraisable.exc_value, Interrupted):
            self._unraisable(unraisable)


def _numbers() -> list[int]:
    """Return the numbers of the signals that this system has."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def leave(number: int) -> NoReturn:
    """End the process at once with the exit code of a signal, by the convention of shells.

    Parameters
    ----------
    number : int
        The signal: SIGINT gives 130, SIGTERM 143 and SIGHUP 129. Ctrl-Break counts as Ctrl-C.
    """
    is_break = number == getattr(signal, "SIGBREAK", None)
    os._exit(128 + (signal.SIGINT if is_break else number))
