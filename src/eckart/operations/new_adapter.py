"""What `resize` and `combine` return: a new adapter, its statement, and its ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median_high

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.statement import Statement
from eckart.text import count, rank_range


@dataclass(frozen=True)
class RankRange:
    """The ranks of an adapter's modules.

    Parameters
    ----------
    min, median, max : int
        The smallest, median and largest rank. For an even number of modules, the median is the larger of the
        two in the middle.

    Examples
    --------
    >>> print(RankRange(2, 5, 8))
    ranks 2 to 8 (median 5)
    >>> print(RankRange(4, 4, 4))
    rank 4
    """

    min: int
    median: int
    max: int

    @classmethod
    def of(cls, modules: Mapping[str, Module]) -> RankRange:
        """Return the range of the ranks of at least one module.

        Parameters
        ----------
        modules : mapping of str to Module
            Modules by name.
        """
        ranks = [module.rank for module in modules.values()]
        return cls(min(ranks), median_high(ranks), max(ranks))

    def __str__(self) -> str:
        return rank_range((self.min, self.median, self.max))


@dataclass(frozen=True, repr=False)
class NewAdapter:
    """A new adapter, on disk or in memory: what `resize` and `combine` return.

    Parameters
    ----------
    path : Path or None
        Where the adapter was written; None if it is in memory.
    statement : Statement
        The adapter's statement, as in ``eckart.json``: its error and that of every module.
    notes : tuple of str
        Remarks on the inputs and the result, in sentences.
    ranks : RankRange
        The smallest, median and largest rank of its modules.
    in_memory : Adapter, optional
        The adapter, if it was not written. Use `adapter`, which works in both cases.
    """

    path: Path | None
    statement: Statement
    notes: tuple[str, ...]
    ranks: RankRange
    in_memory: Adapter | None = field(default=None, compare=False)

    @cached_property
    def adapter(self) -> Adapter:
        """The new adapter. If it was written, it is read from `path` on first use."""
        return load_adapter(str(self.path)) if self.in_memory is None else self.in_memory

    def __repr__(self) -> str:
        place = "in memory" if self.path is None else str(self.path)
        modules = count(self.statement.modules, "module")
        return f"{type(self).__name__}({place}: {modules}, {self.ranks}, error {self.statement.error:.3g})"
