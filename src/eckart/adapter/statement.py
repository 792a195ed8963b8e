"""The statement of an adapter (``eckart.json``): its errors, measured on the stored factors.

`Statement.to_json` is the only writer and `Statement.from_json` the only reader. Extraction states the error
against two checkpoints; resizing and combining state it against the adapters that went in (``sources``).
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import numpy as np

from eckart.checkpoint.strictjson import JsonObject
from eckart.checks import is_number
from eckart.errors import AdapterError
from eckart.version import __version__

T = TypeVar("T")

FORMAT = 1
STATEMENT = "eckart.json"

# A stated error is a float64 sum over factors of float32 matrices; a measured one subtracts the product
# itself. They agree to a relative accuracy of about 1e-5; an exact fit leaves about 2e-6 in float32, and
# about 1e-14 in float64.
TOLERANCE = 2e-4
FLOOR = 2e-6
FLOAT64_FLOOR = 1e-12


@dataclass(frozen=True)
class ModuleStatement:
    """What is stated about one module; None for an entry that a file does not have.

    Parameters
    ----------
    rank : int
        Rank of the stored factors.
    error : float
        ||dW - B A||_F / ||dW||_F, measured on the stored factors.
    update : float
        ||dW||_F.
    rank_bounds : (int, int), optional
        Proven bounds on the smallest rank that reaches the goal.
    tied : str, optional
        The module whose factors this one shares, as a tied output layer shares its embedding's.
    """

    rank: int | None
    error: float | None
    update: float | None
    rank_bounds: tuple[int, int] | None = None
    tied: str | None = None


@dataclass(frozen=True)
class TensorStatement:
    """A changed tensor that has no factors.

    Parameters
    ----------
    name : str
        Name of the tensor.
    share : float
        Its share of the energy of the whole change.
    update : float
        ||dW||_F.
    why : str
        Why it has no factors.
    """

    name: str
    share: float
    update: float
    why: str


@dataclass(frozen=True)
class SourceStatement:
    """An adapter that this one was made from.

    Parameters
    ----------
    adapter : str
        Its path, or ``"in memory"``.
    weight : float
        Its weight in the sum.
    parameters : int
        The number of entries in its factors.
    """

    adapter: str
    weight: float
    parameters: int


@dataclass(frozen=True)
class LayoutStatement:
    """The cost of arranging the adapter for its consumers.

    Parameters
    ----------
    consumers : tuple of str
        Names of the programs.
    bytes_of_zeros : int
        Size of the padding.
    modules_left_out, whole_left_out : tuple of str
        Modules, and whole tensors, that a consumer cannot read.
    biases_left_out : int
    modules_added : int
        Modules of zeros that a consumer needs.
    options : dict of str to str
        For each program, the command-line option that it must be started with.
    """

    consumers: tuple[str, ...]
    bytes_of_zeros: int = 0
    modules_left_out: tuple[str, ...] = ()
    whole_left_out: tuple[str, ...] = ()
    biases_left_out: int = 0
    modules_added: int = 0
    options: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return the layout as plain data."""
        data = asdict(self)
        return {"for": list(data.pop("consumers")), **{k: _plain(v) for k, v in data.items()}}


