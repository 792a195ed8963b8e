"""Check the docstring of every public name with numpydoc.

    python scripts/check_docstrings.py                 # all packages
    python scripts/check_docstrings.py eckart.linalg   # only this one

Prints one line for each failure, and exits 1 if there is any. Public names are those in the ``__all__`` of
a package, and the public methods and properties of the classes among them.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from typing import Any

from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, validate

import eckart

# The checks of numpydoc that are applied. Types are not among them: annotations state them.
CHECKS = {
    "GL01",  # the summary does not start on the first or second line
    "GL06",  # unknown section
    "GL07",  # sections in the wrong order
    "GL08",  # no docstring
    "SS01",  # no summary
    "SS02",  # the summary does not start with a capital letter
    "SS03",  # the summary does not end with a period
    "SS06",  # the summary does not fit in one line
    "PR01",  # a parameter is not documented
    "PR02",  # a documented parameter does not exist
    "PR03",  # parameters in the wrong order
    "PR07",  # a parameter has no description
    "RT01",  # no Returns section
    "YD01",  # no Yields section
}
TEXT_CHECKS = {code for code in CHECKS if code.startswith(("GL", "SS"))}
# A method needs no Returns section if its summary describes the result: "Return the least rank that ..."
METHOD_CHECKS = CHECKS - {"RT01", "YD01"}
METHODS = (property, cached_property, classmethod, staticmethod)


class DocstringValidator(Validator):  # type: ignore[misc]
    """numpydoc's validator, which also accepts the fields of a record in an Attributes section."""

    def __init__(self, obj_name: str) -> None:
        super().__init__(get_doc_object(self._load_obj(obj_name), config={"show_class_members": False}))

    @property
    def inherited_fields(self) -> set[str]:
        """Return the fields of a dataclass that a base class declares and documents."""
        if not dataclasses.is_dataclass(self.obj):
            return set()
        return {field.name for field in dataclasses.fields(self.obj)} - set(inspect.get_annotations(self.obj))

    @property
    def doc_all_parameters(self) -> dict[str, Any]:
        """Return the documented parameters, including the documented fields of a record."""
        documented: dict[str, Any] = self._doc_parameters(["Parameters", "Other Parameters"])
        if dataclasses.is_dataclass(self.obj):
            fields = {field.name for field in dataclasses.fields(self.obj) if field.init}
        else:
            fields = set(getattr(self.obj, "_fields", ()))  # of a named tuple
        attributes = self._doc_parameters(["Attributes"])
        documented |= {name: text for name, text in attributes.items() if name in fields}
        return {name: text for name, text in documented.items() if name not in self.inherited_fields}

    @property
    def signature_parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters, without those that a base class documents."""
        if (
            inspect.isclass(self.obj)
            and issubclass(self.obj, (Exception, Enum))
            and "__init__" not in vars(self.obj)
        ):
            return ()
        return tuple(name for name in super().signature_parameters if name not in self.inherited_fields)


def packages() -> list[str]:
    """Return the names of the packages that have public names."""
    names = [f"eckart.{info.name}" for info in pkgutil.iter_modules(eckart.__path__) if info.ispkg]
    return [name for name in ["eckart", *names] if hasattr(importlib.import_module(name), "__all__")]


def public_names(package: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the full name of every public function, class and method, and the checks that it must pass."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if not callable(value):
            continue  # a constant has no docstring of its own
        if not hasattr(value, "__qualname__"):  # an instance that can be called
            yield f"{package}.{name}", TEXT_CHECKS
            continue
        full_name = f"{value.__module__}.{value.__qualname__}"  # where it is defined
        yield full_name, CHECKS
        if inspect.isclass(value):
            yield from public_methods(value)


def public_methods(cls: type) -> Iterator[tuple[str, set[str]]]:
    """Yield the full name of each public method and property, where Eckart defines it, and its checks."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("eckart.")]
    for position, base in enumerate(bases):
        for name, value in vars(base).items():
            if name.startswith("_") or not (inspect.isfunction(value) or isinstance(value, METHODS)):
                continue
            overrides = any(name in vars(other) for other in bases[position + 1 :])
            yield f"{base.__module__}.{base.__qualname__}.{name}", TEXT_CHECKS if overrides else METHOD_CHECKS


def failures(name: str, checks: set[str]) -> Iterator[str]:
    """Yield the checks that fail for one name."""
    report = validate(name, validator_cls=DocstringValidator)
    for code, message in report["errors"]:
        if code in checks:
            yield f"{name}: {code} {message}"


def main(names: list[str]) -> int:
    """Print the failures, and return the exit code."""
    public = dict(pair for package in names or packages() for pair in public_names(package))
    lines = [line for name in sorted(public) for line in failures(name, public[name])]
    print("\n".join(lines) or f"All {len(public)} public names are documented.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
