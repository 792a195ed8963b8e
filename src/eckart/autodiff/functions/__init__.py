"""NumPy's and SciPy's other functions, by those of the rule book: to be looked up, nothing imports them.

Importing it fills the tables of `hooks`.
"""

from __future__ import annotations

from . import arrange, fft, polynomials, products, refused, samples, special, sums  # noqa: F401
