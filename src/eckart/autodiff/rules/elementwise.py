"""Elementwise functions: one line for each, with the partial derivative in each argument.

Where a derivative does not exist, the rules return an element of the subdifferential: 0 for ``abs`` and
``sqrt`` at 0, and one half for each argument of ``maximum`` and ``minimum`` where both are equal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import PYTHON, Array, Primitive, Tracer, concrete, dtype_of
from ..elementwise import Elementwise
from ..hooks import UFUNCS, implements


def define(
    ufunc: Any, *partials: Callable[..., Any] | None, fun: Any = None, linear_in: tuple[int, ...] = ()
) -> Any:
    """Create the primitive of a ufunc from its partial derivatives and register it with NumPy.

    ``fun`` computes the result if the ufunc itself should not: Python's operators return Python numbers for
    Python numbers, and are much faster on them than ufuncs.
    """
    prim = Elementwise(ufunc.__name__, fun or ufunc, *partials, linear_in=linear_in)
    UFUNCS[ufunc] = prim.op
    return prim.op


def zero_where(condition: Array, otherwise: Callable[[Array], Array], x: Array) -> Array:
    """Return 0 where the condition holds, and ``otherwise(x)`` elsewhere, evaluated only there."""
    if not concrete(condition).any():
        return otherwise(x)
    return np.where(condition, 0, otherwise(np.where(condition, 1, x)))


def inverse(b: Array) -> Array:
    """Return 1/b; infinity for a Python zero, as NumPy does."""
    return 1 / b if type(b) not in PYTHON or b else np.inf


def inverse_or_0(y: Array) -> Array:
    """Return 1/y, and 0 where y is 0."""
    return zero_where(y == 0, np.reciprocal, y)


def quotient(a: Array, b: Array) -> Array:
    """Return a / b; NumPy divides two Python numbers, because Python refuses to divide by 0."""
    return np.divide(a, b) if type(b) in PYTHON and type(a) in PYTHON else a / b


# --- arithmetic -------------------------------------------------------------------------------------

define(np.add, None, None, fun=operator.add, linear_in=(0, 1))
define(np.subtract, None, lambda y, a, b: -1, fun=operator.sub, linear_in=(0, 1))
define(np.multiply, lambda y, a, b: b, lambda y, a, b: a, fun=operator.mul, linear_in=(0, 1))
define(np.divide, lambda y, a, b: inverse(b), lambda y, a, b: y * -inverse(b), fun=quotient, linear_in=(0,))
define(np.negative, lambda y, x: -1, fun=operator.neg, linear_in=(0,))
define(np.positive, None, fun=operator.pos, linear_in=(0,))


def power(x: Array, n: Array) -> Array:
    """Return x**n; NumPy computes it for two Python numbers, because Python refuses 0.0**-1."""
    return np.power(x, n) if type(x) in PYTHON and type(n) in PYTHON else x**n


def power_base(y: Array, x: Array, n: Array) -> Array:
    """Return the derivative of x**n in x: n x**(n - 1), and 0 at x = 0 for 0 < n < 1."""
    if isinstance(n, (int, float)) and (n >= 1 or n < 0):
        return 2 * x if n == 2 else n * power(x, n - 1)
    root = np.abs(n - 0.5) < 0.5  # 0 < n < 1: the slope at 0 is infinite
    return zero_where(root & (x == 0), lambda x: n * x ** np.where(n == 0, 1, n - 1), x)


def power_exponent(y: Array, x: Array, n: Array) -> Array:
    """Return the derivative of y = x**n in n: y log x, and 0 where x is not positive.

    Near such an x, a real power of x is not defined.
    """
    if dtype_of(y).kind == "c":
        return y * np.log(x)
    return y * zero_where(x <= 0, np.log, x)


define(np.power, power_base, power_exponent, fun=power)
define(np.float_power, power_base, power_exponent)


def one_less_square(y: Array) -> Array:
    """Return 1 - y^2, allocating one array instead of two."""
    square = y * y
    return np.subtract(1, square, out=square) if type(square) is np.ndarray else 1 - square


# --- one argument -----------------------------------------------------------------------------------

define(np.sin, lambda y, x: np.cos(x))
define(np.cos, lambda y, x: -np.sin(x))
define(np.tan, lambda y, x: 1 + y * y)
define(np.arcsin, lambda y, x: 1 / np.sqrt(1 - x * x))
define(np.arccos, lambda y, x: -1 / np.sqrt(1 - x * x))
define(np.arctan, lambda y, x: 1 / (1 + x * x))
define(np.sinh, lambda y, x: np.cosh(x))
define(np.cosh, lambda y, x: np.sinh(x))
define(np.tanh, lambda y, x: one_less_square(y))
define(np.arcsinh, lambda y, x: 1 / np.sqrt(x * x + 1))
define(np.arccosh, lambda y, x: 1 / np.sqrt(x * x - 1))
define(np.arctanh, lambda y, x: 1 / (1 - x * x))
define(np.exp, lambda y, x: y)
define(np.exp2, lambda y, x: y * float(np.log(2)))
define(np.expm1, lambda y, x: y + 1)
define(np.log, lambda y, x: 1 / x)
define(np.log2, lambda y, x: float(1 / np.log(2)) / x)
define(np.log10, lambda y, x: float(1 / np.log(10)) / x)
define(np.log1p, lambda y, x: 1 / (1 + x))
define(np.sqrt, lambda y, x: zero_where(y == 0, lambda y: 0.5 / y, y))
define(np.cbrt, lambda y, x: zero_where(y == 0, lambda y: 1 / (3 * y * y), y))
define(np.square, lambda y, x: 2 * x)
define(np.reciprocal, lambda y, x: -y * y)
define(np.deg2rad, lambda y, x: float(np.pi / 180))
define(np.rad2deg, lambda y, x: float(180 / np.pi))
UFUNCS[np.radians], UFUNCS[np.degrees] = UFUNCS[np.deg2rad], UFUNCS[np.rad2deg]
magnitude = define(np.fabs, lambda y, x: np.sign(x))  # for real numbers; `absolute` is in rules/complex.py

# --- two arguments ----------------------------------------------------------------------------------


def chosen(y: Array, a: Array, b: Array) -> Array:
    """Return 1 where the result is ``a``, one half where ``a`` and ``b`` are equal, and 0 elsewhere."""
    won, ties = y == a, a == b
    return np.where(ties, 0.5, won) if concrete(ties).any() else won


for ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
    define(ufunc, chosen, lambda y, a, b: chosen(y, b, a))
define(np.logaddexp, lambda y, a, b: np.exp(a - y), lambda y, a, b: np.exp(b - y))
define(np.logaddexp2, lambda y, a, b: np.exp2(a - y), lambda y, a, b: np.exp2(b - y))


def over_squares(a: Array, b: Array) -> Array:
    """Return b / (a^2 + b^2) without the squares, which may overflow or underflow."""
    size = np.hypot(a, b)
    return b / size / size


define(np.arctan2, lambda y, a, b: over_squares(a, b), lambda y, a, b: -over_squares(b, a))
define(np.hypot, lambda y, a, b: a * inverse_or_0(y), lambda y, a, b: b * inverse_or_0(y))
define(np.remainder, None, lambda y, a, b: -np.floor_divide(a, b))
define(np.fmod, None, lambda y, a, b: -np.trunc(a / b))
define(np.copysign, lambda y, a, b: np.sign(a) * np.sign(y), lambda y, a, b: 0.0)
define(np.ldexp, lambda y, a, b: np.exp2(b), lambda y, a, b: y * float(np.log(2)))

# --- derivative zero --------------------------------------------------------------------------------


def frozen(name: str, fun: Any, batch: Any = True) -> Primitive:
    """Return a primitive whose derivative is zero; ``batch`` as in `Primitive`."""
    return Primitive(name, fun, lambda *args, **params: None, batch=batch)


stop_gradient_p = frozen("stop_gradient", lambda x: x)


def stop_gradient(x: Array) -> Array:
    """Return ``x``, treated as a constant by every derivative.

    Parameters
    ----------
    x : array
        An array of any shape and dtype.

    Returns
    -------
    array
        The same array; its derivative is zero.

    Examples
    --------
    >>> from eckart.autodiff import grad
    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return stop_gradient_p(x)


