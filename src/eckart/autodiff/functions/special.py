"""Ufuncs of `scipy.special`, which use NumPy's protocol, and NumPy's `sinc`, `i0` and `modf`.

Bessel functions and incomplete gamma functions are differentiated in their argument only, because the
derivatives in the order have no closed form.
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
from ..rules.elementwise import define

ROOT_PI, ROOT_2PI = float(np.sqrt(np.pi)), float(np.sqrt(2 * np.pi))


def order(*_: Array) -> Any:
    """Refuse a derivative in the order of a function."""
    what = f"the derivative with respect to the order of this function is not known{at_line()}"
    raise MissingRuleError("scipy.special", what, "Pass the order as a plain number")


# --- exponentials, logarithms, entropies ----------------------------------------------------------------

define(sp.log1p, lambda y, x: 1 / (1 + x))
define(sp.expm1, lambda y, x: y + 1)
define(sp.exp10, lambda y, x: y * float(np.log(10)))
define(sp.cosm1, lambda y, x: -np.sin(x))
define(sp.expit, lambda y, x: y * (1 - y))
define(sp.logit, lambda y, x: 1 / (x * (1 - x)))
define(sp.log_expit, lambda y, x: sp.expit(-x))
define(sp.xlogy, lambda y, a, b: np.log(b), lambda y, a, b: a / b)
define(sp.xlog1py, lambda y, a, b: np.log1p(b), lambda y, a, b: a / (1 + b))
define(sp.entr, lambda y, x: -np.log(x) - 1)
define(sp.rel_entr, lambda y, a, b: np.log(a / b) + 1, lambda y, a, b: -a / b)
define(sp.kl_div, lambda y, a, b: np.log(a / b), lambda y, a, b: 1 - a / b)
define(sp.huber, lambda y, d, r: np.maximum(np.abs(r) - d, 0), lambda y, d, r: np.clip(r, -d, d))
define(
    sp.pseudo_huber,
    lambda y, d, r: 2 * y / d - (r / d) ** 2 / np.sqrt(1 + (r / d) ** 2) * d,
    lambda y, d, r: r / np.sqrt(1 + (r / d) ** 2),
)

# --- error functions, the normal distribution, exponential integrals ------------------------------------

define(sp.erf, lambda y, x: 2 / ROOT_PI * np.exp(-x * x))
define(sp.erfc, lambda y, x: -2 / ROOT_PI * np.exp(-x * x))
define(sp.erfcx, lambda y, x: 2 * x * y - 2 / ROOT_PI)
define(sp.erfi, lambda y, x: 2 / ROOT_PI * np.exp(x * x))
define(sp.erfinv, lambda y, x: ROOT_PI / 2 * np.exp(y * y))
define(sp.erfcinv, lambda y, x: -ROOT_PI / 2 * np.exp(y * y))
define(sp.dawsn, lambda y, x: 1 - 2 * x * y)
define(sp.ndtr, lambda y, x: np.exp(-x * x / 2) / ROOT_2PI)
define(sp.log_ndtr, lambda y, x: np.exp(-x * x / 2 - y) / ROOT_2PI)
define(sp.ndtri, lambda y, x: ROOT_2PI * np.exp(y * y / 2))
define(sp.exp1, lambda y, x: -np.exp(-x) / x)
define(sp.expi, lambda y, x: np.exp(x) / x)

# --- gamma and beta -------------------------------------------------------------------------------------


@cache
def polygamma(n: int) -> Elementwise:
    """Return the n-th derivative of psi; its derivative is the (n + 1)-th."""
    return Elementwise(f"polygamma {n}", lambda x: sp.polygamma(n, x), lambda y, x: polygamma(n + 1)(x))


define(sp.psi, lambda y, x: polygamma(1)(x))
define(sp.gamma, lambda y, x: y * sp.psi(x))
define(sp.gammaln, lambda y, x: sp.psi(x))
define(sp.loggamma, lambda y, x: sp.psi(x))
define(
    sp.beta, lambda y, a, b: y * (sp.psi(a) - sp.psi(a + b)), lambda y, a, b: y * (sp.psi(b) - sp.psi(a + b))
)
define(sp.betaln, lambda y, a, b: sp.psi(a) - sp.psi(a + b), lambda y, a, b: sp.psi(b) - sp.psi(a + b))
define(sp.gammainc, order, lambda y, a, x: np.exp((a - 1) * np.log(x) - x - sp.gammaln(a)))
define(sp.gammaincc, order, lambda y, a, x: -np.exp((a - 1) * np.log(x) - x - sp.gammaln(a)))

# --- Bessel functions -----------------------------------------------------------------------------------


def define_bessel(f: Any, zero: Any, one: Any, before: float, after: float) -> None:
    """Define a family with f_n' = before f_(n-1) + after f_(n+1), and its functions of order 0 and 1."""
    define(f, order, lambda y, n, x: before * f(n - 1, x) + after * f(n + 1, x))
    define(zero, lambda y, x: 2 * after * one(x))
    define(one, lambda y, x: before * zero(x) + after * f(2, x))


define_bessel(sp.jv, sp.j0, sp.j1, 0.5, -0.5)
define_bessel(sp.yv, sp.y0, sp.y1, 0.5, -0.5)
define_bessel(sp.iv, sp.i0, sp.i1, 0.5, 0.5)
define_bessel(sp.kv, sp.k0, sp.k1, -0.5, -0.5)
define(sp.i0e, lambda y, x: sp.i1e(x) - np.sign(x) * y)
define(sp.i1e, lambda y, x: (sp.i0e(x) + sp.ive(2, x)) / 2 - np.sign(x) * y)
define(sp.ive, order, lambda y, n, x: (sp.ive(n - 1, x) + sp.ive(n + 1, x)) / 2 - np.sign(x) * y)
implements(np.i0)(sp.i0)


@cache
def spherical(n: int) -> Any:
    """Return the spherical Bessel function j_n, whose derivatives of every order are exact at 0.

    Those of sin(x)/x are not.
    """

    def spherical_jn(x: Array) -> Array:
        parity = np.sign(x) ** n  # SciPy 1.14 computes j_n for positive numbers only
        return convert(parity * sp.spherical_jn(n, np.abs(x)), dtype_of(x))

    def slope(y: Array, x: Array) -> Array:
        return ((n * spherical(n - 1)(x) if n else 0) - (n + 1) * spherical(n + 1)(x)) / (2 * n + 1)

    return define(spherical_jn, slope)


implements(np.sinc)(lambda x: spherical(0)(np.pi * x))
implements(np.modf)(lambda x: (x - np.trunc(x), np.trunc(x)))
