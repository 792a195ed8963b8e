"""The rule book: importing it fills the tables of `hooks`."""

from __future__ import annotations

from importlib import import_module

from .. import hooks
from . import elementwise, indexing, products

for name in ("arrange", "choose", "factor", "fft", "norms", "samples", "special"):
    import_module(f"{__name__}.{name}")
for file in (elementwise, products, indexing):
    file.install()  # the operators of traced arrays
hooks.install()
