"""Adapter: low-rank updates by module name, as the factors that are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint import to_float

Array = NDArray[Any]

TRANSPOSED = ("conv1d", "embedding")  # kinds whose weight is stored as (d_in, d_out)


@dataclass(frozen=True)
class Module:
    """The update of one weight, scale * left @ right, in the orientation of the stored weight.

    Parameters
    ----------
    name : str
        Module path, without ``.weight``.
    kind : str
        ``linear``, ``conv1d`` or ``embedding``.
    left : ndarray (rows, r)
        For a linear layer this is B, (d_out, r); for the transposed kinds it is A^T, (d_in, r).
    right : ndarray (r, columns)
        A, (r, d_in); for the transposed kinds B^T, (r, d_out).
    scale : float
        alpha / r.
    bias : ndarray (d_out,), optional
        Update of the bias.
    """

    name: str
    kind: str
    left: Array
    right: Array
    scale: float = 1.0
    bias: Array | None = None

    @property
    def rank(self) -> int:
        """Components."""
        return int(self.left.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight as stored."""
        return int(self.left.shape[0]), int(self.right.shape[1])

    @property
    def parameters(self) -> int:
        """Numbers in both factors."""
        return self.left.size + self.right.size

    def transposed(self, kind: str) -> Module:
        """Return the same update in the other orientation, as a layer of another kind."""
        return replace(self, kind=kind, left=self.right.T, right=self.left.T)

    def float_factors(self) -> tuple[Array, Array]:
        """Return (left * scale, right) in float32, exactly what the stored numbers mean."""
        return to_float(self.left) * np.float32(self.scale), to_float(self.right)


@dataclass
class Adapter:
    """Everything an adapter's files hold.

    Parameters
    ----------
    modules : dict of str to Module
    dense : dict of str to ndarray
        Whole tensors by parameter name (PEFT's ``modules_to_save``).
    config : dict
        The file format's own configuration.
    statement : dict
        What ``eckart.json`` states: the plan, the errors, the versions; empty for others' adapters.
    """

    modules: dict[str, Module]
    dense: dict[str, Array] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    statement: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Numbers in all factors."""
        return sum(m.parameters for m in self)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())

    def __len__(self) -> int:
        return len(self.modules)
