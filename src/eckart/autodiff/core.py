"""Tracers, levels and primitives: what happens when NumPy meets an array that is being differentiated.

A *tracer* stands for an array. It belongs to a *level*, one for each running transformation, and holds a
value of the levels below: a plain array, or a tracer of an outer transformation. A *primitive* called on
tracers is given to the innermost level among them (`bind`), which calls it on the values below and adds
what the level is there for: a tangent, a batch axis, a line of a table. Levels are numbered as they are
made, so an inner transformation never mistakes an outer one's tangent for its own (the "perturbation
confusion" of Siskind & Pearlmutter, IFL 2005). The skeleton is that of JAX's "autodidax2".

There is one rule for a primitive, its JVP, in plain NumPy. What differs is the tangent it meets: in forward
mode an array, and the rule computes; in reverse mode a row of a `tape`, and it records, to be transposed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, MissingRuleError, TracerError, at_line
from .tree import flatten

Array = Any  # a NumPy array, a NumPy scalar, a Python float or complex, or a Tracer
Function = Callable[..., Any]
TRACERS: set[type] = set()
PRIMITIVES: dict[str, Primitive] = {}
clock = itertools.count(1)


class Tracer:
    """Base of everything that stands for an array; operators and methods are added by `hooks`."""

    __slots__ = ("level",)
    level: Any
    value: Any

    def __init_subclass__(cls) -> None:
        TRACERS.add(cls)

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.value)

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.value)


class Level:
    """One running transformation."""

    def __init__(self) -> None:
        self.depth, self.over = next(clock), False  # the innermost is the deepest; over: it has returned

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        """Return what the primitive gives at this level, from what `bind` gives below it."""
        raise NotImplementedError

    def run(self, f: Function, args: Sequence[Any]) -> tuple[list[Any], Function]:
        """Call ``f`` on tracers of this level and return the leaves of its result; then it is over."""
        try:
            leaves, rebuild = flatten(f(*args))
        except ValueError as error:  # "setting an array element with a sequence": show what it hides
            if isinstance(error.__cause__, TracerError):
                raise error.__cause__ from None
            raise
        finally:
            self.over = True
        for y in leaves:
            if type(y) in TRACERS and y.level is not self and y.level.over:
                raise escaped()
        return leaves, rebuild

    def holds(self, y: Any) -> bool:
        return type(y) in TRACERS and y.level is self


def escaped() -> TracerError:
    what = f"it is used after the transformation that made it has returned{at_line()}"
    fix = "Return it from the function, with has_aux=True if it is not the result"
    return TracerError("traced array", what, fix)


def bind(prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
    """Give the call to the innermost level among the arguments; without tracers, just compute."""
    top: Level | None = None
    for a in args:
        if type(a) in TRACERS and (top is None or a.level.depth > top.depth):
            top = a.level
    if top is None:
        return prim.fun(*args, **params)
    if top.over:
        raise escaped()
    return top.process(prim, args, params)


# --- what an array looks like -------------------------------------------------------------------

PYTHON = {kind: np.dtype(kind) for kind in (float, int, complex, bool)}
PLAIN = {np.ndarray, np.float64, np.float32, np.int64, np.complex128, *PYTHON}  # what is there most often


def shape_of(x: Array) -> tuple[int, ...]:
    if type(x) in PYTHON:
        return ()
    try:
        return x.shape  # type: ignore[no-any-return]
    except AttributeError:
        return np.shape(x)


def ndim_of(x: Array) -> int:
    return len(shape_of(x))


def dtype_of(x: Array) -> np.dtype[Any]:
    if type(x) in PYTHON:
        return PYTHON[type(x)]
    try:
        return x.dtype  # type: ignore[no-any-return]
    except AttributeError:
        return np.asarray(x).dtype


def zeros(x: Array) -> Array:
    """Return zeros of the shape and dtype of ``x``, plain."""
    return np.zeros(shape_of(x), dtype_of(x))


def concrete(x: Array) -> Array:
    """Return the plain array under all levels (with its batch axes), to decide something by."""
    while type(x) in TRACERS:
        x = x.value
    return np.asarray(x)


def convert(x: Array, dtype: Any) -> Array:
    """Return ``x.astype(dtype)``, taking the real part where a complex number becomes a real one."""
    if dtype_of(x) == dtype:
        return x
    if dtype_of(x).kind == "c" and np.dtype(dtype).kind != "c":
        x = np.real(x)
    return np.asarray(x, dtype) if type(x) in PYTHON else x.astype(dtype)


def fit(t: Array, y: Array) -> Array:
    """Broadcast and convert a tangent to the shape and dtype of its primal."""
    if type(t) is type(y) is np.ndarray and t.shape == y.shape and t.dtype is y.dtype:
        return t
    if shape_of(t) != shape_of(y):
        t = np.broadcast_to(t, shape_of(y))
    return convert(t, dtype_of(y))


def total(left: Any, right: Any) -> Any:
    """Return the sum of the terms that are there; None if neither is."""
    return right if left is None else left if right is None else left + right


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an array of ``shape`` was broadcast to it."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra))
    if g.shape[extra:] != shape:
        axes += tuple(i for i, n in enumerate(g.shape) if i >= extra and n != shape[i - extra])
    if axes:
        g = np.add.reduce(g, axes) if type(g) is np.ndarray else np.sum(g, axis=axes)
    return g if g.shape == shape else np.reshape(g, shape)


def check_inexact(where: str, x: Array) -> Array:
    """Return ``x`` if it can carry a tangent; refuse integers, strings, objects and subclasses of arrays."""
    kind = type(x)
    if kind in TRACERS or isinstance(x, (float, complex)) or (kind is np.ndarray and x.dtype.kind in "fc"):
        return x
    if isinstance(x, np.ndarray) and kind is not np.ndarray:
        what, fix = f"a {kind.__name__} is not a plain array", "Write np.asarray(x)"
        raise ArgumentError(where, f"{what}{at_line()}", fix)
    if not isinstance(x, np.generic):
        x = np.asarray(x)
    if x.dtype.kind not in "fc":
        what = f"an argument of dtype {x.dtype} has no derivative (shape {x.shape})"
        fix = "Write float(x)" if kind is int else "Write x.astype(float)"
        raise ArgumentError(where, f"{what}{at_line()}", fix)
    return x


# --- primitives -----------------------------------------------------------------------------------


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
        An argument without a tangent has None for it, a result likewise. A linear primitive needs no JVP.
    transpose : dict, optional
        Argument number -> ``back(ct, *args, **params)``: the transpose in that argument, applied to the
        cotangent ``ct``. Of the argument itself it sees shape and dtype only: its array is not kept.
    shape : callable, optional
        ``shape(*args, **params)``: the shape of the result, where calling ``fun`` on zeros would not do.
    batch : callable or True, optional
        ``batch(args, batched, **params)``: the result with the batch axis first, from arguments of which
        those marked have it first. True: it takes stacks, and broadcasts them, as it is. Absent: a loop.
    joint : bool
        Linear in all arguments together, as `concatenate` (f(t1, t2)), not in each alone, as `matmul`
        (f(t1, b) + f(a, t2)).
    """

    doubt: Function | None = None  # (out, tangent): what to raise if NaN in it reaches the result of `jvp`
    partials: tuple[Any, ...] = ()  # of `Elementwise`

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
        self.linear = jvp is None and transpose is not None  # it is its own derivative
        self.linear_in: Container[int] = self.transpose  # where rules may apply it to tangents
        PRIMITIVES[name] = self

    def __call__(self, *args: Array, **params: Any) -> Any:
        return bind(self, args, params)

    def jvp(self, out: Any, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Return the tangent of ``out``, or None where it does not depend on the traced arguments."""
        if self.jvp_rule is not None:
            return self.jvp_rule(out, args, tangents, **params)
        if self.linear:
            return self.apply(args, tangents, params)
        what = f"no derivative is known (arguments of shape {[shape_of(a) for a in args]}){at_line()}"
        fix = "Write it in functions that have one, or give it a jvp (docs/autodiff.md, Add a primitive)"
        raise MissingRuleError(self.name, what, fix)

    def apply(self, args: Sequence[Array], tangents: Sequence[Any], params: dict[str, Any]) -> Any:
        """Apply a linear primitive to tangents: f(t1, t2) if it is joint, else f(t1, b) + f(a, t2)."""
        if self.joint:
            ts = [zeros(a) if t is None else t for a, t in zip(args, tangents, strict=True)]
            return self(*ts, **params)
        out = None
        for i, t in enumerate(tangents):
            if t is not None:
                out = total(out, self(*args[:i], t, *args[i + 1 :], **params))
        return out

    def pull(self, row: Any, ct: Array) -> None:
        """Give each parent of a row of the tape (`tape.Row`) its share of the row's cotangent."""
        for i, p in enumerate(row.parents):
            if p is not None:
                g = self.transpose[i](ct, *row.known, **row.params)
                p.give(g, own=type(g) is np.ndarray and g.base is None and g is not ct)


class Transposes(dict[int, Any]):
    """The transposes of a function of any number of arguments: ``make(i)`` for argument i."""

    def __init__(self, make: Function) -> None:
        self.make = make

    def __missing__(self, i: int) -> Any:
        return self.make(i)

    def __contains__(self, i: object) -> bool:
        return True


# --- derivatives ------------------------------------------------------------------------------------


class Dual(Tracer):
    """A value and its tangent: an array in forward mode, a row of the tape in reverse mode."""

    __slots__ = ("tangent", "value")

    def __init__(self, level: Level, value: Array, tangent: Any) -> None:
        self.level, self.value, self.tangent = level, value, tangent


class Derive(Level):
    """The level of `jvp` and `vjp`: every result carries the tangent that the primitive's rule gives."""

    def __init__(self, tape: Any = None) -> None:
        super().__init__()
        self.tape = tape  # where reverse mode records; None in forward mode
        self.doubt: Exception | None = None  # the error to raise if the result of forward mode is NaN

    def process(self, prim: Primitive, args: Sequence[Array], params: dict[str, Any]) -> Any:
        values, tangents, light, live = [], [], [], 0
        for a in args:
            t = None
            if type(a) is Dual and a.level is self:
                a, t = a.value, a.tangent
                live += 1
            if type(a) not in PLAIN and type(a) not in TRACERS:
                a = np.asarray(a)
            values.append(a)
            tangents.append(t)
            light.append(a if t is None else t)  # a row has the shape and dtype of the array, not the array
        out = bind(prim, values, params)
        if type(out) is Dual and out.level is self:  # a user's function, as `checkpoint` has, can do this
            what = f"the function uses a traced array that is not among its arguments{at_line()}"
            raise ArgumentError(prim.name, what, "Pass it as an argument")
        if self.tape is not None and prim.linear:
            known = light if live == 1 or prim.joint else values  # all that the transposes will ask for
            row = self.tape.add(prim, tangents, known, params, shape_of(out), dtype_of(out))
            return Dual(self, out, row)
        dot = prim.jvp(out, values, tangents, params)
        if dot is None:
            return out
        if prim.doubt is not None and self.tape is None:
            self.doubt = self.doubt or prim.doubt(out, dot)
        if type(out) is tuple:
            return tuple(self.pair(y, t) for y, t in zip(out, dot, strict=True))
        return self.pair(out, dot)

    def differentiate(
        self, f: Function, xs: Sequence[Array], ts: Sequence[Any], rebuild: Function
    ) -> tuple[list[Any], list[Any], Function]:
        """Return the results of ``f``, their tangents (None where zero), and how to rebuild the tree."""
        outs, rebuild_out = self.run(f, rebuild([Dual(self, x, t) for x, t in zip(xs, ts, strict=True)]))
        values = [y.value if self.holds(y) else y for y in outs]
        return values, [y.tangent if self.holds(y) else None for y in outs], rebuild_out

    def pair(self, y: Array, t: Any) -> Any:
        return y if t is None else Dual(self, y, fit(t, y))
