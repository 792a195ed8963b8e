"""Automatic differentiation of NumPy code: forward and reverse mode, any order, with printable traces.

Reading order: `core` (tracers, levels, primitives), `tape` (reverse mode), `elementwise` (the hot path),
`hooks` (how NumPy calls the library), `rules` (derivatives of array functions), `api` and `jacobians` (the
transformations), `vmap`, `checkpoint`. Then `linalg`, which holds the mathematics; `functions`, the remaining
NumPy and SciPy functions; `inspection` and `identities`, which only use the transformations.
"""

from __future__ import annotations

from . import functions as _functions  # noqa: F401  (importing it fills the tables of `hooks`)
from . import linalg as _linalg  # noqa: F401
from . import rules as _rules  # noqa: F401
from .api import grad, hvp, jvp, linearize, value_and_grad, vjp
from .checkpoint import checkpoint
from .identities import identities
from .inspection.checks import check_grad, check_grads
from .inspection.wengert import trace
from .jacobians import hessian, jacobian
from .linalg.spectral_functions import eigfun, low_rank, nuclear_norm, polar, soft_threshold, svdfun
from .rules.elementwise import stop_gradient
from .vmap import vmap

__all__ = [
    "check_grad",
    "check_grads",
    "checkpoint",
    "eigfun",
    "grad",
    "hessian",
    "hvp",
    "identities",
    "jacobian",
    "jvp",
    "linearize",
    "low_rank",
    "nuclear_norm",
    "polar",
    "soft_threshold",
    "stop_gradient",
    "svdfun",
    "trace",
    "value_and_grad",
    "vjp",
    "vmap",
]
