"""The standard streams of the program, made safe: closed, full, or connected to a reader that has left."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from eckart.errors import OutputError
from eckart.oserrors import fix_for, reason_of

# What writing to a pipe fails with after its reader has left; Windows reports EINVAL.
LEFT = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace stdout and stderr by streams of which every error is handled in one place.

    Notes
    -----
    If the reader of stdout leaves, as `head` does, the command continues without output: its exit code still
    reports its result. Any other error of stdout is an `OutputError`. Errors of stderr are ignored, because
    remarks and progress must not make a command fail. Streams that a caller has replaced, for example a test,
    stay as they are.
    """
    before = sys.stdout, sys.stderr
    _occupy_closed_descriptors()
    sys.stdout, sys.stderr = _safe(sys.stdout, sys.__stdout__, True), _safe(sys.stderr, sys.__stderr__, False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def check_stdout() -> None:
    """Raise if stdout is closed; call it before any work.

    Raises
    ------
    OutputError
        If the program was started with stdout closed (``>&-``).
    """
    if isinstance(sys.stdout, _Closed):
        raise OutputError(
            "stdout", "it is closed, so results cannot be printed", "Use > /dev/null to discard them"
        )


class _End(io.RawIOBase):
    """The unbuffered end of a standard stream. After its first error, it discards what is written to it."""

    def __init__(self, raw: io.RawIOBase, is_stdout: bool) -> None:
        self._raw, self._is_stdout = raw, is_stdout
        self._is_lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any, /) -> int | None:  # Any: a buffer, for which Python 3.11 has no type
        if not self._is_lost:
            try:
                return self._raw.write(data)
            except OSError as error:
                self._is_lost = True
                if self._is_stdout and error.errno not in LEFT:
                    what = f"the results cannot be printed ({reason_of(error)})"
                    raise OutputError(
                        "stdout", what, fix_for(error, "Use a stream that can be written")
                    ) from error
        return memoryview(data).nbytes


class _Closed(io.TextIOBase):
    """A stream that the program was started without. It discards what is written to it."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return len(text)


def _safe(stream: TextIO | None, original: TextIO | None, is_stdout: bool) -> TextIO:
    if stream is None:
        return _Closed()  # type: ignore[return-value]  # TextIO is a protocol in all but name
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    # An unbuffered stream (python -u) is its own end.
    raw = cast(io.RawIOBase, getattr(stream.buffer, "raw", stream.buffer))
    end = _End(raw, is_stdout)
    return io.TextIOWrapper(
        end if raw is stream.buffer else io.BufferedWriter(end),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors="backslashreplace",  # a name may have characters that the encoding lacks
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _occupy_closed_descriptors() -> None:
    """Open the null device for each closed standard stream.

    Otherwise the next file that is opened gets the number of the stream, and is written to as if it were one.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
