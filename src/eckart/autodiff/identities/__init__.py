"""Formulas of matrix calculus, each with its gradient as a function, and verified by differentiation.

The numbering of the first fifteen follows the course notes they come from; the others are from K. B. Petersen
& M. S. Pedersen, "The Matrix Cookbook" (2012), and the literature on spectral functions. The gradient of f(X)
is the array of df/dX_ij. Over symmetric matrices it is (G + G^T) / 2 for the G of the unrestricted formula
(Srinivasan & Panda, arXiv:1911.06491); the often quoted G + G^T - diag(G) is not a gradient.

Run ``python -m eckart.autodiff.identities`` to verify the table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..api import grad
from ..checks import differences
from ..jacobians import jacobian
from .table import Identity, identities, symmetric

__all__ = ["BOUND", "ROUNDING", "Identity", "Verified", "identities", "symmetric", "verify"]

ROUNDING, BOUND = 1e-12, 1e-8  # on the errors of `Verified`


class Verified(NamedTuple):
    """The largest errors of the closed form against automatic differentiation and differences.

    Relative to its largest entry. The first is rounding, some n eps times the condition of X; the second is
    the error of the differences, about eps^(4/5).
    """

    identity: Identity
    autodiff: float
    differences: float

    @property
    def holds(self) -> bool:
        return self.autodiff <= ROUNDING and self.differences <= BOUND  # not for NaN


def verify(row: Identity) -> Verified:
    """Compare a closed form with automatic differentiation and with differences, entry by entry."""
    closed = np.asarray(row.gradient(row.x, *row.constants))
    scalar = np.ndim(row.f(row.x, *row.constants)) == 0
    found = (grad if scalar else jacobian)(row.f)(row.x, *row.constants)
    units = np.eye(row.x.size).reshape(-1, *row.x.shape)
    columns = [differences(lambda x: row.f(x, *row.constants), [row.x], [unit]).value for unit in units]
    by_steps = np.stack(columns, axis=-1).reshape(closed.shape)
    errors = [float(np.abs(closed - other).max() / np.abs(closed).max()) for other in (found, by_steps)]
    return Verified(row, *errors)
