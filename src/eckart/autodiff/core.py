"""Tracers, levels and primitives: how a NumPy call on an array that is being differentiated is processed.

A *tracer* stands for an array. It belongs to a *level* (there is one for each running transformation) and
holds a value from the levels below: a plain array, or a tracer of an outer transformation. When a *primitive*
is called with tracers, `bind` passes the call to the innermost level among them. That level calls the
primitive on the values below and adds its own information: a tangent, a batch axis, or a line of a table.
Levels are numbered in the order of their creation, so an inner transformation never mistakes the tangent of
an outer one for its own (the "perturbation confusion" of Siskind & Pearlmutter, IFL 2005). The structure
follows JAX's "autodidax2".

Each primitive has one derivative rule, its JVP, written in plain NumPy. In forward mode the tangents passed
to the rule are arrays, so the rule computes the result. In reverse mode they are rows of a `tape`, so the
rule records linear operations, which are transposed later.

The same steps are written three times for speed: in general form here (`bind` and `Derive.process`), for
elementwise functions of one and two arguments (`unary` and `binary` in `elementwise`), and for products of
matrices (`matmul` in `rules.products`). The short forms handle one running level and plain arrays, and pass
every other call to `bind`. A change to one of them has to be made in all three.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, MissingRuleError, TracerError, at_line
from .tree import flatten

# `Any`, because a value may be a NumPy array, a NumPy scalar, a Python number or a `Tracer`. Tracers get
# their operators and methods at run time (`hooks.install`), so no static type describes what these share.
Array = Any
Function = Callable[..., Any]
TRACERS: set[type] = set()
PRIMITIVES: dict[str, Primitive] = {}
clock = itertools.count(1)


class Tracer:
    """Base class of all stand-ins for arrays; `hooks` adds the operators and methods."""

    __slots__ = ("level",)
    level: Any
    value: Any

    def __init_subclass__(cls) -> None:
        TRACERS.add(cls)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that the tracer stands for."""
        return shape_of(self.value)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array that the tracer stands for."""
        return dtype_of(self.value)


class Level:
    """One running transformation."""

    def __init__(self) -> None:
        self.depth = next(clock)  # the innermost level has the largest depth
        self.finished = False  # whether the transformation has returned

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        """Return the result of a primitive at this level; `bind` computes it at the levels below."""
        raise NotImplementedError

    def run(self, f: Function, args: Sequence[Any]) -> tuple[list[Any], Function]:
        """Call ``f`` on tracers of this level, finish the level, and return the leaves of the result."""
        try:
            leaves, rebuild = flatten(f(*args))
        except ValueError as error:  # NumPy's "setting an array element with a sequence" hides the cause
            if isinstance(error.__cause__, TracerError):
                raise error.__cause__ from None
            raise
        finally:
            self.finished = True
        for y in leaves:
            if type(y) in TRACERS and y.level is not self and y.level.finished:
                raise escaped_tracer()
        return leaves, rebuild

    def holds(self, y: Any) -> bool:
        """Return whether ``y`` is a tracer of this level."""
        return type(y) in TRACERS and y.level is self


def escaped_tracer() -> TracerError:
    """Return the error for a tracer that is used after its transformation has returned."""
    what = f"it is used after the transformation that created it has returned{at_line()}"
    fix = "Return it from the function; use has_aux=True if it is not the result"
    return TracerError("traced array", what, fix)


def bind(prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
    """Pass the call to the innermost level among the arguments; without tracers, compute it."""
    top: Level | None = None
    for a in args:
        if type(a) in TRACERS and (top is None or a.level.depth > top.depth):
            top = a.level
    if top is None:
        return prim.fun(*args, **params)
    if top.finished:
        raise escaped_tracer()
    return top.process(prim, args, params)


# --- shapes and dtypes --------------------------------------------------------------------------

PYTHON = {kind: np.dtype(kind) for kind in (float, int, complex, bool)}
PLAIN = {np.ndarray, np.float64, np.float32, np.int64, np.complex128, *PYTHON}  # the most frequent types


def shape_of(x: Array) -> tuple[int, ...]:
    """Return the shape of an array, number or tracer."""
    if type(x) in PYTHON:
        return ()
    try:
        return x.shape  # type: ignore[no-any-return]
    except AttributeError:
        return np.shape(x)


def ndim_of(x: Array) -> int:
    """Return the number of axes of an array, number or tracer."""
    return len(shape_of(x))


def dtype_of(x: Array) -> np.dtype[Any]:
    """Return the dtype of an array, number or tracer."""
    if type(x) in PYTHON:
        return PYTHON[type(x)]
    try:
        return x.dtype  # type: ignore[no-any-return]
    except AttributeError:
        return np.asarray(x).dtype


def zeros(x: Array) -> Array:
    """Return a plain array of zeros with the shape and dtype of ``x``."""
    return np.zeros(shape_of(x), dtype_of(x))


def concrete(x: Array) -> Array:
    """Return the plain array below all levels, including batch axes, for decisions that depend on values."""
    while type(x) in TRACERS:
        x = x.value
    return np.asarray(x)


def convert(x: Array, dtype: Any) -> Array:
    """Return ``x.astype(dtype)``; from complex to real, the real part is taken."""
    if dtype_of(x) == dtype:
        return x
    if dtype_of(x).kind == "c" and np.dtype(dtype).kind != "c":
        x = np.real(x)
    return np.asarray(x, dtype) if type(x) in PYTHON else x.astype(dtype)


def fit(t: Array, y: Array) -> Array:
    """Broadcast and convert the tangent ``t`` to the shape and dtype of its primal ``y``."""
    if type(t) is type(y) is np.ndarray and t.shape == y.shape and t.dtype is y.dtype:
        return t
    if shape_of(t) != shape_of(y):
        t = np.broadcast_to(t, shape_of(y))
    return convert(t, dtype_of(y))


def total(left: Any, right: Any) -> Any:
    """Return the sum of two terms, where None stands for zero."""
    if left is None:
        return right
    if right is None:
        return left
    return left + right


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Return the transpose of broadcasting from ``shape``: ``g`` summed over the broadcast axes."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra))
    if g.shape[extra:] != shape:
        axes += tuple(i for i, n in enumerate(g.shape) if i >= extra and n != shape[i - extra])
    if axes:
        g = np.add.reduce(g, axes) if type(g) is np.ndarray else np.sum(g, axis=axes)
    return g if g.shape == shape else np.reshape(g, shape)


def check_inexact(where: str, x: Array) -> Array:
    """Return ``x`` if it can have a tangent; refuse integers, strings, objects and subclasses of arrays."""
    kind = type(x)
    if kind in TRACERS or isinstance(x, (float, complex)) or (kind is np.ndarray and x.dtype.kind in "fc"):
        return x
    if isinstance(x, np.ndarray) and kind is not np.ndarray:
        what = f"the argument is a {kind.__name__}, which is not a plain array{at_line()}"
        raise ArgumentError(where, what, "Use np.asarray(x)")
    if not isinstance(x, np.generic):
        x = np.asarray(x)
    if x.dtype.kind not in "fc":
        what = f"an argument of dtype {x.dtype} and shape {x.shape} cannot be differentiated{at_line()}"
        raise ArgumentError(where, what, "Use float(x)" if kind is int else "Use x.astype(float)")
    return x


# --- primitives -----------------------------------------------------------------------------------


class Primitive:
    """A function with its derivative: how to compute it, its JVP, its transpose and its batch rule.

    Positional arguments can be differentiated and mapped. Keyword arguments are passed unchanged to every
    rule.

    Parameters
    ----------
    name : str
        The name shown in tables and error messages.
    fun : callable
        ``fun(*args, **params)`` computes the result on plain arrays: one array, or a tuple of arrays.
    jvp : callable, optional
        ``jvp(out, args, tangents, **params)`` returns the tangent of ``out``, which is a tuple if ``out`` is
        one. The tangent of an argument that is not differentiated is None, and the tangent of a result may be
        None. A linear primitive needs no JVP.
    transpose : dict of int to callable, optional
        For each argument number, ``back(ct, *args, **params)`` applies the transpose in that argument to the
        cotangent ``ct``. It may use only the shape and dtype of that argument, because its array is not kept.
    shape : callable, optional
        ``shape(*args, **params)`` returns the shape of the result. It is needed for a linear function that
        cannot be called on zeros.
    batch : callable or True, optional
        ``batch(args, batched, **params)`` returns the result with the batch axis first; ``batched`` marks the
        arguments that have a batch axis, which comes first too. True: ``fun`` accepts stacks and broadcasts
        them. By default `vmap` calls the primitive in a loop.
    joint : bool, default False
        Whether a linear primitive is linear in all arguments together, as `concatenate` is (its tangent is
        f(t1, t2)), or in each argument separately, as `matmul` is (its tangent is f(t1, b) + f(a, t2)).

    Notes
    -----
    Rules are written in NumPy and are differentiated in turn, which is where second derivatives come from.
    docs/autodiff.md, "Add a primitive", lists the operations that a rule may apply to tangents.

    Examples
    --------
    >>> from eckart.autodiff import grad
    >>> cube = Primitive("cube", lambda x: x**3, lambda y, args, tangents: 3 * args[0] ** 2 * tangents[0])
    >>> grad(cube)(2.0)
    np.float64(12.0)
    """

    explain_nan: Function | None = None  # (out, tangent) -> error to raise if a NaN in it reaches the result
    partials: tuple[Any, ...] = ()  # used by `Elementwise`

    def __init__(
        self,
        name: str,
        fun: Function,
        jvp: Function | None = None,
        transpose: dict[int, Function] | None = None,
        shape: Function | None = None,
        batch: Any = None,
        joint: bool = False,
    ) -> None:
        self.name, self.fun, self.jvp_rule = name, fun, jvp
        self.transpose = {} if transpose is None else transpose
        self.shape, self.batch, self.joint = shape, batch, joint
        self.linear = jvp is None and transpose is not None  # then it is its own derivative
        self.linear_in: Container[int] = self.transpose  # the arguments that may be tangents in a rule
        PRIMITIVES[name] = self

    def __call__(self, *args: Array, **params: Any) -> Any:
        """Call the function on arrays or tracers."""
        return bind(self, args, params)

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Return the tangent of ``out``, or None where it does not depend on the traced arguments.

        Parameters
        ----------
        out : array or tuple of arrays
            The result of the primitive.
        args : sequence of array
            Its arguments.
        tangents : sequence
            The tangent of each argument: an array, a row of the tape, or None.
        params : dict
            The keyword arguments of the primitive.
        """
        if self.jvp_rule is not None:
            return self.jvp_rule(out, args, tangents, **params)
        if self.linear:
            return self.apply(args, tangents, params)
        shapes = ", ".join(str(shape_of(a)) for a in args)
        what = f"this primitive has no derivative rule (argument shapes: {shapes}){at_line()}"
        fix = "Pass jvp= to Primitive (docs/autodiff.md, Add a primitive), or use functions that have a rule"
        raise MissingRuleError(self.name, what, fix)

    def apply(self, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Apply a linear primitive to tangents: f(t1, t2) if it is joint, otherwise f(t1, b) + f(a, t2).

        Parameters
        ----------
        args : sequence of array
            The arguments of the primitive.
        tangents : sequence
            The tangent of each argument: an array, a row of the tape, or None.
        params : dict
            The keyword arguments of the primitive.
        """
        if self.joint:
            ts = [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
            return self(*ts, **params)
        out = None
        for i, t in enumerate(tangents):
            if t is not None:
                out = total(out, self(*args[:i], t, *args[i + 1 :], **params))
        return out

    def pull(self, row: Any, ct: Array) -> None:
        """Add to each parent of a row its part of the row's cotangent.

        Parameters
        ----------
        row : tape.Row
            A row of this primitive.
        ct : array
            The cotangent of the row.
        """
        for i, p in enumerate(row.parents):
            if p is not None:
                g = self.transpose[i](ct, *row.known, **row.params)
                p.give(g, own=type(g) is np.ndarray and g.base is None and g is not ct)


class Transposes(dict[int, Any]):
    """The transposes of a function with any number of arguments; ``make(i)`` returns that in argument i."""

    def __init__(self, make: Function) -> None:
        self.make = make

    def __missing__(self, i: int) -> Any:
        return self.make(i)

    def __contains__(self, i: object) -> bool:
        return True


# --- derivatives ------------------------------------------------------------------------------------


class Dual(Tracer):
    """A value and its tangent; the tangent is an array in forward mode, a row of the tape in reverse mode."""

    __slots__ = ("tangent", "value")

    def __init__(self, level: Level, value: Array, tangent: Any) -> None:
        self.level, self.value, self.tangent = level, value, tangent


class Derive(Level):
    """The level of `jvp` and `vjp`: each result gets the tangent that the rule of the primitive returns."""

    def __init__(self, tape: Any = None) -> None:
        super().__init__()
        self.tape = tape  # where reverse mode records; None in forward mode
        self.nan_error: Exception | None = None  # the error to raise if a result of forward mode is NaN

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        """Return the result with its tangent; see `Level.process`."""
        values, tangents, outlines, n_traced = [], [], [], 0
        for a in args:
            t = None
            if type(a) is Dual and a.level is self:
                a, t = a.value, a.tangent
                n_traced += 1
            if type(a) not in PLAIN and type(a) not in TRACERS:
                a = np.asarray(a)
            values.append(a)
            tangents.append(t)
            outlines.append(a if t is None else t)  # a row has the shape and dtype of the array, not its data
        out = bind(prim, values, params)
        if type(out) is Dual and out.level is self:  # a checkpointed function uses a tracer of its closure
            what = f"the function uses a traced array that is not among its arguments{at_line()}"
            raise ArgumentError(prim.name, what, "Pass it as an argument")
        if self.tape is not None and prim.linear:
            known = outlines if n_traced == 1 or prim.joint else values  # all that the transposes need
            row = self.tape.add(prim, tangents, known, params, shape_of(out), dtype_of(out))
            return Dual(self, out, row)
        dot = prim.jvp(out, values, tangents, params)
        if dot is None:
            return out
        if prim.explain_nan is not None and self.tape is None:
            self.nan_error = self.nan_error or prim.explain_nan(out, dot)
        if type(out) is tuple:
            return tuple(self.pair(y, t) for y, t in zip(out, dot, strict=True))
        return self.pair(out, dot)

    def differentiate(
        self, f: Function, xs: Sequence[Array], ts: Sequence[Any], rebuild: Function
    ) -> tuple[list[Any], list[Any], Function]:
        """Return the results of ``f``, their tangents (None: zero), and a function that rebuilds the tree."""
        outs, rebuild_out = self.run(f, rebuild([Dual(self, x, t) for x, t in zip(xs, ts, strict=True)]))
        values = [y.value if self.holds(y) else y for y in outs]
        return values, [y.tangent if self.holds(y) else None for y in outs], rebuild_out

    def pair(self, y: Array, t: Any) -> Any:
        """Return ``y`` with its tangent; without a tangent, ``y`` itself."""
        return y if t is None else Dual(self, y, fit(t, y))
