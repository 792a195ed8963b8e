"""Bounds on the ranks that a rule chooses, and the tensors that it applies to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eckart.arguments import argument
from eckart.checks import is_number
from eckart.errors import UsageError


@dataclass(frozen=True, kw_only=True, repr=False)
class Bounds:
    """The keywords that every rule accepts next to its own value.

    Parameters
    ----------
    min_rank : int
        Minimum rank of every changed tensor. A tensor never gets more than ``min(m, n)``.
    max_rank : int, optional
        Maximum rank.
    multiple_of : int
        Ranks are rounded up to a multiple of this number, unless that exceeds `max_rank` or
        ``min(m, n)``.
    uniform : bool
        Use one rank for all tensors.
    include, exclude : str or sequence of str
        Regular expressions, searched for in tensor names. A tensor is selected if it matches at least one
        pattern of `include`, or `include` is empty, and no pattern of `exclude`.

    Raises
    ------
    UsageError
        If a number is out of range, `max_rank` is below `min_rank`, or a pattern is not a regular expression.

    Examples
    --------
    >>> bounds = Bounds(min_rank=2, max_rank=20, multiple_of=8)
    >>> [bounds.bounded(rank, size=100) for rank in (1, 9, 30)]
    [8, 16, 16]
    >>> Bounds(exclude="mlp").selects("layers.0.mlp.up_proj.weight")
    False
    """

    min_rank: int = 0
    max_rank: int | None = None
    multiple_of: int = 1
    uniform: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._set("min_rank", _whole("min_rank", self.min_rank, 0))
        self._set("multiple_of", _whole("multiple_of", self.multiple_of, 1))
        if self.max_rank is not None:
            self._set("max_rank", _whole("max_rank", self.max_rank, 1))
            if self.max_rank < self.min_rank:
                raise UsageError(
                    f"max_rank={self.max_rank}",
                    f"the maximum is below {argument('min_rank', self.min_rank)}",
                    f"Use a larger {argument('max_rank')} or a smaller {argument('min_rank')}",
                )
        # A single pattern is a sequence of characters too, so it is wrapped before anyone iterates over it.
        self._set("include", _patterns(self.include))
        self._set("exclude", _patterns(self.exclude))

    def _set(self, name: str, value: object) -> None:
        """Store the normalised value of a field while the frozen object is being built."""
        object.__setattr__(self, name, value)

    def selects(self, name: str) -> bool:
        """Return whether a tensor gets a rank.

        Parameters
        ----------
        name : str
            The tensor's full name.

        Returns
        -------
        bool
        """
        is_included = not self.include or any(re.search(pattern, name) for pattern in self.include)
        return is_included and not any(re.search(pattern, name) for pattern in self.exclude)

    def bounded(self, rank: int, size: int) -> int:
        """Apply the minimum, the multiple and the maximum to a rank.

        Parameters
        ----------
        rank : int
            The rank that a rule chose. 0 stays 0, unless there is a minimum.
        size : int
            ``min(m, n)`` of the tensor.

        Returns
        -------
        int
        """
        rank = max(rank, self.min_rank)
        if rank:
            rank = -(-rank // self.multiple_of) * self.multiple_of
        return min(rank, self.largest(size))

    def largest(self, size: int) -> int:
        """Return the largest rank that a tensor may get.

        Parameters
        ----------
        size : int
            ``min(m, n)`` of the tensor.

        Returns
        -------
        int
            `size`, or the largest multiple of `multiple_of` within `max_rank`. If no multiple is that
            small, `max_rank` itself.
        """
        if self.max_rank is None or self.max_rank >= size:
            return size
        return self.max_rank // self.multiple_of * self.multiple_of or self.max_rank

    def describe_bounds(self) -> list[str]:
        """Return the bounds on the rank in words, one entry for each that was set."""
        parts = []
        if self.min_rank:
            parts.append(f"at least rank {self.min_rank}")
        if self.max_rank is not None:
            parts.append(f"at most rank {self.max_rank}")
        if self.multiple_of > 1:
            parts.append(f"multiples of {self.multiple_of}")
        if self.uniform:
            parts.append("one rank for all")
        return parts


def _whole(name: str, number: object, least: int) -> int:
    """Return a whole number as an int. A whole float passes: a spreadsheet or a JSON file may hold 8.0."""
    if not is_number(number) or number != int(number) or number < least:
        raise UsageError(f"{name}={number!r}", f"expected a whole number of at least {least}")
    return int(number)


def _patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    result = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in result:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as reason:
            raise UsageError(
                f"pattern {pattern!r}",
                f"this is not a regular expression ({reason})",
                "Put a backslash before special characters that are meant literally",
            ) from None
    return result
