"""Elementwise functions: one coefficient for each argument. They are the hot path, and written to be short.

What `bind` and `Derive.process` do in general is done here at once for the usual case: one level that is
running, one or two arguments. Anything else goes the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import BuiltinFunctionType
from typing import Any

import numpy as np

from .core import PLAIN, PYTHON, Array, Dual, Function, Primitive, bind, fit, shape_of, total
from .tape import Row


class Elementwise(Primitive):
    """A function that acts entry by entry, with one partial derivative for each argument.

    Its tangent is the sum of c_i t_i; a row of the tape keeps the coefficients c_i, of which None is 1.

    Parameters
    ----------
    name, fun
        As in `Primitive`.
    partials : callables
        ``partial(y, x)``, ``partial(y, a, b)``, ..: from result and arguments, the coefficient of that
        argument's tangent; None for 1. Without partials the derivative is zero everywhere.
    linear_in : tuple of int
        The arguments in which it is linear, so that it can be applied to tangents.
    """

    def __init__(
        self, name: str, fun: Function, *partials: Function | None, linear_in: tuple[int, ...] = ()
    ) -> None:
        super().__init__(name, fun, batch=True, joint=True)
        self.partials, self.linear_in = partials, linear_in
        self.shape = lambda *args, **params: np.broadcast_shapes(*map(shape_of, args))
        native = isinstance(fun, (np.ufunc, BuiltinFunctionType))  # it finds tracers below by itself
        self.below: Function = fun if native else lambda *args: bind(self, args, {})
        short = {1: unary, 2: binary}.get(len(partials))
        self.op: Function = short(self) if short else lambda *args: bind(self, args, {})
        self.op.__qualname__ = name  # for Python to name if it is called with other arguments

    def __call__(self, *args: Array, **params: Any) -> Any:
        return bind(self, args, params) if params else self.op(*args)

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        if not self.partials:
            return None
        live = [i for i, t in enumerate(tangents) if t is not None]
        coefs = [p and p(out, *args, **params) for p in (self.partials[i] for i in live)]
        return self.tangent(out, [tangents[i] for i in live], coefs)

    def tangent(self, y: Array, tangents: Sequence[Any], coefs: Sequence[Any]) -> Any:
        """Return the tangent of the result ``y``, computed or recorded."""
        first = tangents[0]
        if type(first) is not Row:
            return fit(self.apply(coefs, tangents), y)
        if type(y) in PYTHON:  # here and below as `Tape.add`, without its call
            row = Row(first.level, self, tangents, coefs, None, (), PYTHON[type(y)])
        else:
            row = Row(first.level, self, tangents, coefs, None, y.shape, y.dtype)
        first.level.rows.append(row)
        return row

    def apply(self, coefs: Sequence[Any], tangents: Sequence[Any], params: Any = None) -> Any:
        out = None
        for c, t in zip(coefs, tangents, strict=True):
            if t is not None:
                out = total(out, t if c is None else c * t)
        return out

    def pull(self, row: Row, ct: Array) -> None:
        parents, last = row.parents, row.parents[-1]
        mine = row.own and type(ct) is np.ndarray  # then its last reader may write into it
        if len(parents) == 1:  # as below, at once
            (c,) = row.known
            if mine and type(c) is np.ndarray and c.dtype is ct.dtype:
                ct *= c
                last.give(ct, True)
                return
        elif parents[0] is last:
            mine = False
        for p, c in zip(parents, row.known):  # noqa: B905
            if c is None:
                p.give(ct, mine and p is last)
                mine = False  # a parent holds it now
            elif mine and p is last and (type(c) is float or (type(c) is np.ndarray and c.dtype is ct.dtype)):
                ct *= c
                p.give(ct, True)
            else:
                p.give(ct * c, True)


def unary(prim: Elementwise) -> Function:
    """Return the short way to call a function of one argument."""
    fun, tangent, (partial,) = prim.below, prim.tangent, prim.partials

    def op(x: Array) -> Any:
        if type(x) is not Dual or x.level.over:
            return bind(prim, (x,), {})
        value = x.value
        y = fun(value)
        return Dual(x.level, y, tangent(y, (x.tangent,), (partial and partial(y, value),)))

    return op


def binary(prim: Elementwise) -> Function:
    """Return the short way to call a function of two arguments."""
    fun, tangent, (left, right) = prim.below, prim.tangent, prim.partials

    def op(a: Array, b: Array) -> Any:
        if type(a) is Dual:
            level, x, t = a.level, a.value, a.tangent
            if type(b) is Dual:
                if b.level is level and not level.over:
                    z, u = b.value, b.tangent
                    y = fun(x, z)
                    c, d = left and left(y, x, z), right and right(y, x, z)
                    if t is u and c is not None and d is not None:  # x * x
                        return Dual(level, y, tangent(y, (t,), (c + d,)))
                    return Dual(level, y, tangent(y, (t, u), (c, d)))
            elif type(b) in PLAIN and not level.over:
                y = fun(x, b)
                return Dual(level, y, tangent(y, (t,), (left and left(y, x, b),)))
        elif type(b) is Dual and type(a) in PLAIN and not b.level.over:
            z = b.value
            y = fun(a, z)
            return Dual(b.level, y, tangent(y, (b.tangent,), (right and right(y, a, z),)))
        return bind(prim, (a, b), {})

    return op
