"""More of `scipy.special`, whose ufuncs reach us by NumPy's protocol, and NumPy's `sinc` and `i0`.

Bessel functions are differentiated in their argument alone, the incomplete gamma function likewise: in the
order, derivatives have no closed form.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import scipy.special as sp

from ..core import Array, Tracer, convert, dtype_of
from ..errors import MissingRuleError, at_line
from ..hooks import UFUNCS, implements
from .elementwise import ROOT_PI, enter


def order(*_: Array) -> Any:
    raise MissingRuleError(
        "scipy.special", f"no derivative in the order is known{at_line()}", "Pass a plain number"
    )


# --- errors, logarithms, beta ---------------------------------------------------------------------------

enter(sp.erfcx, lambda y, x: 2 * x * y - 2 / ROOT_PI)
enter(sp.erfi, lambda y, x: 2 / ROOT_PI * np.exp(x * x))
enter(sp.erfcinv, lambda y, x: -ROOT_PI / 2 * np.exp(y * y))
enter(sp.ndtri, lambda y, x: float(np.sqrt(2 * np.pi)) * np.exp(y * y / 2))
enter(sp.dawsn, lambda y, x: 1 - 2 * x * y)
enter(sp.exp1, lambda y, x: -np.exp(-x) / x)
enter(sp.expi, lambda y, x: np.exp(x) / x)
enter(sp.log1p, lambda y, x: 1 / (1 + x))
enter(sp.expm1, lambda y, x: y + 1)
enter(sp.exp10, lambda y, x: y * float(np.log(10)))
enter(sp.cosm1, lambda y, x: -np.sin(x))
enter(sp.xlog1py, lambda y, a, b: np.log1p(b), lambda y, a, b: a / (1 + b))
enter(sp.rel_entr, lambda y, a, b: np.log(a / b) + 1, lambda y, a, b: -a / b)
enter(sp.kl_div, lambda y, a, b: np.log(a / b), lambda y, a, b: 1 - a / b)
enter(sp.huber, lambda y, d, r: np.maximum(np.abs(r) - d, 0), lambda y, d, r: np.clip(r, -d, d))
enter(sp.pseudo_huber, lambda y, d, r: 2 * y / d - (r / d) ** 2 / np.sqrt(1 + (r / d) ** 2) * d,
      lambda y, d, r: r / np.sqrt(1 + (r / d) ** 2))  # fmt: skip
enter(sp.loggamma, lambda y, x: sp.psi(x))
enter(sp.beta, lambda y, a, b: y * (sp.psi(a) - sp.psi(a + b)),
      lambda y, a, b: y * (sp.psi(b) - sp.psi(a + b)))  # fmt: skip
enter(sp.betaln, lambda y, a, b: sp.psi(a) - sp.psi(a + b), lambda y, a, b: sp.psi(b) - sp.psi(a + b))
enter(sp.gammainc, order, lambda y, a, x: np.exp((a - 1) * np.log(x) - x - sp.gammaln(a)))
enter(sp.gammaincc, order, lambda y, a, x: -np.exp((a - 1) * np.log(x) - x - sp.gammaln(a)))

# --- Bessel functions -----------------------------------------------------------------------------------

enter(sp.jv, order, lambda y, n, x: (sp.jv(n - 1, x) - sp.jv(n + 1, x)) / 2)
enter(sp.yv, order, lambda y, n, x: (sp.yv(n - 1, x) - sp.yv(n + 1, x)) / 2)
enter(sp.iv, order, lambda y, n, x: (sp.iv(n - 1, x) + sp.iv(n + 1, x)) / 2)
enter(sp.kv, order, lambda y, n, x: -(sp.kv(n - 1, x) + sp.kv(n + 1, x)) / 2)
enter(sp.j0, lambda y, x: -sp.j1(x))
enter(sp.j1, lambda y, x: (sp.j0(x) - sp.jv(2, x)) / 2)
enter(sp.y0, lambda y, x: -sp.y1(x))
enter(sp.y1, lambda y, x: (sp.y0(x) - sp.yv(2, x)) / 2)
enter(sp.i0, lambda y, x: sp.i1(x))
enter(sp.i1, lambda y, x: (sp.i0(x) + sp.iv(2, x)) / 2)
enter(sp.k0, lambda y, x: -sp.k1(x))
enter(sp.k1, lambda y, x: -(sp.k0(x) + sp.kv(2, x)) / 2)
enter(sp.i0e, lambda y, x: sp.i1e(x) - np.sign(x) * y)
enter(sp.i1e, lambda y, x: (sp.i0e(x) + sp.ive(2, x)) / 2 - np.sign(x) * y)
enter(sp.ive, order, lambda y, n, x: (sp.ive(n - 1, x) + sp.ive(n + 1, x)) / 2 - np.sign(x) * y)
implements(np.i0)(sp.i0)


@cache
def spherical(n: int) -> Any:
    """Return the spherical Bessel function j_n, exact at 0 to every order as sin(x)/x is not."""

    def spherical_jn(x: Array) -> Array:
        if isinstance(x, Tracer):
            return spherical(n)(x)
        parity = np.sign(x) ** n  # SciPy 1.14 has j_n of positive numbers only
        return convert(parity * sp.spherical_jn(n, np.abs(x)), dtype_of(x))

    def slope(y: Array, x: Array) -> Array:
        return ((n * spherical(n - 1)(x) if n else 0) - (n + 1) * spherical(n + 1)(x)) / (2 * n + 1)

    return enter(spherical_jn, slope)


implements(np.sinc)(lambda x: spherical(0)(np.pi * x))

UFUNCS[np.modf] = lambda x: (x - np.trunc(x), np.trunc(x))
