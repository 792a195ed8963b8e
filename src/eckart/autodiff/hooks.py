"""How NumPy hands its calls over: the two protocols of NEP 13 and NEP 18, and what a tracer refuses.

Ufuncs arrive at `__array_ufunc__`, all other functions at `__array_function__`; each is looked up in a
table that the files in `rules` fill with `@implements`. What cannot be differentiated is refused here
with the line of the user's code and what to write there instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

from .core import Tracer, dtype_of, shape_of
from .errors import MissingRuleError, TracerError, at_line, in_scipy, user_line

UFUNCS: dict[Any, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
REDUCTIONS: dict[str, dict[Any, Any]] = {
    "reduce": {np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min},
    "accumulate": {np.add: np.cumsum, np.multiply: np.cumprod},
}
NEAREST: dict[str, str] = {}  # what to write instead of a function without a rule


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in the table of what tracers do when NumPy is called with them."""

    def enter(rule: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            FUNCTIONS[function] = rule
        return rule

    return enter


def array_ufunc(self: Tracer, ufunc: Any, method: str, *args: Any, **options: Any) -> Any:
    if not options and method == "__call__":
        op = UFUNCS.get(ufunc)
        if op is None:
            raise missing(ufunc.__name__, args)
        return op(*args)
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if options.pop("out", None) is not None or method == "at":
        raise TracerError(
            name,
            f"a traced array cannot be written into, with out= or an operator like +={at_line()}",
            "Write y = y + x, which makes a new array",
        )
    if method in REDUCTIONS and ufunc in REDUCTIONS[method]:
        options.setdefault("axis", 0)
        return array_function(self, REDUCTIONS[method][ufunc], (), args, options)
    if method != "__call__" or options:
        raise unknown(name, f"{next(iter(options))}=" if method == "__call__" else "this method")
    return array_ufunc(self, ufunc, method, *args)


def array_function(self: Tracer, function: Any, types: Any, args: Any, options: Any) -> Any:
    rule = FUNCTIONS.get(function)
    if rule is None:
        raise missing(full_name(function), args, options)
    if options and options.pop("out", None) is not None:
        raise TracerError(
            f"np.{function.__name__}", f"out= cannot take a traced array{at_line()}", "Drop out="
        )
    try:
        return rule(*args, **options)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # it is not this call that does not fit the rule
    try:  # an argument may have been given by the name that NumPy has for it
        bound = signature(function).bind(*args, **options)
        return rule(*bound.args, **bound.kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
    strange = [f"{k}=" for k in options if k not in signature(rule).parameters]
    raise unknown(f"np.{full_name(function)}", " ".join(strange) or "a call with so many arguments")


def full_name(function: Any) -> str:
    """Return ``"linalg.svd"`` for `np.linalg.svd`."""
    module = getattr(function, "__module__", "") or ""
    return f"{module.removeprefix('numpy').lstrip('.')}.{function.__name__}".lstrip(".")


def unknown(name: str, what: str) -> MissingRuleError:
    return MissingRuleError(
        name,
        f"{what} has no derivative rule{at_line()}",
        "Leave it out, or write it in other functions: broadcasting, np.where or astype",
    )


def missing(name: str, args: Any, options: dict[str, Any] | None = None) -> MissingRuleError:
    places = [*enumerate(args), *(options or {}).items()]
    traced = [
        f"argument {place}, of shape {shape_of(x)},"
        for place, a in places
        for x in (a if isinstance(a, (list, tuple)) else [a])
        if isinstance(x, Tracer)
    ]
    near, library = NEAREST.get(name, ""), "np" if "." in name or hasattr(np, name) else "scipy.special"
    return MissingRuleError(
        f"{library}.{name}",
        f"no derivative rule; {traced[0] if traced else 'an argument'} is traced{at_line()}",
        f"Write {near}" if near else "docs/autodiff.md lists the functions with one and shows how to add one",
    )


# --- what a tracer has, and what it refuses ---------------------------------------------------------

METHODS = (
    "sum", "mean", "prod", "max", "min", "std", "var", "cumsum", "cumprod", "trace", "dot", "ravel",
    "reshape", "transpose", "squeeze", "swapaxes", "diagonal", "repeat", "take", "clip", "round",
    "argsort", "argmax", "argmin", "all", "any", "conj", "copy", "nonzero", "astype", "searchsorted",
)  # fmt: skip
LEAKS = (
    "__array__", "__float__", "__int__", "__index__", "__complex__", "__round__", "__reduce__", "item",
    "tolist",
)  # fmt: skip
CHANGES = ("__setitem__", "fill", "put", "partition", "resize", "sort")


def refuse(name: str) -> Callable[..., Any]:
    """Return a method that says where a tracer leaked out, and what to write there."""

    def method(self: Tracer, *args: Any, **options: Any) -> Any:
        _, text = user_line()
        if name in CHANGES or re.search(r"\]\s*[-+*/@]?=[^=]", text):
            what, fix = "a traced array cannot be assigned into, or into a plain array", (
                "Write np.where, np.stack, np.concatenate or np.sort, which make a new array")  # fmt: skip
        elif re.search(r"np\.(as|asany)?array\(\s*[\[(]", text):
            what, fix = "traced numbers cannot be gathered by np.array", "Write np.stack([a, b])"
        elif "np.full(" in text:
            what, fix = "np.full cannot take a traced number", "Write np.broadcast_to(x, shape)"
        elif in_scipy():
            what, fix = "SciPy cannot take a traced array", (
                "Write the function of eckart.autodiff.scipy, np.linalg or np.fft")  # fmt: skip
        elif "math." in text:
            what, fix = "a traced array cannot go to the math module", "Use the function of NumPy"
        else:
            what, fix = f"{name} would drop the derivative of a traced array", (
                "Leave it out: traced arrays work as they are; to index, use plain integers")  # fmt: skip
        raise TracerError(name, f"{what}{at_line()}", fix)

    return method


def absent(name: str) -> property:
    """Return an attribute of NumPy's arrays that tracers do not have, to say so."""

    def get(self: Tracer) -> Any:
        raise AttributeError(
            f"`x.{name}`: a traced array does not have it{at_line()}. Use a function of NumPy"
        )

    return property(get)


def rows_of(self: Tracer) -> Any:
    if not shape_of(self):
        raise TracerError("iter", f"a 0-d array cannot be iterated over{at_line()}", "Index or reshape it")
    return (self[i] for i in range(shape_of(self)[0]))  # type: ignore[index]


def length(self: Tracer) -> int:
    if not shape_of(self):
        raise TracerError("len", f"a 0-d array has no length{at_line()}", "Use x.size")
    return shape_of(self)[0]


def describe(self: Tracer) -> str:
    return f"{type(self).__name__}({getattr(self, 'value', '')!r})"


def method_of(function: Any) -> Callable[..., Any]:
    """Return the array method that calls ``function`` on the array: ``x.sum`` for `np.sum`."""
    return lambda self, *args, **options: array_function(self, function, (), (self, *args), options)


def install() -> None:
    """Give `Tracer` its methods; called once, when the tables are full."""
    cls: Any = Tracer
    cls.__array_ufunc__, cls.__array_function__ = array_ufunc, array_function
    cls.__iter__, cls.__len__, cls.__repr__ = rows_of, length, describe
    cls.__bool__, cls.__hash__ = lambda self: bool(self.value), object.__hash__
    cls.__format__ = lambda self, spec: format(self.value, spec) if spec else repr(self)
    cls.__copy__ = cls.__deepcopy__ = lambda self, *memo: self
    for name in METHODS:
        setattr(cls, name, method_of(getattr(np, name)))
    for name in (*LEAKS, *CHANGES):
        setattr(cls, name, refuse(name))
    cls.conjugate, cls.flatten = cls.conj, cls.ravel
    cls.ndim = property(lambda self: len(shape_of(self)))
    cls.size = property(lambda self: int(np.prod(shape_of(self), dtype=int)))
    cls.nbytes = property(lambda self: self.size * dtype_of(self).itemsize)
    cls.T = property(lambda self: FUNCTIONS[np.transpose](self))
    cls.mT = property(lambda self: FUNCTIONS[np.swapaxes](self, -1, -2))
    cls.real = property(lambda self: FUNCTIONS[np.real](self))
    cls.imag = property(lambda self: FUNCTIONS[np.imag](self))
    for name in set(dir(np.ndarray)) - set(dir(cls)):
        if not name.startswith("_"):
            setattr(cls, name, absent(name))
