"""Tracers, levels and primitives: what happens when NumPy meets an array that is being differentiated.

A *tracer* stands for an array. It belongs to a *level*, one per running transformation, and holds a
value of the levels below: a plain array, or a tracer of an outer transformation. A *primitive* called
on tracers is given to the innermost level among them (`bind`), which calls the same primitive on the
values below and then adds what it is there for: a tangent, a batch axis, a line of a table. Levels are
numbered as they are made, so an inner transformation never mistakes an outer one's tangent for its own
(the "perturbation confusion" of Siskind & Pearlmutter, IFL 2005). The skeleton is that of JAX's
"autodidax2".

There is one rule per primitive, its JVP, written in plain NumPy. What differs is the tangent it meets:

    forward   `Dual.tangent` is an array (or an outer tracer), and the rule computes
    reverse   `Dual.tangent` is a `Row` of a tape, and the rule records; the tape is transposed later

Elementwise functions are the hot path. Their rule is one coefficient per argument, recorded as a single
row "sum of c_i t_i"; `unary` and `binary` below are written to be short for the interpreter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, MissingRuleError, at_line

Array = Any  # a NumPy array, a NumPy scalar, a Python float or complex, or a Tracer
TRACERS: set[type] = set()
clock = itertools.count(1)


class Tracer:
    """Base of everything that stands for an array; operators and methods are added by `numpy_hooks`."""

    __slots__ = ("level",)
    level: Any
    shape: Any
    dtype: Any

    def __init_subclass__(cls) -> None:
        TRACERS.add(cls)


class Level:
    """One running transformation."""

    __slots__ = ("depth",)

    def __init__(self) -> None:
        self.depth = next(clock)

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        """Call ``prim`` on the values below this level and add what the level is there for."""
        raise NotImplementedError


def bind(prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
    """Give the call to the innermost level among the arguments; without tracers, just compute."""
    top: Level | None = None
    for a in args:
        if type(a) in TRACERS and (top is None or (a.level is not top and a.level.depth > top.depth)):
            top = a.level
    if top is None:
        return prim.fun(*args, **params)
    return top.process(prim, args, params)


# --- what an array looks like -------------------------------------------------------------------


def shape_of(x: Array) -> tuple[int, ...]:
    """Return the shape; () for a Python number."""
    try:
        return x.shape  # type: ignore[no-any-return]
    except AttributeError:
        return np.shape(x)


def dtype_of(x: Array) -> np.dtype[Any]:
    """Return the dtype; the default one for a Python number."""
    try:
        return x.dtype  # type: ignore[no-any-return]
    except AttributeError:
        return np.result_type(x)


def zeros(x: Array) -> Array:
    """Return zeros of the shape and dtype of ``x``, plain."""
    return np.zeros(shape_of(x), dtype_of(x))


def concrete(x: Array) -> Array:
    """Return the plain array under all levels (with its batch axes), to decide something by."""
    while type(x) in TRACERS:
        x = x.value
    return np.asarray(x)


def fit(t: Array, y: Array) -> Array:
    """Broadcast and convert a tangent to the shape and dtype of its primal."""
    shape, dtype = shape_of(y), dtype_of(y)
    if shape_of(t) != shape:
        t = np.broadcast_to(t, shape)
    return t if dtype_of(t) == dtype else convert(t, dtype)


def convert(x: Array, dtype: Any) -> Array:
    """Return ``x.astype(dtype)``, taking the real part where a complex number becomes a real one."""
    if dtype_of(x).kind == "c" and np.dtype(dtype).kind != "c":
        x = np.real(x)
    return x.astype(dtype) if hasattr(x, "astype") else np.asarray(x, dtype)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an array of ``shape`` was broadcast to it."""
    wide = g.shape
    extra = len(wide) - len(shape)
    axes = tuple(range(extra))
    if wide[extra:] != shape:
        axes += tuple(extra + i for i, n in enumerate(shape) if n == 1 and wide[extra + i] != 1)
    if axes:
        g = np.add.reduce(g, axes) if type(g) is np.ndarray else np.sum(g, axis=axes)
    return g if g.shape == shape else np.reshape(g, shape)