for flat in (
    np.greater,
    np.greater_equal,
    np.less,
    np.less_equal,
    np.equal,
    np.not_equal,
    np.floor_divide,
    np.sign,
    np.floor,
    np.ceil,
    np.rint,
    np.trunc,
    np.isfinite,
    np.isnan,
    np.isinf,
    np.signbit,
    np.spacing,
    np.heaviside,
    np.logical_and,
    np.logical_or,
    np.logical_not,
    np.logical_xor,
    np.bitwise_and,
    np.bitwise_or,
    np.bitwise_xor,
    np.invert,
):
    define(flat)
implements(np.divmod)(lambda a, b: (a // b, a % b))

# --- operators ------------------------------------------------------------------------------------------

BINARY_OPERATORS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "pow": np.power,
    "mod": np.remainder,
    "floordiv": np.floor_divide,
    "divmod": np.divmod,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
OTHER_OPERATORS = {
    "gt": np.greater,
    "lt": np.less,
    "ge": np.greater_equal,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "neg": np.negative,
    "pos": np.positive,
    "abs": np.absolute,
    "invert": np.invert,
}


def install() -> None:
    """Set the operators of `Tracer` to the primitives themselves, which saves one call."""

    def reflected(op: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda self, other: op(other, self)

    for name, ufunc in (BINARY_OPERATORS | OTHER_OPERATORS).items():
        setattr(Tracer, f"__{name}__", UFUNCS[ufunc])
    for name, ufunc in BINARY_OPERATORS.items():
        setattr(Tracer, f"__r{name}__", reflected(UFUNCS[ufunc]))