@dataclass(frozen=True)
class Statement:
    """Everything an adapter states about itself.

    Parameters
    ----------
    error : float
        Relative Frobenius error of the adapted modules together. With ``sources``, relative to the sum of
        their updates.
    parameters : int
        The number of entries in all factors.
    modules : mapping of str to ModuleStatement
        Statements by module name.
    dtype, rule : str
        Dtype of the factors, and a description of the rank rule.
    plan : dict
        The rank plan as JSON.
    base : str, optional
        The base model, for an extracted adapter.
    error_of_whole_change : float, optional
        The error relative to the change of all tensors, for an extracted adapter.
    not_carried, carried_whole : tuple of TensorStatement
        Changed tensors without factors: those left out, and those saved whole.
    tied_whole : mapping of str to str
        Output layers that are saved whole, each with the embedding table that it shares.
    sources : tuple of SourceStatement
        The adapters that this one was made from; empty for an extracted adapter.
    left_out : tuple of str
        Modules of the sources that got rank 0.
    layout : LayoutStatement, optional
        The cost of arranging the adapter for its consumers.
    versions : dict of str to str
        Versions of the software that computed the numbers.
    """

    error: float | None
    parameters: int | None
    modules: Mapping[str, ModuleStatement]
    dtype: str = ""
    rule: str = ""
    plan: JsonObject = field(default_factory=dict)
    base: str | None = None
    error_of_whole_change: float | None = None
    not_carried: tuple[TensorStatement, ...] = ()
    carried_whole: tuple[TensorStatement, ...] = ()
    tied_whole: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[SourceStatement, ...] = ()
    left_out: tuple[str, ...] = ()
    layout: LayoutStatement | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return the statement as plain data, as ``eckart.json`` holds it."""
        layout = {"layout": self.layout.to_json()} if self.layout else {}
        head: JsonObject = {"format": FORMAT}
        if self.sources:
            return head | {
                "of": [asdict(source) for source in self.sources],
                "dtype": self.dtype,
                "rule": self.rule,
                "error": self.error,
                "parameters": self.parameters,
                "modules": {
                    name: {"rank": m.rank, "error": m.error, "update": m.update}
                    for name, m in self.modules.items()
                },
                "left_out": list(self.left_out),
                "layout": {},
                **layout,
                "plan": self.plan,
                "versions": dict(self.versions),
            }
        return head | {
            **({"tied_whole": dict(self.tied_whole)} if self.tied_whole else {}),
            "base": self.base,
            "dtype": self.dtype,
            "rule": self.rule,
            "error": self.error,
            "error_of_whole_change": self.error_of_whole_change,
            "modules": {name: _module_json(m) for name, m in self.modules.items()},
            "not_carried": [asdict(tensor) for tensor in self.not_carried],
            "carried_whole": [asdict(tensor) for tensor in self.carried_whole],
            "plan": self.plan,
            "versions": dict(self.versions),
            **layout,
            "parameters": self.parameters,
        }

    @classmethod
    def from_json(cls, data: object, where: str) -> Statement:
        """Read a statement back.

        Parameters
        ----------
        data : object
            Parsed JSON.
        where : str
            The file, for error messages.

        Raises
        ------
        AdapterError
            If an entry has a type that Eckart does not write. A missing entry is read as None or empty, and
            `eckart.verify` reports it.
        """
        reader = _Reader(where)
        top = reader.mapping(data, "the statement")
        modules = reader.mapping(top.get("modules", {}), "modules")
        return cls(
            error=reader.number(top, "error"),
            parameters=reader.integer(top, "parameters"),
            modules={name: reader.module(entry, f"modules.{name}") for name, entry in modules.items()},
            dtype=reader.text(top, "dtype") or "",
            rule=reader.text(top, "rule") or "",
            plan=reader.mapping(top.get("plan", {}), "plan"),
            base=reader.text(top, "base"),
            error_of_whole_change=reader.number(top, "error_of_whole_change"),
            not_carried=reader.items(top, "not_carried", reader.tensor),
            carried_whole=reader.items(top, "carried_whole", reader.tensor),
            tied_whole=reader.texts(top, "tied_whole"),
            sources=reader.items(top, "of", reader.source),
            left_out=reader.items(top, "left_out", lambda entry, _: str(entry)),
            layout=reader.layout(top.get("layout")),
            versions=reader.texts(top, "versions"),
        )


def read_statement(path: Path) -> Statement | None:
    """Read a statement file.

    Parameters
    ----------
    path : Path
        The file, which need not exist.

    Returns
    -------
    Statement, optional
        None if there is no file, or it holds an empty object.

    Raises
    ------
    AdapterError
        If the file is not JSON, or not a statement that Eckart wrote.
    """
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        raise AdapterError(str(path), "not a JSON file", "Extract again, or remove the file") from None
    return Statement.from_json(data, str(path)) if data != {} else None


def agree(stated: float | None, measured: float | None, floor: float = FLOOR) -> bool:
    """Whether a stated number equals the measured one, up to rounding.

    Parameters
    ----------
    stated : float, optional
        The stated number; None does not agree with anything.
    measured : float, optional
        The measured number; None if it does not exist, which agrees with nothing.
    floor : float
        Difference that always counts as rounding: `FLOOR` for relative errors, 0 for norms.

    Examples
    --------
    >>> agree(0.1, 0.10001), agree(0.1, 0.1001), agree(None, 0.0)
    (True, False, False)
    """
    if stated is None or measured is None:
        return False
    return abs(measured - stated) <= TOLERANCE * abs(measured) + floor


@cache
def versions() -> dict[str, str]:
    """Return the versions of the software that computes the numbers, for reproducing them.

    Notes
    -----
    They are looked up once, which takes 20 ms.
    """
    from importlib.metadata import version  # importing scipy itself would be slow

    return {
        "eckart": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "ml_dtypes": ml_dtypes.__version__,
    }


def _module_json(module: ModuleStatement) -> JsonObject:
    data = asdict(module)
    if module.tied is None:
        del data["tied"]
    return data


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Reader:
    """Reads the entries of a statement, and refuses types that Eckart does not write."""

    where: str

    def refuse(self, entry: str, expected: str) -> AdapterError:
        return AdapterError(
            f"{self.where}: {entry}",
            f"expected {expected}, so this is not a statement that Eckart wrote",
            "Extract again, or remove the file",
        )

    def mapping(self, value: object, entry: str) -> JsonObject:
        if not isinstance(value, dict):
            raise self.refuse(entry, "a JSON object")
        return value

    def number(self, data: JsonObject, key: str) -> float | None:
        value = data.get(key)
        if value is None:
            return None
        if not is_number(value):
            raise self.refuse(key, "a finite number")
        return float(value)

    def integer(self, data: JsonObject, key: str) -> int | None:
        value = self.number(data, key)
        if value is not None and value != int(value):
            raise self.refuse(key, "a whole number")
        return None if value is None else int(value)

    def text(self, data: JsonObject, key: str) -> str | None:
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refuse(key, "text")
        return value

    def texts(self, data: JsonObject, key: str) -> dict[str, str]:
        values = self.mapping(data.get(key, {}), key)
        if not all(isinstance(value, str) for value in values.values()):
            raise self.refuse(key, "an object of texts")
        return values

    def items(self, data: JsonObject, key: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        values = data.get(key, [])
        if not isinstance(values, list):
            raise self.refuse(key, "a list")
        return tuple(read(value, f"{key}[{i}]") for i, value in enumerate(values))

    def module(self, value: object, entry: str) -> ModuleStatement:
        data = self.mapping(value, entry)
        bounds = data.get("rank_bounds")
        whole = isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(b, int) for b in bounds)
        if bounds is not None and not whole:
            raise self.refuse(f"{entry}.rank_bounds", "two whole numbers")
        return ModuleStatement(
            rank=self.integer(data, "rank"),
            error=self.number(data, "error"),
            update=self.number(data, "update"),
            rank_bounds=(bounds[0], bounds[1]) if bounds is not None else None,
            tied=self.text(data, "tied"),
        )

    def tensor(self, value: object, entry: str) -> TensorStatement:
        data = self.mapping(value, entry)
        return TensorStatement(
            name=self.text(data, "name") or "",
            share=self.number(data, "share") or 0.0,
            update=self.number(data, "update") or 0.0,
            why=self.text(data, "why") or "",
        )

    def source(self, value: object, entry: str) -> SourceStatement:
        data = self.mapping(value, entry)
        weight = self.number(data, "weight")
        return SourceStatement(
            adapter=self.text(data, "adapter") or "",
            weight=math.nan if weight is None else weight,
            parameters=self.integer(data, "parameters") or 0,
        )

    def layout(self, value: object) -> LayoutStatement | None:
        if value is None or value == {}:
            return None
        data = self.mapping(value, "layout")
        return LayoutStatement(
            consumers=self.items(data, "for", lambda name, _: str(name)),
            bytes_of_zeros=self.integer(data, "bytes_of_zeros") or 0,
            modules_left_out=self.items(data, "modules_left_out", lambda name, _: str(name)),
            whole_left_out=self.items(data, "whole_left_out", lambda name, _: str(name)),
            biases_left_out=self.integer(data, "biases_left_out") or 0,
            modules_added=self.integer(data, "modules_added") or 0,
            options=self.texts(data, "options"),
        )
