"""Adapter: low-rank updates by module name, held as the stored factors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Protocol

import numpy as np

from eckart.adapter.statement import Statement
from eckart.arrays import Array, DType, Floats
from eckart.checkpoint import to_float
from eckart.checkpoint.kinds import Kind
from eckart.checkpoint.mapping import MappedFile
from eckart.errors import UsageError
from eckart.parallel import OnProgress
from eckart.strictjson import JsonObject
from eckart.text import clip, count, either, rank_range

SHOWN = 40  # rows of the HTML table

_EXPERT = re.compile(r"(.+)\[(\d+)\]")


@dataclass(frozen=True)
class Module:
    """The update of one weight, ``scale * left @ right``, in the orientation of the stored weight.

    Parameters
    ----------
    name : str
        Module path, without ``.weight``. One expert of a fused parameter is
        ``"model.layers.0.mlp.experts.gate_up_proj[3]"``.
    kind : Kind
        Kind of layer. A plain string, e.g. ``"linear"``, is converted.
    left : ndarray (rows, r)
        For a linear layer this is B, (d_out, r); for the transposed kinds it is A^T, (d_in, r).
    right : ndarray (r, columns)
        A, (r, d_in); for the transposed kinds B^T, (r, d_out). A convolution has
        d_in * prod(window) columns.
    scale : float
        Factor of the product, e.g. alpha / r.
    bias : ndarray (d_out,), optional
        Update of the bias.
    window : tuple of int
        Size of a convolution's kernel, e.g. ``(3, 3)``; empty for other kinds.
    alpha : float, optional
        The alpha that the file states for this module; None if it states none.

    Raises
    ------
    UsageError
        If the kind is unknown.

    Examples
    --------
    >>> Module("layers.0.q_proj", "linear", np.ones((6, 2)), np.ones((2, 4)), scale=0.5)
    Module('layers.0.q_proj', linear, 6 x 4, rank 2, scale 0.5, float64)
    """

    name: str
    kind: Kind
    left: Array
    right: Array
    scale: float = 1.0
    bias: Array | None = None
    window: tuple[int, ...] = ()
    alpha: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.kind, Kind):
            return
        try:
            kind = Kind(self.kind)
        except ValueError:
            raise UsageError(
                f"{clip(self.name)}: kind={self.kind!r}", "is not a kind of layer", f"Use {either(Kind)}"
            ) from None
        object.__setattr__(self, "kind", kind)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return (
            f"Module({clip(self.name)!r}, {self.kind}, {rows} x {columns}, rank {self.rank}, "
            f"scale {self.scale:g}, {self.dtype})"
        )

    @property
    def rank(self) -> int:
        """The number of components r."""
        return int(self.left.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight as stored; for a convolution (d_out, d_in * prod(window))."""
        return int(self.left.shape[0]), int(self.right.shape[1])

    @property
    def parameters(self) -> int:
        """The number of entries in both factors."""
        return self.left.size + self.right.size

    @property
    def dtype(self) -> DType:
        """Dtype of the factors."""
        return self.left.dtype

    @property
    def BA(self) -> tuple[Array, Array]:
        """The factors as LoRA names them: B (d_out, r) and A (r, d_in)."""
        return (self.right.T, self.left.T) if self.kind.is_transposed else (self.left, self.right)

    @property
    def expert(self) -> tuple[str, int] | None:
        """The fused parameter and the expert's number; None if this is not an expert of a fused parameter."""
        match = _EXPERT.fullmatch(self.name)
        return (match[1], int(match[2])) if match else None

    def transposed(self, kind: Kind) -> Module:
        """Return the same update in the other orientation, as a layer of another kind.

        Parameters
        ----------
        kind : Kind
            Kind of the new module.
        """
        return replace(self, kind=kind, left=self.right.T, right=self.left.T)

    def as_kind(self, kind: Kind) -> Module:
        """Return the same update as a layer of another kind, transposed if that kind is stored transposed.

        Parameters
        ----------
        kind : Kind
            Kind of the new module.
        """
        if kind.is_transposed == self.kind.is_transposed:
            return self if kind == self.kind else replace(self, kind=kind)
        return self.transposed(kind)

    def float_factors(self) -> tuple[Array, Array]:
        """Return (left * scale, right) in float32, exactly what the stored numbers mean."""
        return to_float(self.left) * np.float32(self.scale), to_float(self.right)

    def product(self) -> tuple[Floats, Floats]:
        """Return (left * scale, right) in float64."""
        return self.left.astype(np.float64) * self.scale, self.right.astype(np.float64)

    def of_rank(self, rank: int, dtype: DType) -> Module:
        """Return an outline of this module at another rank: shape and dtype only, in no memory.

        Parameters
        ----------
        rank : int
            Rank of the outline.
        dtype : dtype
            Dtype of its factors.

        Returns
        -------
        Module
            Its factors are views of a single zero, its scale is 1, and it has no alpha.
        """
        zero = np.zeros((), dtype)
        rows, columns = self.shape
        return replace(
            self,
            left=np.broadcast_to(zero, (rows, rank)),
            right=np.broadcast_to(zero, (rank, columns)),
            scale=1.0,
            alpha=None,
        )

    def padded(self, rank: int) -> Module:
        """Return the same update with components of zeros added up to a rank.

        Parameters
        ----------
        rank : int
            The rank to reach; a module that has it already is returned unchanged.
        """
        added = rank - self.rank
        if added <= 0:
            return self
        return replace(
            self,
            left=np.pad(self.left, ((0, 0), (0, added))),
            right=np.pad(self.right, ((0, added), (0, 0))),
        )


