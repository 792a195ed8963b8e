"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from .. import hooks
from . import (
    arrange,
    choose,
    elementwise,
    factor,
    fft,
    indexing,
    matfun,
    norms,
    polynomials,
    products,
    samples,
    special,
)

__all__ = [
    "arrange",
    "choose",
    "elementwise",
    "factor",
    "fft",
    "indexing",
    "matfun",
    "norms",
    "polynomials",
    "products",
    "samples",
    "special",
]

elementwise.install()
products.install()
indexing.install()
choose.install()
hooks.install()
