"""How NumPy calls the library: the protocols of NEP 13 and NEP 18, and the operations that tracers refuse.

NumPy passes ufuncs to `__array_ufunc__` and all other functions to `__array_function__`. Both look the
function up in a table, which rules, linalg and functions fill with `implements` (and, for elementwise ufuncs,
with `define`). A call that cannot be differentiated is refused here; the error shows the user's line and what
to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from inspect import BoundArguments, signature
from math import prod
from typing import Any

import numpy as np

from .core import Function, Tracer
from .errors import MissingRuleError, TracerError, at_line, in_scipy, user_line

UFUNCS: dict[Any, Function] = {}
FUNCTIONS: dict[Any, Function] = {}
REDUCTIONS: dict[tuple[Any, str], Any] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}
ALTERNATIVES: dict[str, str] = {}  # what to write instead of a function without a rule: functions/refused.py


def implements(*functions: Any) -> Callable[[Function], Function]:
    """Return a decorator: for traced arrays, NumPy calls the decorated function instead of ``functions``.

    Parameters
    ----------
    *functions : callable
        Functions or ufuncs of NumPy, e.g. ``np.ptp``.

    Returns
    -------
    callable
        A decorator that registers a function and returns it unchanged. The function gets the arguments of the
        NumPy call, of which at least one is a traced array.

    Notes
    -----
    Write it with functions that have a derivative, or pass a `Primitive` or an `Elementwise`.

    Examples
    --------
    >>> from eckart.autodiff import grad
    >>> @implements(np.ptp)
    ... def ptp(x, *args, **options):
    ...     return np.max(x, *args, **options) - np.min(x, *args, **options)
    >>> grad(np.ptp)(np.array([1.0, 5.0, 2.0]))
    array([-1.,  1.,  0.])
    """

    def register(rule: Function) -> Function:
        for function in functions:
            FUNCTIONS[function] = rule  # ufuncs too: they may be called as methods, as in x.conj()
            if isinstance(function, np.ufunc):
                UFUNCS[function] = rule
        return rule

    return register


def implement_with(rule: Function, *functions: Any) -> None:
    """Register functions that share a rule, whose first argument is the NumPy function."""
    for function in functions:
        implements(function)(partial(rule, function))


def array_ufunc(self: Tracer, ufunc: Any, method: str, *args: Any, **options: Any) -> Any:
    """Call the rule of a ufunc; this is `Tracer.__array_ufunc__`."""
    if not options and method == "__call__":
        op = UFUNCS.get(ufunc)
        if op is None:
            raise missing_rule(ufunc.__name__, args, options)
        return op(*args)
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if "out" in options or method == "at":
        raise writes_into(name)
    if (ufunc, method) in REDUCTIONS:
        return array_function(self, REDUCTIONS[ufunc, method], (), args, {"axis": 0, **options})
    raise unknown_option(name, f"{next(iter(options))}=" if method == "__call__" else "this method")


def array_function(self: Tracer, function: Any, types: Any, args: Any, options: Any) -> Any:
    """Call the rule of any other function; this is `Tracer.__array_function__`."""
    rule = FUNCTIONS.get(function)
    if rule is None:
        raise missing_rule(full_name(function), args, options)
    if options and options.pop("out", None) is not None:
        raise writes_into(f"np.{full_name(function)}")
    try:
        return rule(*args, **options)
    except TypeError:
        if bound(rule, args, options):
            raise  # the arguments fit the rule, so the error comes from inside it
    call = bound(function, args, options)  # NumPy's parameter names may differ from those of the rule
    if call and bound(rule, call.args, call.kwargs):
        return rule(*call.args, **call.kwargs)
    unknown = [f"{k}=" for k in options if k not in signature(rule).parameters]
    raise unknown_option(f"np.{full_name(function)}", " ".join(unknown) or "this number of arguments")


def bound(function: Any, args: Sequence[Any], options: dict[str, Any]) -> BoundArguments | None:
    """Return the arguments bound to the parameters of ``function``; None if they do not fit."""
    try:
        return signature(function).bind(*args, **options)
    except (TypeError, ValueError):  # ValueError: this NumPy function has no signature
        return None


def full_name(function: Any) -> str:
    """Return ``"linalg.svd"`` for `np.linalg.svd`."""
    module = getattr(function, "__module__", "") or ""
    return f"{module.removeprefix('numpy').lstrip('.')}.{function.__name__}".lstrip(".")


def writes_into(name: str) -> TracerError:
    """Return the error for ``out=`` and in-place operators."""
    what = f"a traced array cannot be written into by out= or an operator such as +={at_line()}"
    return TracerError(name, what, "Remove out=; use y = y + x, which creates a new array")


def unknown_option(name: str, what: str) -> MissingRuleError:
    """Return the error for an option that the rule of a function does not accept."""
    fix = "Remove it, or use other functions, such as np.where or astype"
    return MissingRuleError(name, f"{what} has no derivative rule{at_line()}", fix)


def missing_rule(name: str, args: Sequence[Any], options: dict[str, Any]) -> MissingRuleError:
    """Return the error for a function without a rule, with the first traced argument and an alternative."""
    traced = [
        f"argument {place}, of shape {x.shape},"
        for place, a in (*enumerate(args), *options.items())
        for x in (a if isinstance(a, (list, tuple)) else [a])
        if isinstance(x, Tracer)
    ]
    library = "np" if "." in name or hasattr(np, name) else "scipy.special"
    what = f"it has no derivative rule, but {traced[0] if traced else 'an argument'} is traced{at_line()}"
    fix = "See docs/autodiff.md for the functions with a rule and for how to add one"
    if name in ALTERNATIVES:
        fix = f"Use {ALTERNATIVES[name]}"
    return MissingRuleError(f"{library}.{name}", what, fix)


# --- attributes of tracers, and the operations they refuse ------------------------------------------

LEAKS = (
    "__array__",
    "__float__",
    "__int__",
    "__index__",
    "__complex__",
    "__round__",
    "__reduce__",
    "item",
    "tolist",
)
CHANGES = ("__setitem__", "fill", "put", "partition", "resize", "sort")
REASONS = (  # a pattern of the user's line, what is wrong with it, and what to write instead
    (
        r"\]\s*[-+*/@]?=[^=]",
        "entries of a traced array cannot be assigned, and traced values cannot be stored in a plain array",
        "Use np.where, np.stack, np.concatenate or np.sort, which create a new array",
    ),
    (
        r"np\.(as|asany)?array\(\s*[\[(]",
        "np.array cannot collect traced numbers",
        "Use np.stack([a, b])",
    ),
    (r"np\.full\(", "np.full does not accept a traced number", "Use np.broadcast_to(x, shape)"),
    (
        "^in SciPy",
        "this function of SciPy does not accept traced arrays",
        "Use the function of the same name in eckart.autodiff.scipy, np.linalg or np.fft",
    ),
    (
        r"math\.",
        "the math module does not accept traced arrays",
        "Use the NumPy function, such as np.exp instead of math.exp",
    ),
    (
        "",
        "this call would drop the derivative of a traced array",
        "Remove it, because NumPy functions accept traced arrays; to index, use plain integers",
    ),
)


def refuse(name: str) -> Function:
    """Return a method that raises an error with the user's line and what to write instead."""

    call = "np.asarray" if name == "__array__" else name.strip("_")  # as the user wrote it

    def method(self: Tracer, *args: Any, **options: Any) -> Any:
        if name in CHANGES:
            text = "x[i] = y"
        else:
            text = f"in SciPy: {user_line()[1]}" if in_scipy() else user_line()[1]
        what, fix = next(reason for pattern, *reason in REASONS if re.search(pattern, text))
        raise TracerError(call, what + at_line(), fix)

    return method


