"""The rule book: derivatives of elementwise functions, sums, products and indexing.

Importing it fills the tables of `hooks`. Names that end in _p are primitives; those that end in _jvp, _back,
_shape or _batch are rules of a primitive.
"""

from __future__ import annotations

from .. import hooks
from . import combine, complex, elementwise, indexing, products, reduce, shape  # noqa: F401

elementwise.install()  # the operators of traced arrays
hooks.install()
