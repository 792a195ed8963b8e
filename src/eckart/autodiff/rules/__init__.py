"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from .. import hooks
from . import arrange, choose, elementwise, factor, fft, indexing, matfun, norms, products

__all__ = ["arrange", "choose", "elementwise", "factor", "fft", "indexing", "matfun", "norms", "products"]

elementwise.install()
products.install()
indexing.install()
hooks.install()
