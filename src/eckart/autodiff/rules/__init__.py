"""The rule book: importing it fills the tables of `hooks`.

A name that ends in _p is a primitive's; in _jvp, _back, _shape or _batch that of one of its rules.
"""

from __future__ import annotations

from .. import hooks
from . import combine, complex, elementwise, indexing, products, reduce, shape  # noqa: F401

elementwise.install()  # the operators of traced arrays
hooks.install()
