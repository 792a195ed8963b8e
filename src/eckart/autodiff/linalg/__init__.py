"""Linear algebra: `np.linalg` and functions of the spectrum. Importing it fills the tables of `hooks`."""

from __future__ import annotations

from . import factor, inverse, norms, spectral_functions  # noqa: F401
