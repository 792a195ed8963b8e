"""`scipy.special`, whose ufuncs reach us by NumPy's protocol, and NumPy's `sinc`, `i0` and `modf`.

Bessel functions are differentiated in their argument alone, the incomplete gamma function likewise: in the
order, derivatives have no closed form.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import scipy.special as sp

from ..core import Array, convert, dtype_of
from ..elementwise import Elementwise
from ..errors import MissingRuleError, at_line
from ..hooks import implements
from ..rules.elementwise import enter

ROOT_PI, ROOT_2PI = float(np.sqrt(np.pi)), float(np.sqrt(2 * np.pi))


def order(*_: Array) -> Any:
    what = f"no derivative in the order is known{at_line()}"
    raise MissingRuleError("scipy.special", what, "Pass a plain number")


# --- exponentials, logarithms, entropies ----------------------------------------------------------------

enter(sp.log1p, lambda y, x: 1 / (1 + x))
enter(sp.expm1, lambda y, x: y + 1)
enter(sp.exp10, lambda y, x: y * float(np.log(10)))
enter(sp.cosm1, lambda y, x: -np.sin(x))
enter(sp.expit, lambda y, x: y * (1 - y))
enter(sp.logit, lambda y, x: 1 / (x * (1 - x)))
enter(sp.log_expit, lambda y, x: sp.expit(-x))
enter(sp.xlogy, lambda y, a, b: np.log(b), lambda y, a, b: a / b)
enter(sp.xlog1py, lambda y, a, b: np.log1p(b), lambda y, a, b: a / (1 + b))
enter(sp.entr, lambda y, x: -np.log(x) - 1)
enter(sp.rel_entr, lambda y, a, b: np.log(a / b) + 1, lambda y, a, b: -a / b)
enter(sp.kl_div, lambda y, a, b: np.log(a / b), lambda y, a, b: 1 - a / b)
enter(sp.huber, lambda y, d, r: np.maximum(np.abs(r) - d, 0), lambda y, d, r: np.clip(r, -d, d))
enter(sp.pseudo_huber, lambda y, d, r: 2 * y / d - (r / d) ** 2 / np.sqrt(1 + (r / d) ** 2) * d,
      lambda y, d, r: r / np.sqrt(1 + (r / d) ** 2))  # fmt: skip

# --- error functions, the normal distribution, exponential integrals ------------------------------------

enter(sp.erf, lambda y, x: 2 / ROOT_PI * np.exp(-x * x))
enter(sp.erfc, lambda y, x: -2 / ROOT_PI * np.exp(-x * x))
enter(sp.erfcx, lambda y, x: 2 * x * y - 2 / ROOT_PI)
enter(sp.erfi, lambda y, x: 2 / ROOT_PI * np.exp(x * x))
enter(sp.erfinv, lambda y, x: ROOT_PI / 2 * np.exp(y * y))
enter(sp.erfcinv, lambda y, x: -ROOT_PI / 2 * np.exp(y * y))
enter(sp.dawsn, lambda y, x: 1 - 2 * x * y)
enter(sp.ndtr, lambda y, x: np.exp(-x * x / 2) / ROOT_2PI)
enter(sp.log_ndtr, lambda y, x: np.exp(-x * x / 2 - y) / ROOT_2PI)
enter(sp.ndtri, lambda y, x: ROOT_2PI * np.exp(y * y / 2))
enter(sp.exp1, lambda y, x: -np.exp(-x) / x)
enter(sp.expi, lambda y, x: np.exp(x) / x)

# --- gamma and beta -------------------------------------------------------------------------------------


@cache
def polygamma(n: int) -> Elementwise:
    """Return the n-th derivative of psi, whose derivative is the next one."""
    return Elementwise(f"polygamma {n}", lambda x: sp.polygamma(n, x), lambda y, x: polygamma(n + 1)(x))


enter(sp.psi, lambda y, x: polygamma(1)(x))
enter(sp.gamma, lambda y, x: y * sp.psi(x))
enter(sp.gammaln, lambda y, x: sp.psi(x))
enter(sp.loggamma, lambda y, x: sp.psi(x))
enter(sp.beta, lambda y, a, b: y * (sp.psi(a) - sp.psi(a + b)),
      lambda y, a, b: y * (sp.psi(b) - sp.psi(a + b)))  # fmt: skip
enter(sp.betaln, lambda y, a, b: sp.psi(a) - sp.psi(a + b), lambda y, a, b: sp.psi(b) - sp.psi(a + b))
enter(sp.gammainc, order, lambda y, a, x: np.exp((a - 1) * np.log(x) - x - sp.gammaln(a)))
enter(sp.gammaincc, order, lambda y, a, x: -np.exp((a - 1) * np.log(x) - x - sp.gammaln(a)))

# --- Bessel functions -----------------------------------------------------------------------------------


def enter_bessel(f: Any, zero: Any, one: Any, before: float, after: float) -> None:
    """Enter a family: f_n' = before f_(n-1) + after f_(n+1), and the functions of order 0 and 1."""
    enter(f, order, lambda y, n, x: before * f(n - 1, x) + after * f(n + 1, x))
    enter(zero, lambda y, x: 2 * after * one(x))
    enter(one, lambda y, x: before * zero(x) + after * f(2, x))


enter_bessel(sp.jv, sp.j0, sp.j1, 0.5, -0.5)
enter_bessel(sp.yv, sp.y0, sp.y1, 0.5, -0.5)
enter_bessel(sp.iv, sp.i0, sp.i1, 0.5, 0.5)
enter_bessel(sp.kv, sp.k0, sp.k1, -0.5, -0.5)
enter(sp.i0e, lambda y, x: sp.i1e(x) - np.sign(x) * y)
enter(sp.i1e, lambda y, x: (sp.i0e(x) + sp.ive(2, x)) / 2 - np.sign(x) * y)
enter(sp.ive, order, lambda y, n, x: (sp.ive(n - 1, x) + sp.ive(n + 1, x)) / 2 - np.sign(x) * y)
implements(np.i0)(sp.i0)


@cache
def spherical(n: int) -> Any:
    """Return the spherical Bessel function j_n, exact at 0 to every order as sin(x)/x is not."""

    def spherical_jn(x: Array) -> Array:
        parity = np.sign(x) ** n  # SciPy 1.14 has j_n of positive numbers only
        return convert(parity * sp.spherical_jn(n, np.abs(x)), dtype_of(x))

    def slope(y: Array, x: Array) -> Array:
        return ((n * spherical(n - 1)(x) if n else 0) - (n + 1) * spherical(n + 1)(x)) / (2 * n + 1)

    return enter(spherical_jn, slope)


implements(np.sinc)(lambda x: spherical(0)(np.pi * x))
implements(np.modf)(lambda x: (x - np.trunc(x), np.trunc(x)))