# --- primitives -----------------------------------------------------------------------------------

SCALE = "scale"  # the operation of the rows that elementwise functions record


class Primitive:
    """A function the engine knows: how to compute it, its JVP, its transpose if it is linear, its batch.

    Parameters
    ----------
    name : str
        As the user writes it, for tables and messages.
    fun : callable
        The computation on plain arrays.
    jvp : callable, optional
        ``jvp(out, args, tangents, **params)`` returns the tangent of ``out`` (a tuple if ``out`` is one).
        An absent tangent is None, in both directions. Absent for linear primitives: the function itself.
    transpose : dict, optional
        Argument number -> ``t(ct, *args, **params)``: the transpose in that argument. The argument's own
        place holds something with its shape and dtype.
    shape : callable, optional
        ``shape(*args, **params)``: the shape of the result, where calling ``fun`` on zeros would not do.
    batch : callable or True, optional
        ``batch(args, batched, **params)``: the result with the batch axis first, from arguments of which
        those marked have it first. True: it takes stacks, and broadcasts them, as it is. Absent: a loop.
    joint : bool
        Linear in all arguments together, as `concatenate` (f(t1, t2)), not in each alone, as `matmul`
        (f(t1, b) + f(a, t2)).

    Attributes
    ----------
    doubt : callable, optional
        ``doubt(out, tangent)``: the error to raise if NaN from this tangent reaches the result of `jvp`.
    """

    def __init__(
        self,
        name: str,
        fun: Callable[..., Any],
        jvp: Callable[..., Any] | None = None,
        transpose: dict[int, Callable[..., Any]] | None = None,
        shape: Callable[..., tuple[int, ...]] | None = None,
        batch: Any = None,
        joint: bool = False,
    ) -> None:
        self.name, self.fun, self.rule, self.transpose = (
            name,
            fun,
            jvp,
            {} if transpose is None else transpose,
        )
        self.shape, self.batch, self.joint = shape, batch, joint
        self.doubt: Callable[..., Exception | None] | None = None
        PRIMITIVES[name] = self

    def __call__(self, *args: Array, **params: Any) -> Any:
        return bind(self, args, params)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Return the tangent of ``out``, or None where it does not depend on the traced arguments."""
        if self.rule is not None:
            return self.rule(out, args, tangents, **params)
        if not self.transpose:
            raise MissingRuleError(
                self.name,
                f"no derivative is known (arguments of shape {[shape_of(a) for a in args]}){at_line()}",
                "Write it in functions that have one, see docs/autodiff.md",
            )
        return self.linear(args, tangents, params)

    def pull(self, row: Row, ct: Array) -> None:
        """Give each parent of a row of the tape its share of the cotangent ``ct``."""
        for i, p in enumerate(row.parents):
            if p is not None:
                args = list(row.known)
                args[i] = p
                p.give(self.transpose[i](ct, *args, **row.params))

    def linear(self, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Apply a linear primitive to tangents: f(t1, t2) or f(t1, b) + f(a, t2)."""
        if self.joint:
            filled = [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
            return self(*filled, **params)
        total = None
        for i, t in enumerate(tangents):
            if t is not None:
                term = self(*args[:i], t, *args[i + 1 :], **params)
                total = term if total is None else total + term
        return total


PRIMITIVES: dict[str, Primitive] = {}


class Each(dict[int, Any]):
    """The transposes of a function of any number of arguments: ``make(i)`` for argument i."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, i: int) -> Any:
        self[i] = self.make(i)
        return self[i]

    def __contains__(self, i: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


class Elementwise(Primitive):
    """A ufunc of one or two arguments with one partial derivative for each.

    Parameters
    ----------
    name, fun
        As in `Primitive`.
    partials : callables
        ``partial(y, x)`` or ``partial(y, a, b)``: the coefficient of that argument's tangent; None
        stands for 1. Without partials the derivative is zero everywhere.
    linear_in : tuple of int
        The arguments in which it is linear, so that it can be applied to tangents.
    """

    def __init__(
        self,
        name: str,
        fun: Callable[..., Any],
        *partials: Callable[..., Any],
        linear_in: tuple[int, ...] = (),
    ) -> None:
        super().__init__(name, fun, batch=True)
        self.partials, self.linear_in = partials, linear_in
        self.op = (binary if len(partials) == 2 else unary if len(partials) == 1 else flat)(self)

    def __call__(self, *args: Array, **params: Any) -> Any:
        return self.op(*args)

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        live = [i for i, t in enumerate(tangents) if t is not None]
        if not self.partials:
            return None
        coefs = [self.partials[i](out, *args) for i in live]
        tans = [tangents[i] for i in live]
        if type(tans[0]) in TRACERS and hasattr(tans[0].level, "rows"):
            return tans[0].level.add(SCALE, tans, coefs, {}, shape_of(out), dtype_of(out))
        return scaled_sum(coefs, tans)


def scaled_sum(coefs: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the sum of c_i t_i over the tangents that are present; a coefficient None is 1."""
    total = None
    for c, t in zip(coefs, tangents, strict=True):
        if t is not None:
            term = t if c is None else c * t
            total = term if total is None else total + term
    return total


# --- forward and reverse --------------------------------------------------------------------------


class Dual(Tracer):
    """A value and its tangent: an array in forward mode, a `Row` in reverse mode."""

    __slots__ = ("tangent", "value")

    def __init__(self, level: Level, value: Array, tangent: Any) -> None:
        self.level, self.value, self.tangent = level, value, tangent

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.value)

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.value)


