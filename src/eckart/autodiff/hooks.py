"""How NumPy hands its calls over: the two protocols of NEP 13 and NEP 18, and what a tracer refuses.

Ufuncs arrive at `__array_ufunc__`, all other functions at `__array_function__`; each is looked up in a
table that rules, linalg and functions fill with `implements` (elementwise ufuncs with `enter`). What cannot
be differentiated is refused here with the line of the user's code and what to write there instead.
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
    (np.add, "reduce"): np.sum, (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max, (np.minimum, "reduce"): np.min,
    (np.add, "accumulate"): np.cumsum, (np.multiply, "accumulate"): np.cumprod,
}  # fmt: skip
NEAREST: dict[str, str] = {}  # what to write instead of a function without a rule: functions/refused.py


def implements(*functions: Any) -> Callable[[Function], Function]:
    """Return a decorator: where these functions of NumPy meet a traced array, what it decorates is called."""

    def enter(rule: Function) -> Function:
        for function in functions:
            FUNCTIONS[function] = rule  # a ufunc too: it may be called as a method, as x.conj() is
            if isinstance(function, np.ufunc):
                UFUNCS[function] = rule
        return rule

    return enter


def implement_by(rule: Function, *functions: Any) -> None:
    """Enter functions that share a rule: it is given the function first, to be called on something plain."""
    for function in functions:
        implements(function)(partial(rule, function))


def array_ufunc(self: Tracer, ufunc: Any, method: str, *args: Any, **options: Any) -> Any:
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
    rule = FUNCTIONS.get(function)
    if rule is None:
        raise missing_rule(full_name(function), args, options)
    if options and options.pop("out", None) is not None:
        raise writes_into(f"np.{full_name(function)}")
    try:
        return rule(*args, **options)
    except TypeError:
        if bound(rule, args, options):
            raise  # it is not this call that does not fit the rule
    call = bound(function, args, options)  # an argument may have been given by the name that NumPy has for it
    if call and bound(rule, call.args, call.kwargs):
        return rule(*call.args, **call.kwargs)
    strange = [f"{k}=" for k in options if k not in signature(rule).parameters]
    raise unknown_option(f"np.{full_name(function)}", " ".join(strange) or "a call with so many arguments")


def bound(function: Any, args: Sequence[Any], options: dict[str, Any]) -> BoundArguments | None:
    """Return the arguments by the parameters of ``function``; None if they do not fit."""
    try:
        return signature(function).bind(*args, **options)
    except (TypeError, ValueError):  # ValueError: NumPy does not say what the parameters are
        return None


def full_name(function: Any) -> str:
    """Return ``"linalg.svd"`` for `np.linalg.svd`."""
    module = getattr(function, "__module__", "") or ""
    return f"{module.removeprefix('numpy').lstrip('.')}.{function.__name__}".lstrip(".")


def writes_into(name: str) -> TracerError:
    what = f"a traced array cannot be written into, with out= or an operator like +={at_line()}"
    return TracerError(name, what, "Drop out=; write y = y + x, which makes a new array")


def unknown_option(name: str, what: str) -> MissingRuleError:
    fix = "Leave it out, or write it in other functions: broadcasting, np.where or astype"
    return MissingRuleError(name, f"{what} has no derivative rule{at_line()}", fix)


def missing_rule(name: str, args: Sequence[Any], options: dict[str, Any]) -> MissingRuleError:
    traced = [
        f"argument {place}, of shape {x.shape},"
        for place, a in (*enumerate(args), *options.items())
        for x in (a if isinstance(a, (list, tuple)) else [a])
        if isinstance(x, Tracer)
    ]
    near, library = NEAREST.get(name, ""), "np" if "." in name or hasattr(np, name) else "scipy.special"
    what = f"no derivative rule; {traced[0] if traced else 'an argument'} is traced{at_line()}"
    listed = "docs/autodiff.md lists the functions with one and shows how to add one"
    return MissingRuleError(f"{library}.{name}", what, f"Write {near}" if near else listed)


# --- what a tracer has, and what it refuses ---------------------------------------------------------

LEAKS = (
    "__array__", "__float__", "__int__", "__index__", "__complex__", "__round__", "__reduce__", "item",
    "tolist",
)  # fmt: skip
CHANGES = ("__setitem__", "fill", "put", "partition", "resize", "sort")
REASONS = (  # what the user's line looks like, what is wrong with it, and what to write there
    (r"\]\s*[-+*/@]?=[^=]", "a traced array cannot be assigned into, or into a plain array",
     "Write np.where, np.stack, np.concatenate or np.sort, which make a new array"),
    (r"np\.(as|asany)?array\(\s*[\[(]", "traced numbers cannot be gathered by np.array",
     "Write np.stack([a, b])"),
    (r"np\.full\(", "np.full cannot take a traced number", "Write np.broadcast_to(x, shape)"),
    ("^in SciPy", "SciPy cannot take a traced array",
     "Write the function of eckart.autodiff.scipy, np.linalg or np.fft"),
    (r"math\.", "a traced array cannot go to the math module", "Use the function of NumPy"),
    ("", "{name} would drop the derivative of a traced array",
     "Leave it out: traced arrays work as they are; to index, use plain integers"),
)  # fmt: skip


def refuse(name: str) -> Function:
    """Return a method that says where a tracer leaked out, and what to write there."""

    call = "np.asarray" if name == "__array__" else name.strip("_")  # what the user wrote

    def method(self: Tracer, *args: Any, **options: Any) -> Any:
        text = "x[i] = y" if name in CHANGES else ("in SciPy: " if in_scipy() else "") + user_line()[1]
        what, fix = next(reason for pattern, *reason in REASONS if re.search(pattern, text))
        raise TracerError(call, what.format(name=call) + at_line(), fix)

    return method


def absent(name: str) -> property:
    """Return an attribute of NumPy's arrays that tracers do not have, to say so."""

    def get(self: Tracer) -> Any:
        what = f"`x.{name}`: a traced array does not have it{at_line()}"
        raise AttributeError(f"{what}. Use a function of NumPy")

    return property(get)


def method_of(function: Any) -> Function:
    """Return the array method that calls ``function`` on the array: ``x.sum`` for `np.sum`."""
    return lambda self, *args, **options: array_function(self, function, (), (self, *args), options)


def length(self: Tracer) -> int:
    if not self.shape:
        what = f"a 0-d array has no length and cannot be iterated over{at_line()}"
        raise TracerError("len", what, "Use x.size, or index or reshape it")
    return self.shape[0]


def install() -> None:
    """Give `Tracer` its methods, all but indexing and the operators, which the rules bring."""
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
    cls.compress = absent("compress")  # the function takes the array second
    for name in set(dir(np.ndarray)) - set(dir(cls)):
        if not name.startswith("_"):  # a method is the function by the same name, if there is one
            function = getattr(np, name, None)
            setattr(cls, name, method_of(function) if function else absent(name))
