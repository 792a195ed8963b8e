"""Compare: the difference of two adapters' updates, measured from their files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eckart.adapter.adapter import Adapter
from eckart.adapter.experts import ExpertsLayout, arrange_experts, experts_layouts
from eckart.adapter.rounding import relative
from eckart.adapter.statement import Statement, agree
from eckart.adapter.updates import WeightedSum


@dataclass(frozen=True)
class Comparison:
    """How far one adapter's update is from another's.

    Parameters
    ----------
    error : float
        ||one - other||_F / ||other||_F over all modules of either.
    stated : float or None
        What the one states about that, if it was made of the other.
    modules : dict of str to float
        The error of each module, relative to the other's update of it (to the one's, where the other
        has none).
    """

    error: float
    stated: float | None
    modules: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether what is stated is so, to rounding."""
        return self.stated is None or agree(self.stated, self.error)


def compare(one: Adapter, other: Adapter) -> Comparison:
    """Measure the difference of two adapters' updates, never forming one.

    Notes
    -----
    The difference is the product of ``[B_1, -B_2]`` and ``[A_1; A_2]``, whose Frobenius norm is that of
    R_B R_A^T with the R of two QR factorisations in float64: exact to 1e-15 of the norms of the two.
    """
    one, other = _in_one_experts_layout(one, other)
    difference = WeightedSum([one, other], [1.0, -1.0])
    reference = WeightedSum([other])
    apart, whole = 0.0, 0.0
    modules = {}
    for name in difference.like:
        gap = difference.core(name).spectrum.total
        size = reference.core(name).spectrum.total if name in reference.like else 0.0
        modules[name] = relative(gap, size) if size else float(gap > 0)
        apart, whole = apart + gap, whole + size
        difference.release()
    stated = one.statement.error if one.statement is not None and _made_of(one.statement, other) else None
    error = relative(apart, whole) if whole else float(np.sign(apart))
    return Comparison(error, stated, modules)


def _made_of(statement: Statement, other: Adapter) -> bool:
    """Whether an adapter states that it was made from another one alone."""
    if len(statement.sources) != 1 or other.path is None:
        return False
    (source,) = statement.sources
    same_name = Path(source.adapter).name == other.path.name
    return same_name and source.weight == 1.0 and source.parameters == other.parameters


def _in_one_experts_layout(one: Adapter, other: Adapter) -> tuple[Adapter, Adapter]:
    """Split the experts of both adapters where only one of them has fused experts."""
    fused = [ExpertsLayout.FUSED in experts_layouts(adapter.modules) for adapter in (one, other)]
    if fused[0] == fused[1]:
        return one, other
    names = [*one.modules, *other.modules]
    config = {"model_type": "mixtral"} if any("block_sparse_moe" in name for name in names) else {}
    one_split = arrange_experts(one.modules, ExpertsLayout.SPLIT, config)
    other_split = arrange_experts(other.modules, ExpertsLayout.SPLIT, config)
    return replace(one, modules=one_split), replace(other, modules=other_split)
