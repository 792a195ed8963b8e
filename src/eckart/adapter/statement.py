"""The statement of an adapter (``eckart.json``): its errors, measured on the stored factors.

`Statement.to_json` is the only writer and `Statement.from_json` the only reader. Extraction states the error
against two checkpoints; resizing and combining state it against the adapters that went in (``sources``).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

from eckart.documents import Document
from eckart.errors import AdapterError
from eckart.strictjson import JsonObject
from eckart.text import clip
from eckart.version import __version__

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

    rank: int | None = None
    error: float | None = None
    update: float | None = None
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

    name: str = ""
    share: float = 0.0
    update: float = 0.0
    why: str = ""


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

    adapter: str = ""
    weight: float = math.nan
    parameters: int = 0


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

    error: float | None = None
    parameters: int | None = None
    modules: Mapping[str, ModuleStatement] = field(default_factory=dict)
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
            If an entry has a type or a name that Eckart does not write. A missing entry is read as None or
            empty, and `eckart.verify` reports it.
        """
        renamed = _with_names(data, FIELDS)
        if isinstance(renamed, dict):
            version = renamed.pop("format", FORMAT)
            if version != FORMAT or isinstance(version, bool):
                raise AdapterError(
                    f"{where}: format",
                    f"expected {FORMAT}, found {clip(repr(version))}",
                    "Use the version of Eckart that wrote the file, or a later one",
                )
            renamed["layout"] = _with_names(renamed.get("layout"), LAYOUT_FIELDS) or None
        return DOCUMENT.convert(renamed, where)


# Entries of the file that have another name than their field.
FIELDS = {"of": "sources"}
LAYOUT_FIELDS = {"for": "consumers"}


def _with_names(data: object, names: Mapping[str, str]) -> object:
    """Return an object with some keys renamed; any other value unchanged."""
    if not isinstance(data, dict):
        return data
    return {names.get(key, key): value for key, value in data.items()}


DOCUMENT = Document(
    Statement, "the statement", AdapterError, "Extract again, or remove the file", is_ours=True
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
    data = DOCUMENT.load(path)
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
