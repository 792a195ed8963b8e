"""The transformations `jvp` and `vjp`, and those built on them: `linearize`, `grad` and `hvp`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np

from .core import Array, Derive, Function, Tracer, check_inexact, concrete, convert, dtype_of, shape_of, zeros
from .errors import ArgumentError, at_line
from .tape import Row, Tape, keep_memory
from .tree import flatten


def matched(where: str, kind: str, tree: Any, leaves: Sequence[Array]) -> list[Array]:
    """Return the leaves of a tree of tangents or cotangents (``kind``), checked against ``leaves``."""
    ts: list[Any] = [t if isinstance(t, Tracer) else np.asarray(t) for t in flatten(tree)[0]]
    fix = f"Pass one {kind} of the same shape for each {'argument' if kind == 'tangent' else 'result'}"
    if len(ts) != len(leaves):
        what = f"one {kind} for each array was expected ({len(leaves)} in all), but {len(ts)} were given"
        raise ArgumentError(where, what, fix)
    for t, x in zip(ts, leaves, strict=True):
        if t.shape != shape_of(x):
            what = f"a {kind} of shape {t.shape} was given for a value of shape {shape_of(x)}"
            raise ArgumentError(where, what, fix)
        if t.dtype.kind == "c" and dtype_of(x).kind != "c":
            what = f"a complex {kind} was given for a value of dtype {dtype_of(x)}"
            raise ArgumentError(where, what, f"Use np.real({kind})")
    return [convert(t, dtype_of(x)) for t, x in zip(ts, leaves, strict=True)]


def unshared(dots: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """Return the tangents, copied where their memory is shared with each other or with ``others``."""
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
        A function written in NumPy. Its arguments and results are arrays of any shape, of a real or complex
        floating-point dtype, or nested tuples, lists and dicts of such arrays.
    primals : tuple
        The arguments of ``f``.
    tangents : tuple
        The direction: one tangent for each argument, with its structure and shapes. Tangents are converted to
        the dtypes of the arguments.

    Returns
    -------
    value : array or tree of arrays
        The result of ``f``.
    tangent : array or tree of arrays
        Its derivative along ``tangents``, with the structure, shapes and dtypes of ``value``.

    Raises
    ------
    ArgumentError
        If an argument cannot be differentiated, or a tangent does not fit its argument.
    MissingRuleError
        If ``f`` calls a function without a derivative rule.
    TracerError
        If ``f`` uses a traced array where only a plain one can be, for example in ``float()``.
    TieError
        If the derivative along ``tangents`` does not exist.

    Notes
    -----
    The cost is about two to three times that of ``f``; memory does not grow with the length of ``f``.

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
    dots = unshared([zeros(y) if t is None else t for y, t in zip(values, dots, strict=True)], ts)
    if level.nan_error is not None and any(np.isnan(concrete(t)).any() for t in dots):
        raise level.nan_error
    return rebuild_out(values), rebuild_out(dots)


class Linear:
    """The derivative of a function at a point, as a tape that can be walked in both directions."""

    def __init__(self, f: Function, primals: Sequence[Any], where: str) -> None:
        keep_memory()
        self.where, self.tape = where, Tape()
        xs, self.rebuild_in = flatten(tuple(primals))
        self.xs = [check_inexact(where, x) for x in xs]
        # `leaves`: rows of the arguments, which have no primitive; `rows`: rows of the results, or None
        self.leaves = [Row(self.tape, None, (), (), None, shape_of(x), dtype_of(x)) for x in self.xs]
        derived = Derive(self.tape).differentiate(f, self.xs, self.leaves, self.rebuild_in)
        self.values, self.rows, self.rebuild_out = derived
        self.value = self.rebuild_out(self.values)

    def __del__(self) -> None:
        self.tape.rows.clear()  # break the cycle of rows and tape without waiting for the garbage collector

    def pull(self, cts: Sequence[Array], free: bool) -> Any:
        """Return the cotangents of the inputs from those of the first results; ``free`` as in `Tape.pull`."""
        for row, ct in zip(self.rows, cts, strict=False):
            if row is not None:
                row.give(ct, False)
        self.tape.pull(free)
        return self.rebuild_in([leaf.cotangent() for leaf in self.leaves])

    def transpose(self, cotangent: Any) -> Any:
        """Return the cotangents of the inputs, as a tuple, from the cotangent of the result."""
        cts = matched(self.where, "cotangent", cotangent, self.values)
        self.clear()
        return self.pull(cts, free=False)

    def apply(self, *tangents: Any) -> Any:
        """Return the tangent of the result from tangents of the inputs."""
        ts = matched(self.where, "tangent", tangents, self.xs)
        self.clear()
        for leaf, t in zip(self.leaves, ts, strict=True):
            leaf.ct = t
        self.tape.push()
        results = zip(self.values, self.rows, strict=True)
        dots = [zeros(y) if r is None or r.ct is None else r.ct for y, r in results]
        self.clear()
        return self.rebuild_out(unshared(dots, ts))

    def clear(self) -> None:
        """Remove what a previous walk, possibly one that ended in an error, left in the rows."""
        for row in (*self.leaves, *self.tape.rows):
            row.ct = None


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """Return ``f(*primals)`` and its pullback (reverse mode).

    Parameters
    ----------
    f : callable
        A function written in NumPy, as in `jvp`.
    *primals : array or tree of arrays
        The arguments of ``f``, of any shape and a floating-point dtype.

    Returns
    -------
    value : array or tree of arrays
        The result of ``f``.
    pullback : callable
        A function of a cotangent with the structure and shapes of ``value``. It returns a tuple with one
        cotangent for each argument and can be called any number of times.

    Raises
    ------
    ArgumentError
        If an argument cannot be differentiated, or a cotangent does not fit the result.
    MissingRuleError
        If ``f`` calls a function without a derivative rule.
    TracerError
        If ``f`` uses a traced array where only a plain one can be, for example in ``float()``.
    TieError
        If the derivative does not exist; some cases are noticed only when the pullback is called.

    Notes
    -----
    The pullback is the transpose of the derivative, without conjugation: <ct, J t> = <J' ct, t> with
    <a, b> = Re sum(a b). docs/autodiff.md explains the convention for complex numbers. Memory for the
    intermediate results of ``f`` is held as long as the pullback exists.

    Examples
    --------
    >>> value, pullback = vjp(lambda a, b: a * b, 2.0, 5.0)
    >>> pullback(1.0)
    (np.float64(5.0), np.float64(2.0))
    """
    linear = Linear(f, primals, "vjp")
    return linear.value, linear.transpose


def linearize(f: Function, *primals: Any) -> tuple[Any, Function]:
    """Return ``f(*primals)`` and its derivative as a linear function that can be applied many times.

    Parameters
    ----------
    f : callable
        A function written in NumPy, as in `jvp`.
    *primals : array or tree of arrays
        The arguments of ``f``, of any shape and a floating-point dtype.

    Returns
    -------
    value : array or tree of arrays
        The result of ``f``.
    derivative : callable
        A function of one tangent for each argument. It returns the tangent of the result, without evaluating
        ``f`` again.

    Raises
    ------
    ArgumentError
        If an argument cannot be differentiated, or a tangent does not fit its argument.
    MissingRuleError
        If ``f`` calls a function without a derivative rule.

    Notes
    -----
    Where the derivative along a tangent does not exist, the linear function returns NaN; `jvp` raises
    TieError.

    Examples
    --------
    >>> value, df = linearize(lambda x: x**3, 2.0)
    >>> value, df(1.0), df(10.0)
    (np.float64(8.0), np.float64(12.0), np.float64(120.0))
    """
    linear = Linear(f, primals, "linearize")
    return linear.value, linear.apply


def select(f: Function, args: Sequence[Any], options: dict[str, Any], argnums: Any) -> tuple[Function, Any]:
    """Return ``f`` as a function of the arguments chosen by ``argnums`` alone, and those arguments."""
    n = len(args)
    if argnums == 0 and n == 1 and not options:
        return f, args  # the most frequent call
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if len({i % n for i in chosen if -n <= i < n}) < len(chosen):
        what = f"{argnums} does not select distinct positional arguments, of which there are {n}"
        fix = "Count from 0, and pass the arguments to differentiate by position"
        raise ArgumentError("argnums", what, fix)

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
        A function written in NumPy that returns one real number, an array of shape ``()``. With ``has_aux``
        it returns a pair of that number and any other value.
    argnums : int or sequence of int, default 0
        The positions of the arguments to differentiate, counted from 0.
    has_aux : bool, default False
        Whether ``f`` returns a pair ``(value, aux)``; ``aux`` is passed through.

    Returns
    -------
    callable
        A function of the arguments of ``f`` that returns ``(value, gradient)``, or ``((value, aux),
        gradient)`` with ``has_aux``. The gradient has the structure, shapes and dtypes of the argument; if
        ``argnums`` is a sequence, it is a tuple with one gradient for each.

    Raises
    ------
    ArgumentError
        If an argument cannot be differentiated, or if ``f`` does not return one real number.
    MissingRuleError
        If ``f`` calls a function without a derivative rule.
    TracerError
        If ``f`` uses a traced array where only a plain one can be, for example in ``float()``.
    TieError
        If the gradient does not exist.

    Notes
    -----
    The time is about two to four times that of ``f``, for any number of arguments (Baur & Strassen, 1983).
    The intermediate results of ``f`` are kept in memory and freed during the reverse pass; `checkpoint`
    reduces that memory.

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
            returned = ", ".join(f"{dtype_of(y)} of shape {shape_of(y)}" for y in ys) or None
            what = f"the function must return one real number, not {returned}{at_line()}"
            raise ArgumentError("grad", what, "Use np.sum or np.real on the result, or call jacobian")
        gradient = linear.pull([dtype_of(ys[0]).type(1)], free=True)
        return value, gradient[0] if isinstance(argnums, int) else gradient

    return differentiated


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Return a function that computes the gradient of a scalar function in one reverse pass.

    Parameters
    ----------
    f : callable
        A function written in NumPy that returns one real number, an array of shape ``()``. With ``has_aux``
        it returns a pair of that number and any other value.
    argnums : int or sequence of int, default 0
        The positions of the arguments to differentiate, counted from 0.
    has_aux : bool, default False
        Whether ``f`` returns a pair ``(value, aux)``; ``aux`` is passed through.

    Returns
    -------
    callable
        A function of the arguments of ``f`` that returns the gradient, or ``(gradient, aux)`` with
        ``has_aux``. The gradient has the structure, shapes and dtypes of the argument; if ``argnums`` is a
        sequence, it is a tuple with one gradient for each.

    Raises
    ------
    ArgumentError
        If an argument cannot be differentiated, or if ``f`` does not return one real number.
    MissingRuleError
        If ``f`` calls a function without a derivative rule.
    TracerError
        If ``f`` uses a traced array where only a plain one can be, for example in ``float()``.
    TieError
        If the gradient does not exist.

    Notes
    -----
    Time and memory are those of `value_and_grad`. For a complex argument x + iy the gradient is
    df/dx - i df/dy. For a holomorphic f this is f', and the direction of steepest ascent is its conjugate
    (the convention of JAX; PyTorch returns the conjugate).

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
        A function of one argument, written in NumPy, that returns one real number.
    x : array or tree of arrays
        The point, of any shape and a floating-point dtype.
    v : array or tree of arrays
        The vector, with the structure and shapes of ``x``.

    Returns
    -------
    array or tree of arrays
        The product, with the structure, shapes and dtypes of ``x``.

    Raises
    ------
    ArgumentError
        If ``x`` cannot be differentiated, if ``v`` does not fit it, or if ``f`` does not return one real
        number.

    Notes
    -----
    The cost is a small multiple of that of ``f``; the Hessian is not formed (Pearlmutter, Neural Computation
    6, 1994).

    Examples
    --------
    >>> hvp(lambda x: x**4, 1.0, 2.0)
    np.float64(24.0)
    """
    return jvp(grad(f), (x,), (v,))[1]
