"""Elementwise functions, which have one coefficient per argument: the hot path, written for speed.

For the usual case of one running level and one or two arguments, `unary` and `binary` do in a few lines what
`bind` and `Derive.process` do in general (see `core`). Every other call goes through `bind`.
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

    The tangent of the result is the sum of c_i t_i. A row of the tape keeps the coefficients c_i.

    Parameters
    ----------
    name : str
        The name shown in tables and error messages.
    fun : callable
        ``fun(*args)`` computes the result on plain arrays, which are broadcast together.
    *partials : callable or None
        One for each argument: ``partial(y, *args)`` returns the coefficient of that argument's tangent from
        the result ``y`` and the arguments. None stands for the coefficient 1. Without partials the derivative
        is zero everywhere.
    linear_in : tuple of int, default ()
        The arguments in which the function is linear; rules may apply it to tangents there.

    Examples
    --------
    >>> from eckart.autodiff import grad
    >>> softplus = Elementwise("softplus", lambda x: np.logaddexp(0, x), lambda y, x: 1 - np.exp(-y))
    >>> round(float(grad(softplus)(0.0)), 6)
    0.5
    """

    def __init__(
        self, name: str, fun: Function, *partials: Function | None, linear_in: tuple[int, ...] = ()
    ) -> None:
        super().__init__(name, fun, batch=True, joint=True)
        self.partials, self.linear_in = partials, linear_in
        self.shape = lambda *args, **params: np.broadcast_shapes(*map(shape_of, args))
        native = isinstance(fun, (np.ufunc, BuiltinFunctionType))  # these handle tracers of outer levels
        self.below: Function = fun if native else lambda *args: bind(self, args, {})
        short_form = {1: unary, 2: binary}.get(len(partials))
        self.op: Function = short_form(self) if short_form else lambda *args: bind(self, args, {})
        self.op.__qualname__ = name  # Python shows it in the error for a wrong number of arguments

    def __call__(self, *args: Array, **params: Any) -> Any:
        """Call the function on arrays or tracers."""
        return bind(self, args, params) if params else self.op(*args)

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Return the tangent of ``out``, or None if there are no partial derivatives.

        Parameters
        ----------
        out : array
            The result of the function.
        args : sequence of array
            Its arguments.
        tangents : sequence
            The tangent of each argument: an array, a row of the tape, or None.
        params : dict
            The keyword arguments of the function.
        """
        if not self.partials:
            return None
        traced = [i for i, t in enumerate(tangents) if t is not None]
        partials = [self.partials[i] for i in traced]
        coefs = [None if partial is None else partial(out, *args, **params) for partial in partials]
        return self.tangent(out, [tangents[i] for i in traced], coefs)

    def tangent(self, y: Array, tangents: Sequence[Any], coefs: Sequence[Any]) -> Any:
        """Return the tangent of a result: computed in forward mode, recorded in reverse mode.

        Parameters
        ----------
        y : array
            The result, whose shape and dtype the tangent gets.
        tangents : sequence of array or tape.Row
            The tangents of the traced arguments.
        coefs : sequence of array or None
            The coefficient of each tangent; None stands for 1.
        """
        first = tangents[0]
        if type(first) is not Row:
            return fit(self.apply(coefs, tangents), y)
        if type(y) in PYTHON:  # both branches do the work of `Tape.add` without the call
            row = Row(first.level, self, tangents, coefs, None, (), PYTHON[type(y)])
        else:
            row = Row(first.level, self, tangents, coefs, None, y.shape, y.dtype)
        first.level.rows.append(row)
        return row

    def apply(self, coefs: Sequence[Any], tangents: Sequence[Any], params: Any = None) -> Any:
        """Return the sum of c_i t_i over the arguments that have a tangent.

        Parameters
        ----------
        coefs : sequence of array or None
            The coefficients c_i; None stands for 1.
        tangents : sequence of array or None
            The tangents t_i.
        params : None
            Not used; a row passes it to the `apply` of every primitive.
        """
        out = None
        for c, t in zip(coefs, tangents, strict=True):
            if t is not None:
                out = total(out, t if c is None else c * t)
        return out

    def pull(self, row: Row, ct: Array) -> None:
        """Add c_i ct to the cotangent of parent i; the array is overwritten at its last use if possible.

        Parameters
        ----------
        row : tape.Row
            A row of this function, which holds the coefficients c_i.
        ct : array
            The cotangent of the row.
        """
        parents, last = row.parents, row.parents[-1]
        mine = row.own and type(ct) is np.ndarray  # then the last use may overwrite it
        if len(parents) == 1:  # a short form of the loop below
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
                mine = False  # now a parent holds the array
            elif mine and p is last and (type(c) is float or (type(c) is np.ndarray and c.dtype is ct.dtype)):
                ct *= c
                p.give(ct, True)
            else:
                p.give(ct * c, True)


def unary(prim: Elementwise) -> Function:
    """Return the short form of a call with one argument (see `core`)."""
    fun, tangent, (partial,) = prim.below, prim.tangent, prim.partials

    def op(x: Array) -> Any:
        if type(x) is not Dual or x.level.finished:
            return bind(prim, (x,), {})
        value = x.value
        y = fun(value)
        coef = None if partial is None else partial(y, value)
        return Dual(x.level, y, tangent(y, (x.tangent,), (coef,)))

    return op


def binary(prim: Elementwise) -> Function:
    """Return the short form of a call with two arguments (see `core`)."""
    fun, tangent, (partial_a, partial_b) = prim.below, prim.tangent, prim.partials

    def op(a: Array, b: Array) -> Any:
        if type(a) is Dual:
            level, a_value, a_tangent = a.level, a.value, a.tangent
            if type(b) is Dual:
                if b.level is level and not level.finished:
                    b_value, b_tangent = b.value, b.tangent
                    y = fun(a_value, b_value)
                    a_coef = None if partial_a is None else partial_a(y, a_value, b_value)
                    b_coef = None if partial_b is None else partial_b(y, a_value, b_value)
                    if a_tangent is b_tangent and a_coef is not None and b_coef is not None:  # x * x
                        return Dual(level, y, tangent(y, (a_tangent,), (a_coef + b_coef,)))
                    return Dual(level, y, tangent(y, (a_tangent, b_tangent), (a_coef, b_coef)))
            elif type(b) in PLAIN and not level.finished:
                y = fun(a_value, b)
                a_coef = None if partial_a is None else partial_a(y, a_value, b)
                return Dual(level, y, tangent(y, (a_tangent,), (a_coef,)))
        elif type(b) is Dual and type(a) in PLAIN and not b.level.finished:
            b_value = b.value
            y = fun(a, b_value)
            b_coef = None if partial_b is None else partial_b(y, a, b_value)
            return Dual(b.level, y, tangent(y, (b.tangent,), (b_coef,)))
        return bind(prim, (a, b), {})

    return op
