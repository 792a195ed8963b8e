"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from .. import hooks
from . import elementwise, factor, fft, linalg, matfun, products, reduce, shape, spectral

__all__ = ["elementwise", "factor", "fft", "linalg", "matfun", "products", "reduce", "shape", "spectral"]

elementwise.install()
products.install()
shape.install()
hooks.install()
