"""Compare: the difference between the updates of two adapters, measured from their factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eckart.adapter.adapter import Adapter
from eckart.adapter.experts import ExpertsLayout, arrange_experts, experts_layouts
from eckart.adapter.formats import load_adapter
from eckart.adapter.rounding import relative
from eckart.adapter.statement import Statement, agree
from eckart.adapter.updates import WeightedSum
from eckart.text import count


@dataclass(frozen=True, repr=False)
class Comparison:
    """The difference between the updates of two adapters.

    Parameters
    ----------
    error : float
        ||one - other||_F / ||other||_F, over all modules of either adapter.
    stated : float or None
        The error that the first adapter states; None unless it was made from the second adapter alone.
    modules : dict of str to float
        The error of each module, relative to the other adapter's update of it. If the other adapter does not
        update a module, its error is 1, or 0 for an update of zeros.
    """

    error: float
    stated: float | None
    modules: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether the stated error equals the measured one up to rounding, or no error is stated."""
        return self.stated is None or agree(self.stated, self.error)

    def __repr__(self) -> str:
        stated = "nothing stated" if self.stated is None else f"stated {self.stated:.6g}"
        return f"Comparison({count(self.modules, 'module')}: measured {self.error:.6g}, {stated})"


def compare(one: Adapter | str | Path, other: Adapter | str | Path) -> Comparison:
    """Measure the difference between the updates of two adapters.

    Parameters
    ----------
    one : Adapter, str or Path
        An adapter, or the path of one.
    other : Adapter, str or Path
        The reference: errors are relative to its updates.

    Returns
    -------
    Comparison

    Raises
    ------
    AdapterError
        If an adapter cannot be read, or the two update a module with different shapes.

    Notes
    -----
    The difference is the product of ``[B_1, -B_2]`` and ``[A_1; A_2]``. Its norm follows from two QR
    factorisations in float64, at (m + n) r^2 flops a module, and is accurate to 1e-15 of the norms of the
    two updates. No update is formed.
    """
    one, other = (a if isinstance(a, Adapter) else load_adapter(a) for a in (one, other))
    first, second = _with_same_experts(one, other)
    difference = WeightedSum([first, second], [1.0, -1.0])
    reference = WeightedSum([second])
    total_gap = total_size = 0.0
    modules = {}
    for name in difference.modules:
        gap = difference.core(name).spectrum.total
        size = reference.core(name).spectrum.total if name in reference.modules else 0.0
        modules[name] = relative(gap, size) if size else float(gap > 0)
        total_gap, total_size = total_gap + gap, total_size + size
        difference.release()
    stated = first.statement.error if first.statement and _is_made_from(first.statement, second) else None
    error = relative(total_gap, total_size) if total_size else float(np.sign(total_gap))
    return Comparison(error, stated, modules)


def _is_made_from(statement: Statement, other: Adapter) -> bool:
    """Whether an adapter states that it was made from another one alone."""
    if len(statement.sources) != 1 or other.path is None:
        return False
    (source,) = statement.sources
    has_same_name = Path(source.adapter).name == other.path.name
    return has_same_name and source.weight == 1.0 and source.parameters == other.parameters


def _with_same_experts(one: Adapter, other: Adapter) -> tuple[Adapter, Adapter]:
    """Split the experts of both adapters if only one of them has fused experts."""
    fused = [ExpertsLayout.FUSED in experts_layouts(adapter.modules) for adapter in (one, other)]
    if fused[0] == fused[1]:
        return one, other
    names = [*one.modules, *other.modules]
    config = {"model_type": "mixtral"} if any("block_sparse_moe" in name for name in names) else {}
    return (
        replace(one, modules=arrange_experts(one.modules, ExpertsLayout.SPLIT, config)),
        replace(other, modules=arrange_experts(other.modules, ExpertsLayout.SPLIT, config)),
    )