class Derive(Level):
    """The level of `jvp` and `vjp`: every result carries the tangent that the primitive's rule gives.

    ``tape`` is where reverse mode records; None in forward mode. ``doubt`` is the error to raise if the
    result of forward mode is NaN.
    """

    __slots__ = ("doubt", "tape")

    def __init__(self, tape: Any = None) -> None:
        super().__init__()
        self.tape = tape
        self.doubt: Exception | None = None

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        values, tangents, plain = list(args), [None] * len(args), True
        for i, a in enumerate(args):
            if type(a) is Dual and a.level is self:
                values[i], tangents[i] = a.value, a.tangent
            plain = plain and type(values[i]) not in TRACERS
        out = prim.fun(*values, **params) if plain else bind(prim, values, params)
        if type(out) is Dual and out.level is self:  # only a function given by the user can do this
            raise ArgumentError(
                prim.name, f"the function uses a traced array that is not among its arguments{at_line()}",
                "Pass it as an argument",
            )  # fmt: skip
        if self.tape is not None and prim.rule is None and prim.transpose:
            row = self.tape.record(prim, tangents, values, params, shape_of(out), dtype_of(out))
            return Dual(self, out, row)
        dot = prim.jvp(out, values, tangents, params)
        if dot is None:
            return out
        if prim.doubt is not None and self.tape is None:
            self.doubt = self.doubt or prim.doubt(out, dot)
        if type(out) is tuple:
            return tuple(self.pair(y, t) for y, t in zip(out, dot, strict=True))
        return self.pair(out, dot)

    def confirm(self, dots: Sequence[Array]) -> None:
        """Raise what forward mode was in doubt about, if the result is NaN."""
        if self.doubt is not None and any(np.isnan(concrete(t)).any() for t in dots):
            raise self.doubt

    def pair(self, y: Array, t: Any) -> Any:
        """Return ``y`` with the tangent ``t``."""
        if t is None:
            return y
        return Dual(self, y, t if type(t) is Row else fit(t, y))


