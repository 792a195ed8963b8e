"""Adapter: low-rank updates by module name, as the factors that are stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eckart.adapter.statement import Statement
from eckart.checkpoint import to_float
from eckart.text import listing

Array = NDArray[Any]

# Kinds whose weight is stored as (d_in, d_out): transformers' Conv1D, embedding tables, and the fused
# experts of the few models that keep them the other way round.
TRANSPOSED = ("conv1d", "embedding", "expert_transposed")

_EXPERT = re.compile(r"(.+)\[(\d+)\]")


@dataclass(frozen=True)
class Module:
    """The update of one weight, scale * left @ right, in the orientation of the stored weight.

    Parameters
    ----------
    name : str
        Module path, without ``.weight``. One expert of a fused parameter is
        ``"model.layers.0.mlp.experts.gate_up_proj[3]"``.
    kind : str
        ``linear``, ``conv1d``, ``embedding``, ``conv``, ``expert``, ``expert_transposed``, or ``router``: a
        matrix that is a bare parameter of its module, which PEFT targets by another setting.
    left : ndarray (rows, r)
        For a linear layer this is B, (d_out, r); for the transposed kinds it is A^T, (d_in, r).
    right : ndarray (r, columns)
        A, (r, d_in); for the transposed kinds B^T, (r, d_out). For a convolution the columns are
        d_in times the window.
    scale : float
        What the product is multiplied by, e.g. alpha / r.
    bias : ndarray (d_out,), optional
        Update of the bias.
    window : tuple of int
        Size of a convolution's kernel, e.g. ``(3, 3)``.
    alpha : float, optional
        The alpha that the file gives for this module; None where it gives none.
    """

    name: str
    kind: str
    left: Array
    right: Array
    scale: float = 1.0
    bias: Array | None = None
    window: tuple[int, ...] = ()
    alpha: float | None = None

    @property
    def rank(self) -> int:
        """Components."""
        return int(self.left.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight as stored, a convolution's as (d_out, d_in * window)."""
        return int(self.left.shape[0]), int(self.right.shape[1])

    @property
    def parameters(self) -> int:
        """Numbers in both factors."""
        return self.left.size + self.right.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the factors."""
        return self.left.dtype

    @property
    def BA(self) -> tuple[Array, Array]:
        """The factors as LoRA names them: B (d_out, r) and A (r, d_in)."""
        return (self.right.T, self.left.T) if self.kind in TRANSPOSED else (self.left, self.right)

    @property
    def expert(self) -> tuple[str, int] | None:
        """The fused parameter and the expert's number; None for what is no expert of one."""
        found = _EXPERT.fullmatch(self.name)
        return (found[1], int(found[2])) if found else None

    def transposed(self, kind: str) -> Module:
        """Return the same update in the other orientation, as a layer of another kind."""
        return replace(self, kind=kind, left=self.right.T, right=self.left.T)

    def as_kind(self, kind: str) -> Module:
        """Return the same update as a layer of another kind, turned round if that is stored so."""
        if (kind in TRANSPOSED) == (self.kind in TRANSPOSED):
            return self if kind == self.kind else replace(self, kind=kind)
        return self.transposed(kind)

    def float_factors(self) -> tuple[Array, Array]:
        """Return (left * scale, right) in float32, exactly what the stored numbers mean."""
        return to_float(self.left) * np.float32(self.scale), to_float(self.right)

    def product(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (left * scale, right) in float64."""
        return self.left.astype(np.float64) * self.scale, self.right.astype(np.float64)

    def of_rank(self, rank: int, dtype: np.dtype[Any]) -> Module:
        """Return the outline of this module at another rank: shapes and dtype, and no memory."""
        nothing = np.zeros((), dtype)
        rows, columns = self.shape
        return replace(
            self,
            left=np.broadcast_to(nothing, (rows, rank)),
            right=np.broadcast_to(nothing, (rank, columns)),
            scale=1.0,
            alpha=None,
        )

    def padded(self, rank: int) -> Module:
        """Return the same update with components of zeros added up to a rank."""
        more = rank - self.rank
        if more <= 0:
            return self
        return replace(
            self,
            left=np.pad(self.left, ((0, 0), (0, more))),
            right=np.pad(self.right, ((0, more), (0, 0))),
        )


@dataclass(frozen=True)
class Rows:
    """New rows of an embedding table, in place of those of the base.

    Parameters
    ----------
    indices : tuple of int
        Which rows of the table.
    values : ndarray (len(indices), dimension)
    """

    indices: tuple[int, ...]
    values: Array


def expert_name(parameter: str, number: int) -> str:
    """Return the name of one expert of a fused parameter."""
    return f"{parameter}[{number}]"


class Releasable(Protocol):
    """A mapped file."""

    def release(self) -> None:
        """Give back the memory of the pages that were read."""


@dataclass
class Adapter:
    """Everything an adapter's files hold.

    Parameters
    ----------
    modules : dict of str to Module
    dense : dict of str to ndarray
        Whole tensors by parameter name (PEFT's ``modules_to_save``).
    rows : dict of str to Rows
        Rows of embedding tables by parameter name (PEFT's ``trainable_token_indices``).
    config : dict
        The file format's own configuration.
    statement : Statement, optional
        What ``eckart.json`` states: the plan, the errors, the versions; None for others' adapters.
    format : str
        ``peft``, ``kohya``, ``diffusers`` or ``cloneofsimo``.
    unknown : dict of str to ndarray
        Tensors that are no part of a low-rank update, by their key: kept and listed, not understood.
    components : tuple of str
        The models of a pipeline that the modules belong to (``unet``, ``text_encoder``), which are
        then the first parts of their names; empty for a single model.
    path : Path, optional
        Where it was read from.
    notes : list of str
        What was noticed in reading, in sentences.
    files : list
        The mapped files that the arrays lie in.
    """

    modules: dict[str, Module]
    dense: dict[str, Array] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    statement: Statement | None = None
    format: str = "peft"
    unknown: dict[str, Array] = field(default_factory=dict)
    components: tuple[str, ...] = ()
    path: Path | None = None
    notes: list[str] = field(default_factory=list)
    files: list[Releasable] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Numbers in all factors."""
        return sum(m.parameters for m in self)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that most of the numbers have; float32 for an adapter without factors."""
        sizes: dict[np.dtype[Any], int] = {}
        for m in self:
            sizes[m.dtype] = sizes.get(m.dtype, 0) + m.parameters
        return max(sizes, key=lambda d: sizes[d], default=np.dtype(np.float32))

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())

    def __len__(self) -> int:
        return len(self.modules)

    def note_unknown(self) -> None:
        """Note the tensors that were not understood."""
        if self.unknown:
            self.notes.append(f"{listing(self.unknown, 'tensor')} not part of a low-rank update")

    def note_left_out(self, format: str) -> None:
        """Note the tensors that another format has no place for."""
        note = (
            f"{listing(self.unknown, 'tensor')} left out, since the format of {format} has no place for them"
        )
        if self.unknown and note not in self.notes:
            self.notes.append(note)

    def release(self) -> None:
        """Give back the memory of the mapped pages that were read; the arrays stay valid."""
        for file in self.files:
            file.release()

    def resize(self, **wishes: Any) -> Adapter:
        """Return the adapter cut to other ranks, in memory; see `eckart.resize`.

        Examples
        --------
        ``eckart.load_adapter("adapter").resize(rank=8).save("smaller")``
        """
        return _METHODS.resize(self, **wishes)

    def save(self, path: str | Path, format: str | None = None, **how: Any) -> None:
        """Write the adapter, in the format it came in unless another is named."""
        _METHODS.save(self, path, format, **how)


class Methods:
    """What is behind `Adapter.resize` and `Adapter.save`: functions of higher floors, set when those load.

    The adapter itself imports neither file formats nor rank rules.
    """

    resize: Callable[..., Adapter]
    save: Callable[..., None]


_METHODS = Methods()


def set_resize(function: Callable[..., Adapter]) -> None:
    """Set the function behind `Adapter.resize`."""
    _METHODS.resize = function


def set_save(function: Callable[..., None]) -> None:
    """Set the function behind `Adapter.save`."""
    _METHODS.save = function


def by_parameter(modules: Mapping[str, Module]) -> dict[str, list[Module]]:
    """Group the experts of fused parameters, in the order of their numbers; others are left out."""
    groups: dict[str, list[Module]] = {}
    for module in modules.values():
        if module.expert is not None:
            groups.setdefault(module.expert[0], []).append(module)
    return {name: sorted(group, key=lambda m: m.expert or ("", 0)) for name, group in groups.items()}