def absent(name: str) -> property:
    """Return a property that raises an error, for an attribute of NumPy's arrays that tracers do not have."""

    def get(self: Tracer) -> Any:
        what = f"`x.{name}`: traced arrays do not have this attribute{at_line()}"
        raise AttributeError(f"{what}. Use a function of NumPy.")

    return property(get)


def method_of(function: Any) -> Function:
    """Return the array method that calls ``function`` on the array: ``x.sum`` for `np.sum`."""
    return lambda self, *args, **options: array_function(self, function, (), (self, *args), options)


def length(self: Tracer) -> int:
    """Return the length of the first axis; this is `Tracer.__len__`."""
    if not self.shape:
        what = f"a 0-d array has no length and cannot be iterated over{at_line()}"
        raise TracerError("len", what, "Use x.size, or index or reshape it")
    return self.shape[0]


def install() -> None:
    """Add the methods of `Tracer`, except indexing and operators, which are added by the rules."""
    cls: Any = Tracer
    cls.__array_ufunc__, cls.__array_function__ = array_ufunc, array_function
    cls.__len__, cls.__iter__ = length, lambda self: (self[i] for i in range(len(self)))
    cls.__bool__, cls.__hash__ = lambda self: bool(self.value), object.__hash__
    cls.__repr__ = lambda self: f"{type(self).__name__}({getattr(self, 'value', '')!r})"
    cls.__format__ = lambda self, spec: format(self.value, spec) if spec else repr(self)
    cls.__copy__ = cls.__deepcopy__ = lambda self, *memo: self
    for name in (*LEAKS, *CHANGES):
        setattr(cls, name, refuse(name))
    cls.flatten = method_of(np.ravel)
    cls.ndim = property(lambda self: len(self.shape))
    cls.size = property(lambda self: prod(self.shape))
    cls.nbytes = property(lambda self: self.size * self.dtype.itemsize)
    cls.T, cls.mT = property(method_of(np.transpose)), property(method_of(np.matrix_transpose))
    cls.real, cls.imag = property(method_of(np.real)), property(method_of(np.imag))
    cls.compress = absent("compress")  # in np.compress the array is the second argument
    for name in set(dir(np.ndarray)) - set(dir(cls)):
        if not name.startswith("_"):  # a method calls the function of the same name, if there is one
            function = getattr(np, name, None)
            setattr(cls, name, method_of(function) if function else absent(name))
