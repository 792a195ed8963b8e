"""Ctrl-C while the program is still being imported, which takes half a second, prints no stack trace.

The package imports this module before all others. In a program other than ``eckart`` it does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import PurePath
from types import FrameType


def is_program() -> bool:
    """Return whether this process is the command line of Eckart, rather than a program that imports it."""
    if sys.argv[:1] == ["-m"]:  # while Python looks for the module that it will run
        options = sys.orig_argv
        return "-m" in options and options[options.index("-m") + 1 :][:1] == ["eckart"]
    return PurePath((sys.argv or [""])[0]).stem == "eckart"


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
