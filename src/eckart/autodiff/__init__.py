"""NumPy code differentiated forward and in reverse, to any order."""

from __future__ import annotations

from . import rules
from .api import grad, hvp, jvp, linearize, value_and_grad, vjp
from .checkpoint import checkpoint
from .jacobians import hessian, jacobian
from .rules.spectral import eigfun, low_rank, nuclear_norm, polar, soft_threshold, svdfun
from .vmap import vmap

__all__ = [
    "checkpoint", "eigfun", "grad", "hessian", "hvp", "jacobian", "jvp", "linearize", "low_rank", "nuclear_norm", "polar",
    "rules", "soft_threshold", "svdfun", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
