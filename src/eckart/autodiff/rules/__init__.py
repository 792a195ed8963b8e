"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from .. import hooks
from . import (  # noqa: F401
    combine,
    complex,
    determinant,
    elementwise,
    factor,
    indexing,
    matfun,
    norms,
    products,
    reduce,
    shape,
)

elementwise.install()  # the operators of traced arrays
hooks.install()
