"""Inputs that the tests of faults share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import eckart
from support.workshop import add_pictures, make_inputs

IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def scratch(tmp_path) -> Iterator[Path]:
    """Return a folder in memory if the system has one: runs that wait for the disk are slow."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """Return a folder with the inputs of the commands in `support.workshop`."""
    folder = make_inputs(tmp_path_factory.mktemp("inputs"))
    with contextlib.suppress(eckart.errors.MissingExtraError):
        add_pictures(folder)
    return folder
