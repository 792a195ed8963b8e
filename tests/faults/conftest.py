"""Inputs that the tests of faults share."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import eckart
from support.workshop import add_pictures, make_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """Return a folder with the inputs of the commands in `support.workshop`."""
    folder = make_inputs(tmp_path_factory.mktemp("inputs"))
    with contextlib.suppress(eckart.errors.MissingExtraError):
        add_pictures(folder)
    return folder
