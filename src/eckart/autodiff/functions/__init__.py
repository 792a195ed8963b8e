"""The remaining functions of NumPy and SciPy, written with those of the rule book.

No other part imports them. Importing the package fills the tables of `hooks`.
"""

from __future__ import annotations

from . import arrange, fft, polynomials, products, refused, samples, special, sums  # noqa: F401
