"""The transformations: `jvp` and `vjp`, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np

from .core import Array, Derive, Function, Tracer, check_inexact, concrete, convert, dtype_of, shape_of, zeros
from .errors import ArgumentError, at_line
from .tape import Row, Tape, keep_memory
from .tree import flatten


def matched(where: str, what: str, tree: Any, leaves: Sequence[Array]) -> list[Array]:
    """Return the leaves of a tree of tangents or cotangents, one for each of ``leaves`` and in its dtype."""
    ts: list[Any] = [t if isinstance(t, Tracer) else np.asarray(t) for t in flatten(tree)[0]]
    fix = f"Give one {what} for each {'argument' if what == 'tangent' else 'result'}, of its shape"
    if len(ts) != len(leaves):
        raise ArgumentError(where, f"{len(ts)} {what}s were given for {len(leaves)} arrays", fix)
    for t, x in zip(ts, leaves, strict=True):
        if t.shape != shape_of(x):
            found = f"a {what} of shape {t.shape} was given for a value of shape {shape_of(x)}"
            raise ArgumentError(where, found, fix)
        if t.dtype.kind == "c" and dtype_of(x).kind != "c":
            found = f"a complex {what} was given for a value of dtype {dtype_of(x)}"
            raise ArgumentError(where, found, f"Write np.real({what})")
    return [convert(t, dtype_of(x)) for t, x in zip(ts, leaves, strict=True)]


def apart(dots: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """Return the tangents in memory that is not that of another one or of ``others``."""
    out: list[Array] = []
    for t in dots:
        shared = type(t) is np.ndarray and (t.base is not None or any(t is u for u in (*others, *out)))
        out.append(t.copy() if shared else t)
    return out


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return ``f(*primals)`` and its derivative along ``tangents`` (forward mode).

    Parameters
    ----------
    f : callable
        Written in NumPy; arguments and results are arrays or nested tuples, lists and dicts of them.
    primals, tangents : sequence
        The arguments and the direction, of the same structure, shapes and dtypes.

    Returns
    -------
    (value, tangent)
        Both of the structure of the result of ``f``.

    Notes
    -----
    Costs about two to three times ``f`` and no memory that grows with its length.

    Examples
    --------
    >>> jvp(lambda x: x**2, (3.0,), (1.0,))
    (np.float64(9.0), np.float64(6.0))
    """
    if isinstance(primals, (np.ndarray, Tracer, float, complex)):
        raise ArgumentError("jvp", "the arguments are not in a tuple", "Write jvp(f, (x,), (t,))")
    leaves, rebuild = flatten(tuple(primals))
    xs = [check_inexact("jvp", x) for x in leaves]
    level = Derive()
    ts = matched("jvp", "tangent", tuple(tangents), xs)
    values, dots, rebuild_out = level.differentiate(f, xs, ts, rebuild)
    dots = apart([zeros(y) if t is None else t for y, t in zip(values, dots, strict=True)], ts)
    if level.doubt is not None and any(np.isnan(concrete(t)).any() for t in dots):
        raise level.doubt
    return rebuild_out(values), rebuild_out(dots)


class Linear:
    """The derivative of a function at a point, as a tape that can be walked both ways."""

    def __init__(self, f: Function, primals: Sequence[Any], where: str) -> None:
        keep_memory()
        self.where, self.tape = where, Tape()
        xs, self.rebuild_in = flatten(tuple(primals))
        self.xs = [check_inexact(where, x) for x in xs]
        # rows: of the arguments, `leaves`, which no primitive has made; of the results, or None, `rows`
        self.leaves = [Row(self.tape, None, (), (), None, shape_of(x), dtype_of(x)) for x in self.xs]
        found = Derive(self.tape).differentiate(f, self.xs, self.leaves, self.rebuild_in)
        self.values, self.rows, self.rebuild_out = found
        self.value = self.rebuild_out(self.values)

    def __del__(self) -> None:
        self.tape.rows.clear()  # rows and tape refer to each other: do not wait for the collector

    def pull(self, cts: Sequence[Array], free: bool) -> Any:
        """Return the cotangents of the inputs from those of the first results; ``free`` as in `Tape`."""
        for row, ct in zip(self.rows, cts, strict=False):
            if row is not None:
                row.give(ct, False)
        self.tape.pull(free)
        return self.rebuild_in([leaf.cotangent() for leaf in self.leaves])

    def transpose(self, cotangent: Any) -> Any:
        """Return the cotangents of the inputs, as a tuple."""
        cts = matched(self.where, "cotangent", cotangent, self.values)
        self.clear()
        return self.pull(cts, free=False)

    def apply(self, *tangents: Any) -> Any:
        """Return the tangent of the result for tangents of the inputs."""
        ts = matched(self.where, "tangent", tangents, self.xs)
        self.clear()
        for leaf, t in zip(self.leaves, ts, strict=True):
            leaf.ct = t
        self.tape.push()
        results = zip(self.values, self.rows, strict=True)
        dots = [zeros(y) if r is None or r.ct is None else r.ct for y, r in results]
        self.clear()
        return self.rebuild_out(apart(dots, ts))

    def clear(self) -> None:
        """Take away what a walk has left in the rows, also one that an error ended."""
        for row in (*self.leaves, *self.tape.rows):
            row.ct = None


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """Return ``f(*primals)`` and its pullback (reverse mode).

    Returns
    -------
    value
        The result of ``f``.
    pullback : callable
        Takes a cotangent of the structure of the result, returns a tuple with one cotangent for each
        argument. It can be called any number of times.

    Notes
    -----
    The pullback is the transpose of the derivative, with no conjugation: <ct, J t> = <J' ct, t> with
    <a, b> = Re sum(a b). For complex numbers see docs/autodiff.md.

    Examples
    --------
    >>> value, pullback = vjp(lambda a, b: a * b, 2.0, 5.0)
    >>> pullback(1.0)
    (np.float64(5.0), np.float64(2.0))
    """
    linear = Linear(f, primals, "vjp")
    return linear.value, linear.transpose


