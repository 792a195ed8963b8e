"""NumPy code differentiated forward and in reverse, to any order."""

from __future__ import annotations

from . import rules
from .api import grad, hvp, jvp, linearize, value_and_grad, vjp
from .checkpoint import checkpoint
from .jacobians import hessian, jacobian
from .vmap import vmap

__all__ = ["checkpoint", "grad", "hessian", "hvp", "jacobian", "jvp", "linearize", "rules", "value_and_grad", "vjp", "vmap"]
