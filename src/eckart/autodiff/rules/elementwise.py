"""Elementwise functions: each is one line, its coefficient for each argument.

At the points where a derivative does not exist the rules take: 0 for ``abs`` and ``sqrt`` at 0, half to
each side for ``maximum`` and ``minimum`` at equality (an element of the subdifferential, in every case).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import PYTHON, Array, Primitive, Tracer, concrete, dtype_of
from ..elementwise import Elementwise
from ..hooks import UFUNCS, implements


def enter(
    ufunc: Any, *partials: Callable[..., Any] | None, fun: Any = None, linear_in: tuple[int, ...] = ()
) -> Any:
    """Make a primitive of a ufunc and enter it; ``fun`` computes it, where that is not the ufunc.

    Operators do: numbers of Python stay such, and are much faster than NumPy's.
    """
    prim = Elementwise(ufunc.__name__, fun or ufunc, *partials, linear_in=linear_in)
    UFUNCS[ufunc] = prim.op
    return prim.op


def zero_where(condition: Array, otherwise: Callable[[Array], Array], x: Array) -> Array:
    """Return ``otherwise(x)``, and 0 where the condition holds, without evaluating it there."""
    if not concrete(condition).any():
        return otherwise(x)
    return np.where(condition, 0, otherwise(np.where(condition, 1, x)))


def inverse(b: Array) -> Array:
    """Return 1/b; of a Python zero what NumPy has for it."""
    return 1 / b if type(b) not in PYTHON or b else np.inf


def inverse_or_0(y: Array) -> Array:
    return zero_where(y == 0, np.reciprocal, y)


def quotient(a: Array, b: Array) -> Array:
    return np.divide(a, b) if type(b) in PYTHON and type(a) in PYTHON else a / b


# --- arithmetic -------------------------------------------------------------------------------------

enter(np.add, None, None, fun=operator.add, linear_in=(0, 1))
enter(np.subtract, None, lambda y, a, b: -1, fun=operator.sub, linear_in=(0, 1))
enter(np.multiply, lambda y, a, b: b, lambda y, a, b: a, fun=operator.mul, linear_in=(0, 1))
enter(np.divide, lambda y, a, b: inverse(b), lambda y, a, b: y * -inverse(b), fun=quotient, linear_in=(0,))
enter(np.negative, lambda y, x: -1, fun=operator.neg, linear_in=(0,))
enter(np.positive, None, fun=operator.pos, linear_in=(0,))


def power(x: Array, n: Array) -> Array:
    return np.power(x, n) if type(x) in PYTHON and type(n) in PYTHON else x**n  # Python refuses 0.0**-1


def power_base(y: Array, x: Array, n: Array) -> Array:
    if isinstance(n, (int, float)) and (n >= 1 or n < 0):
        return 2 * x if n == 2 else n * power(x, n - 1)
    root = np.abs(n - 0.5) < 0.5  # 0 < n < 1: infinitely steep at 0
    return zero_where(root & (x == 0), lambda x: n * x ** np.where(n == 0, 1, n - 1), x)


def power_exponent(y: Array, x: Array, n: Array) -> Array:
    """Return y log x, and 0 where x is not positive (a real power is not defined around there)."""
    if dtype_of(y).kind == "c":
        return y * np.log(x)
    return y * zero_where(x <= 0, np.log, x)


enter(np.power, power_base, power_exponent, fun=power)
enter(np.float_power, power_base, power_exponent)


def one_less_square(y: Array) -> Array:
    """Return 1 - y^2, with one new array and not two."""
    square = y * y
    return np.subtract(1, square, out=square) if type(square) is np.ndarray else 1 - square


# --- one argument -----------------------------------------------------------------------------------

enter(np.sin, lambda y, x: np.cos(x))
enter(np.cos, lambda y, x: -np.sin(x))
enter(np.tan, lambda y, x: 1 + y * y)
enter(np.arcsin, lambda y, x: 1 / np.sqrt(1 - x * x))
enter(np.arccos, lambda y, x: -1 / np.sqrt(1 - x * x))
enter(np.arctan, lambda y, x: 1 / (1 + x * x))
enter(np.sinh, lambda y, x: np.cosh(x))
enter(np.cosh, lambda y, x: np.sinh(x))
enter(np.tanh, lambda y, x: one_less_square(y))
enter(np.arcsinh, lambda y, x: 1 / np.sqrt(x * x + 1))
enter(np.arccosh, lambda y, x: 1 / np.sqrt(x * x - 1))
enter(np.arctanh, lambda y, x: 1 / (1 - x * x))
enter(np.exp, lambda y, x: y)
enter(np.exp2, lambda y, x: y * float(np.log(2)))
enter(np.expm1, lambda y, x: y + 1)
enter(np.log, lambda y, x: 1 / x)
enter(np.log2, lambda y, x: float(1 / np.log(2)) / x)
enter(np.log10, lambda y, x: float(1 / np.log(10)) / x)
enter(np.log1p, lambda y, x: 1 / (1 + x))
enter(np.sqrt, lambda y, x: zero_where(y == 0, lambda y: 0.5 / y, y))
enter(np.cbrt, lambda y, x: zero_where(y == 0, lambda y: 1 / (3 * y * y), y))
enter(np.square, lambda y, x: 2 * x)
enter(np.reciprocal, lambda y, x: -y * y)
enter(np.deg2rad, lambda y, x: float(np.pi / 180))
enter(np.rad2deg, lambda y, x: float(180 / np.pi))
UFUNCS[np.radians], UFUNCS[np.degrees] = UFUNCS[np.deg2rad], UFUNCS[np.rad2deg]
magnitude = enter(np.fabs, lambda y, x: np.sign(x))  # of real numbers; `absolute` is in rules/complex.py

# --- two arguments ----------------------------------------------------------------------------------


def chosen(y: Array, a: Array, b: Array) -> Array:
    """Return where the result is ``a``; half where ``b`` is as large."""
    won, ties = y == a, a == b
    return np.where(ties, 0.5, won) if concrete(ties).any() else won


for ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
    enter(ufunc, chosen, lambda y, a, b: chosen(y, b, a))
enter(np.logaddexp, lambda y, a, b: np.exp(a - y), lambda y, a, b: np.exp(b - y))
enter(np.logaddexp2, lambda y, a, b: np.exp2(a - y), lambda y, a, b: np.exp2(b - y))


def across(a: Array, b: Array) -> Array:
    """Return b / (a^2 + b^2) without the squares, which may leave the range of the dtype."""
    size = np.hypot(a, b)
    return b / size / size


enter(np.arctan2, lambda y, a, b: across(a, b), lambda y, a, b: -across(b, a))
enter(np.hypot, lambda y, a, b: a * inverse_or_0(y), lambda y, a, b: b * inverse_or_0(y))
enter(np.remainder, None, lambda y, a, b: -np.floor_divide(a, b))
enter(np.fmod, None, lambda y, a, b: -np.trunc(a / b))
enter(np.copysign, lambda y, a, b: np.sign(a) * np.sign(y), lambda y, a, b: 0.0)
enter(np.ldexp, lambda y, a, b: np.exp2(b), lambda y, a, b: y * float(np.log(2)))

# --- derivative zero --------------------------------------------------------------------------------


def frozen(name: str, fun: Any, batch: Any = True) -> Primitive:
    """Return a primitive of derivative zero; ``batch`` as in `Primitive`, True where it takes stacks."""
    return Primitive(name, fun, lambda *args, **params: None, batch=batch)


stop_gradient = frozen("stop_gradient", lambda x: x)

for flat in (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.floor_divide,
             np.sign, np.floor, np.ceil, np.rint, np.trunc, np.isfinite, np.isnan, np.isinf, np.signbit,
             np.spacing, np.heaviside, np.logical_and, np.logical_or, np.logical_not, np.logical_xor,
             np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert):  # fmt: skip
    enter(flat)
implements(np.divmod)(lambda a, b: (a // b, a % b))

# --- operators ------------------------------------------------------------------------------------------

OF_TWO = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power,
    "mod": np.remainder, "floordiv": np.floor_divide, "divmod": np.divmod, "matmul": np.matmul,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip
OTHERS = {
    "gt": np.greater, "lt": np.less, "ge": np.greater_equal, "le": np.less_equal, "eq": np.equal,
    "ne": np.not_equal, "neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert,
}  # fmt: skip


def install() -> None:
    """Make the operators of `Tracer` the primitives themselves, with nothing in between."""

    def turned(op: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda self, other: op(other, self)

    for name, ufunc in (OF_TWO | OTHERS).items():
        setattr(Tracer, f"__{name}__", UFUNCS[ufunc])
    for name, ufunc in OF_TWO.items():
        setattr(Tracer, f"__r{name}__", turned(UFUNCS[ufunc]))
