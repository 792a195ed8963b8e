"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from .. import hooks
from . import elementwise, products, reduce, shape

__all__ = ["elementwise", "products", "reduce", "shape"]

elementwise.install()
hooks.install()