def linearize(f: Function, *primals: Any) -> tuple[Any, Function]:
    """Return ``f(*primals)`` and its derivative as a linear function, to be applied many times.

    Examples
    --------
    >>> value, df = linearize(lambda x: x**3, 2.0)
    >>> value, df(1.0), df(10.0)
    (np.float64(8.0), np.float64(12.0), np.float64(120.0))
    """
    linear = Linear(f, primals, "linearize")
    return linear.value, linear.apply


def select(f: Function, args: Sequence[Any], options: dict[str, Any], argnums: Any) -> tuple[Function, Any]:
    """Return ``f`` as a function of the chosen arguments alone, and those arguments."""
    n = len(args)
    if argnums == 0 and n == 1 and not options:
        return f, args  # most calls
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if len({i % n for i in chosen if -n <= i < n}) < len(chosen):
        what = f"{argnums} is not a choice among the {n} arguments by position, each once"
        raise ArgumentError("argnums", what, "Count from 0, and give by position what is differentiated")

    def inner(*some: Any) -> Any:
        full = list(args)
        for i, a in zip(chosen, some, strict=True):
            full[i] = a
        return f(*full, **options)

    return inner, [args[i] for i in chosen]


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Return a function that computes ``f`` and its gradient in one reverse pass.

    Parameters
    ----------
    f : callable
        Returns one real number; with ``has_aux``, a pair of it and anything else.
    argnums : int or sequence of int
        The argument, or arguments, to differentiate in.
    has_aux : bool
        The second part of what ``f`` returns is passed through.

    Returns
    -------
    callable
        Of the arguments of ``f``; returns ``(value, gradient)``, the gradient of the structure, shapes
        and dtypes of the argument (a tuple of them if ``argnums`` is a sequence).

    Notes
    -----
    About two to four times the time of ``f``, whatever the number of arguments (Baur & Strassen, 1983);
    memory for the intermediate results of ``f``, given back as the reverse pass goes: see `checkpoint`.

    Examples
    --------
    >>> import numpy as np
    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """

    @wraps(f)
    def differentiated(*args: Any, **options: Any) -> Any:
        inner, some = select(f, args, options, argnums)

        def pair(*xs: Any) -> tuple[Any, Any]:
            y, aux = inner(*xs)
            return y, aux

        linear = Linear(pair if has_aux else inner, some, "grad")
        value = linear.value
        ys = flatten(value[0] if has_aux else value)[0]
        if len(ys) != 1 or shape_of(ys[0]) != () or dtype_of(ys[0]).kind not in "fiub":
            found = ", ".join(f"{dtype_of(y)} of shape {shape_of(y)}" for y in ys) or None
            what = f"the function must return one real number, not {found}{at_line()}"
            raise ArgumentError("grad", what, "Take np.sum or np.real of it, or call jacobian")
        gradient = linear.pull([dtype_of(ys[0]).type(1)], free=True)
        return value, gradient[0] if isinstance(argnums, int) else gradient

    return differentiated


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Return the gradient of a scalar function, computed by one reverse pass.

    Parameters
    ----------
    f, argnums, has_aux
        As in `value_and_grad`; with ``has_aux`` the result is ``(gradient, aux)``.

    Notes
    -----
    For complex arguments the gradient is df/dx - i df/dy: for a holomorphic f it is f', and the direction
    of steepest ascent is its conjugate (the convention of JAX; PyTorch returns the conjugate).

    Examples
    --------
    >>> import numpy as np
    >>> grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def gradient(*args: Any, **options: Any) -> Any:
        value, g = both(*args, **options)
        return (g, value[1]) if has_aux else g

    return gradient


def hvp(f: Function, x: Any, v: Any) -> Any:
    """Return the Hessian of a scalar function times a vector, forward over reverse.

    Parameters
    ----------
    f : callable
        Returns one real number.
    x, v : array or tree of arrays
        The point and the vector.

    Notes
    -----
    Costs a small multiple of ``f``; the Hessian is not formed (Pearlmutter, Neural Computation 6, 1994).

    Examples
    --------
    >>> hvp(lambda x: x**4, 1.0, 2.0)
    np.float64(24.0)
    """
    return jvp(grad(f), (x,), (v,))[1]