@dataclass(frozen=True)
class Rows:
    """New rows of an embedding table, which replace those of the base.

    Parameters
    ----------
    indices : tuple of int
        The rows of the table that are replaced.
    values : ndarray (len(indices), dimension)
        The new rows.
    """

    indices: tuple[int, ...]
    values: Array


def expert_name(parameter: str, number: int) -> str:
    """Return the name of one expert of a fused parameter.

    Examples
    --------
    >>> expert_name("mlp.experts.down_proj", 3)
    'mlp.experts.down_proj[3]'
    """
    return f"{parameter}[{number}]"


@dataclass(frozen=True)
class Origin:
    """What a reader remembers of a file, for a writer of the same format.

    A format that has something to remember defines a subclass: names that cannot be derived from module
    names, and settings that are not part of the update. Other formats ignore it.
    """


@dataclass(frozen=True, eq=False)
class Adapter:
    """Everything that an adapter's files hold.

    Parameters
    ----------
    modules : dict of str to Module
        The updates by module name.
    dense : dict of str to ndarray
        Whole tensors by parameter name (PEFT's ``modules_to_save``).
    rows : dict of str to Rows
        Rows of embedding tables by parameter name (PEFT's ``trainable_token_indices``).
    config : dict
        The file format's own configuration: PEFT's ``adapter_config.json``, one for each component of a
        pipeline; empty for formats without one.
    statement : Statement, optional
        What ``eckart.json`` states: the plan, the errors, the versions. None for an adapter that Eckart
        did not write.
    format : str
        The file format that it was read from, e.g. ``"peft"``.
    unknown : dict of str to ndarray
        Tensors that are not part of a low-rank update, by key. They are listed and written back unchanged.
    components : tuple of str
        The models of a pipeline that the modules belong to (``unet``, ``text_encoder``), which are
        then the first parts of their names; empty for a single model.
    path : Path, optional
        The file or folder that it was read from.
    notes : tuple of str
        What the reader noticed, in sentences.
    files : tuple of MappedFile
        The mapped files that the arrays lie in.
    origin : Origin, optional
        What the reader remembers for the way back to the same format.

    Notes
    -----
    An adapter does not change: `dataclasses.replace` makes a variant.

    Examples
    --------
    >>> module = Module("layers.0.q_proj", "linear", np.ones((6, 2)), np.ones((2, 4)))
    >>> Adapter({module.name: module})
    Adapter(peft, 1 module, rank 2, 20 parameters, float64)
    """

    modules: dict[str, Module]
    dense: dict[str, Array] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    statement: Statement | None = None
    format: str = "peft"
    unknown: dict[str, Array] = field(default_factory=dict)
    components: tuple[str, ...] = ()
    path: Path | None = None
    notes: tuple[str, ...] = ()
    files: tuple[MappedFile, ...] = ()
    origin: Origin | None = None

    @property
    def parameters(self) -> int:
        """The number of entries in all factors."""
        return sum(m.parameters for m in self)

    @property
    def dtype(self) -> DType:
        """The dtype of most entries; float32 for an adapter without factors."""
        sizes: dict[DType, int] = {}
        for m in self:
            sizes[m.dtype] = sizes.get(m.dtype, 0) + m.parameters
        return max(sizes, key=lambda d: sizes[d], default=np.dtype(np.float32))

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())

    def __len__(self) -> int:
        return len(self.modules)

    def __repr__(self) -> str:
        place = f", {str(self.path)!r}" if self.path is not None else ""
        return f"Adapter({self._summary()}{place})"

    def _summary(self) -> str:
        parts = [self.format, count(self.modules, "module")]
        if self.modules:
            parts.append(rank_range(m.rank for m in self))
        if self.dense or self.rows:
            parts.append(count(len(self.dense) + len(self.rows), "whole tensor"))
        return ", ".join([*parts, count(self.parameters, "parameter"), str(self.dtype)])

    def _repr_html_(self) -> str:
        """Return a table of the modules, for notebooks."""
        lines = [
            f"<tr><td>{escape(clip(m.name))}</td><td>{escape(m.kind)}</td>"
            f"<td>{m.shape[0]} x {m.shape[1]}</td><td>{m.rank}</td>"
            f"<td>{m.scale:g}</td><td>{m.dtype}</td></tr>"
            for m in list(self)[:SHOWN]
        ]
        if len(self) > SHOWN:
            lines.append(f'<tr><td colspan="6">and {len(self) - SHOWN:,} more</td></tr>')
        head = "".join(f"<th>{title}</th>" for title in ("module", "kind", "shape", "rank", "scale", "dtype"))
        return (
            f"<table><caption>{escape(self._summary())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )

    def release(self) -> None:
        """Free the memory of the mapped pages that were read; the arrays stay valid."""
        for file in self.files:
            file.release()

    def resize(
        self,
        *,
        dtype: str | None = None,
        workers: int | None = None,
        progress: OnProgress | None = None,
        **rule: object,
    ) -> Adapter:
        """Return the adapter cut to other ranks, in memory; see `eckart.resize`.

        Parameters
        ----------
        dtype : str, optional
            Dtype of the new factors in any common spelling, e.g. ``"bf16"``; by default that of the adapter.
        workers : int, optional
            Modules in work at once; one per core by default. The result does not depend on it.
        progress : callable, optional
            Called with a `Progress` after each module.
        **rule
            How ranks are chosen: ``rank=8``, ``energy=0.99``, ``budget="2M"``, and bounds such as
            ``max_rank=64``, or ``rule=`` with a `RankRule`.

        Returns
        -------
        Adapter
            Its statement holds the error of the new factors.

        Raises
        ------
        InputError
            If the rule is not valid, or the adapter holds no update.

        Examples
        --------
        ``eckart.load_adapter("adapter").resize(rank=8).save("smaller")``
        """
        return _METHODS.resize(self, dtype=dtype, workers=workers, progress=progress, **rule)

    def save(
        self,
        path: str | Path,
        format: str | None = None,
        *,
        overwrite: bool = False,
        workers: int | None = None,
        progress: OnProgress | None = None,
    ) -> tuple[str, ...]:
        """Write the adapter.

        Parameters
        ----------
        path : path
            A folder for PEFT's format, a ``.safetensors`` file for the others.
        format : {"peft", "kohya", "diffusers"}, optional
            By default the format that it was read from, or kohya's if that format is read-only.
        overwrite : bool
            Replace an adapter that exists at ``path``.
        workers : int, optional
            Modules in flight at once; one per core by default.
        progress : callable, optional
            Called with a `Progress` after each group of modules.

        Returns
        -------
        tuple of str
            Notes: what the format cannot store and is left out, in sentences.

        Raises
        ------
        AdapterError
            If the format cannot store one of the updates.
        OutputError
            If ``path`` cannot be written.
        """
        return _METHODS.save(self, path, format, overwrite=overwrite, workers=workers, progress=progress)


class SaveFunction(Protocol):
    """The signature of the function behind `Adapter.save`."""

    def __call__(
        self,
        adapter: Adapter,
        path: str | Path,
        format: str | None = None,
        *,
        overwrite: bool = False,
        workers: int | None = None,
        progress: OnProgress | None = None,
    ) -> tuple[str, ...]:
        """Write an adapter and return notes."""


class Methods:
    """The functions behind `Adapter.resize` and `Adapter.save`, which higher rooms set when they load.

    The adapter itself imports neither file formats nor rank rules. The parameters of ``resize`` are therefore
    not declared here; the function that is set declares the rules, and raises on an unknown one.
    """

    resize: Callable[..., Adapter]
    save: SaveFunction


_METHODS = Methods()


def set_resize(function: Callable[..., Adapter]) -> None:
    """Set the function behind `Adapter.resize`.

    Parameters
    ----------
    function : callable
        Called with the adapter and the keyword arguments of `Adapter.resize`.
    """
    _METHODS.resize = function


def set_save(function: SaveFunction) -> None:
    """Set the function behind `Adapter.save`.

    Parameters
    ----------
    function : callable
        See `SaveFunction`.
    """
    _METHODS.save = function


def by_parameter(modules: Mapping[str, Module]) -> dict[str, list[Module]]:
    """Group the experts of fused parameters, in the order of their numbers; other modules are left out.

    Parameters
    ----------
    modules : mapping of str to Module
        Modules by name.

    Returns
    -------
    dict of str to list of Module
        By the name of the fused parameter.
    """
    groups: dict[str, list[Module]] = {}
    for module in modules.values():
        if module.expert is not None:
            groups.setdefault(module.expert[0], []).append(module)
    return {name: sorted(group, key=lambda m: m.expert or ("", 0)) for name, group in groups.items()}
