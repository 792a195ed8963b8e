"""Elementwise functions: one coefficient for each argument. They are the hot path, and written to be short.

What `bind` and `Derive.process` do in general is done here at once for the usual case: one level, one or two
arguments. Anything else goes the general way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .core import PLAIN, PYTHON, Array, Dual, Primitive, bind, dtype_of, escaped, fit, shape_of
from .tape import SCALE, Row


class Elementwise(Primitive):
    """A ufunc of one or two arguments with one partial derivative for each.

    Parameters
    ----------
    name, fun
        As in `Primitive`.
    partials : callables
        ``partial(y, x)`` or ``partial(y, a, b)``: the coefficient of that argument's tangent; None
        for 1. Without partials the derivative is zero everywhere.
    linear_in : tuple of int
        The arguments in which it is linear, so that it can be applied to tangents.
    """

    def __init__(
        self,
        name: str,
        fun: Callable[..., Any],
        *partials: Callable[..., Any] | None,
        linear_in: tuple[int, ...] = (),
    ) -> None:
        super().__init__(name, fun, batch=True)
        self.partials, self.linear_in = partials, linear_in
        self.op = (binary if len(partials) == 2 else unary if len(partials) == 1 else flat)(self)

    def __call__(self, *args: Array, **params: Any) -> Any:
        return self.op(*args)

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        if not self.partials:
            return None
        live = [i for i, t in enumerate(tangents) if t is not None]
        coefs = [self.coefficient(i, out, args) for i in live]
        tangents = [tangents[i] for i in live]
        if type(tangents[0]) is Row:
            return tangents[0].level.add(SCALE, tangents, coefs, None, shape_of(out), dtype_of(out))
        return SCALE.apply(coefs, tangents)

    def is_linear_in(self, live: list[int]) -> bool:
        return set(live) <= set(self.linear_in)


def paired(level: Any, y: Array, tangents: tuple[Any, ...], coefs: tuple[Any, ...]) -> Dual:
    """Return ``y`` with the tangent "sum of c_i t_i", recorded or computed."""
    if level.over:
        raise escaped()
    if type(tangents[0]) is not Row:
        return Dual(level, y, fit(SCALE.apply(coefs, tangents), y))
    tape = tangents[0].level
    if type(y) in PYTHON:
        row = Row(tape, SCALE, tangents, coefs, None, (), PYTHON[type(y)])
    else:
        row = Row(tape, SCALE, tangents, coefs, None, y.shape, y.dtype)
    tape.rows.append(row)
    return Dual(level, y, row)


def unary(prim: Elementwise) -> Callable[..., Any]:
    """Return the short way to call a function of one argument."""
    fun, (partial,) = prim.fun, prim.partials

    def op(x: Array) -> Any:
        if type(x) is not Dual:
            return bind(prim, (x,), {})
        value = x.value
        y = fun(value)
        return paired(x.level, y, (x.tangent,), (partial and partial(y, value),))

    return op


def binary(prim: Elementwise) -> Callable[..., Any]:
    """Return the short way to call a function of two arguments."""
    fun, (left, right) = prim.fun, prim.partials

    def op(a: Array, b: Array) -> Any:
        if type(a) is Dual:
            level, x = a.level, a.value
            if type(b) is Dual:
                if b.level is level:
                    z, t, u = b.value, a.tangent, b.tangent
                    y = fun(x, z)
                    c, d = left and left(y, x, z), right and right(y, x, z)
                    if t is u and c is not None and d is not None:  # x * x
                        return paired(level, y, (t,), (c + d,))
                    return paired(level, y, (t, u), (c, d))
            elif type(b) in PLAIN:
                y = fun(x, b)
                return paired(level, y, (a.tangent,), (left and left(y, x, b),))
        elif type(b) is Dual and type(a) in PLAIN:
            z = b.value
            y = fun(a, z)
            return paired(b.level, y, (b.tangent,), (right and right(y, a, z),))
        return bind(prim, (a, b), {})

    return op


def flat(prim: Elementwise) -> Callable[..., Any]:
    """Return the way to call a function whose derivative is zero: comparisons, floor, sign."""
    return lambda *args: bind(prim, args, {})