class Row(Tracer):
    """One row of a linear tape: an operation, its parents, and the arrays it was recorded with.

    ``ct`` is where the walk over the tape leaves the cotangent (or, forwards, the tangent).
    """

    __slots__ = ("ct", "dtype", "known", "op", "params", "parents", "shape")

    def __init__(
        self, level: Any, op: Any, parents: Any, known: Any, params: Any, shape: Any, dtype: Any
    ) -> None:
        self.level, self.op, self.parents, self.known = level, op, parents, known
        self.params, self.shape, self.dtype, self.ct = params, shape, dtype, None

    def give(self, g: Array) -> None:
        """Add a cotangent: summed over the axes that were broadcast, in the row's dtype."""
        if g.shape != self.shape:
            g = unbroadcast(g, self.shape)
        if g.dtype is not self.dtype and g.dtype != self.dtype:
            g = convert(g, self.dtype)
        self.ct = g if self.ct is None else self.ct + g


def unary(prim: Elementwise) -> Callable[..., Any]:
    """Return the short way to call an elementwise function of one argument."""
    fun, (partial,) = prim.fun, prim.partials

    def op(x: Array) -> Any:
        if type(x) is not Dual:
            return bind(prim, (x,), {})
        value, t = x.value, x.tangent
        y = fun(value)
        c = partial(y, value)
        if type(t) is Row:
            tape: Any = t.level
            try:
                row = Row(tape, SCALE, (t,), (c,), None, y.shape, y.dtype)
            except AttributeError:  # a Python float
                row = Row(tape, SCALE, (t,), (c,), None, (), dtype_of(y))
            tape.rows.append(row)
            return Dual(x.level, y, row)
        return Dual(x.level, y, fit(t if c is None else c * t, y))

    op.__name__ = prim.name
    return op


def binary(prim: Elementwise) -> Callable[..., Any]:
    """Return the short way to call an elementwise function of two arguments."""
    fun, (left, right) = prim.fun, prim.partials

    def op(a: Array, b: Array) -> Any:
        A, B = type(a), type(b)
        if A is Dual:
            level = a.level
            if B is Dual:
                if b.level is not level:
                    return bind(prim, (a, b), {})
                x, z, t, u = a.value, b.value, a.tangent, b.tangent
                y = fun(x, z)
                c, d = left(y, x, z), right(y, x, z)
                if t is u and c is not None and d is not None:  # x * x
                    parents, coefs = (t,), (c + d,)
                else:
                    parents, coefs = (t, u), (c, d)  # type: ignore[assignment]
            elif B in TRACERS:
                return bind(prim, (a, b), {})
            else:
                x, t = a.value, a.tangent
                y = fun(x, b)
                parents, coefs = (t,), (left(y, x, b),)
        elif B is Dual and A not in TRACERS:
            level = b.level
            z, t = b.value, b.tangent
            y = fun(a, z)
            parents, coefs = (t,), (right(y, a, z),)
        else:
            return bind(prim, (a, b), {})
        if type(t) is Row:
            tape: Any = t.level
            try:
                row = Row(tape, SCALE, parents, coefs, None, y.shape, y.dtype)
            except AttributeError:
                row = Row(tape, SCALE, parents, coefs, None, (), dtype_of(y))
            tape.rows.append(row)
            return Dual(level, y, row)
        return Dual(level, y, fit(scaled_sum(coefs, parents), y))

    op.__name__ = prim.name
    return op


def flat(prim: Elementwise) -> Callable[..., Any]:
    """Return the way to call a function whose derivative is zero: comparisons, floor, sign."""

    def op(*args: Array) -> Any:
        return bind(prim, args, {})

    op.__name__ = prim.name
    return op


def check_inexact(where: str, x: Array) -> Array:
    """Return ``x`` if it can carry a tangent: floating or complex; refuse integers, strings, objects."""
    if type(x) in TRACERS or isinstance(x, (float, complex)):
        return x
    if type(x) is np.ndarray and x.dtype.kind in "fc":
        return x
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    if dtype.kind not in "fc":
        cast = "float(x)" if isinstance(x, int) else "x.astype(float)"
        raise ArgumentError(
            where,
            f"an argument of dtype {dtype} has no derivative (shape {np.shape(x)}){at_line()}",
            f"Write {cast}",
        )
    return np.asarray(x) if not isinstance(x, np.generic) else x
