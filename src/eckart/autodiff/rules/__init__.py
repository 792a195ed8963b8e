"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from .. import hooks
from . import combine, complex, elementwise, indexing, products, reduce, shape  # noqa: F401

elementwise.install()  # the operators of traced arrays
hooks.install()
