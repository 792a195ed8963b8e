"""Stacks of integer planes, coded one after the other: each number with what is known around it.

A plane is walked coarse to fine: the points of a grid, then the centres of its cells, then the middles of
their sides. All points of one step are coded at once (in NumPy, not in a Python loop), and each knows its
neighbours of the steps before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from eckart.applications.images.entropy import Coder, Floats, Ints, Tables, code

NEAR = np.array([1, 2, 3, 5, 7, 10, 15, 25])  # steps of the sum of four neighbours
PAST = np.array([2, 5, 9, 14, 20, 28, 40, 56, 80, 120, 200, 400])  # steps of what earlier planes had here
WIDTH = len(PAST) + 1
ROUGHNESS = 16  # contexts of a predicted plane: octaves of how much neighbours differ

Chooser = Callable[[slice, tuple[slice, slice], Floats, Ints, Ints | None], Ints]


def steps(shape: tuple[int, int], depth: int) -> Iterator[tuple[tuple[slice, slice], list[tuple[int, int]]]]:
    """Yield the points of each step, and where their known neighbours lie; no step is empty."""
    stride = 1 << depth
    yield (slice(0, None, stride), slice(0, None, stride)), []
    while stride > 1:
        h = stride >> 1
        diagonal = [(-h, -h), (-h, h), (h, -h), (h, h)]
        straight = [(-h, 0), (h, 0), (0, -h), (0, h)]
        if shape[0] > h and shape[1] > h:
            yield (slice(h, None, stride), slice(h, None, stride)), diagonal
        if shape[1] > h:
            yield (slice(0, None, stride), slice(h, None, stride)), straight
        if shape[0] > h:
            yield (slice(h, None, stride), slice(0, None, stride)), straight
        stride = h


@dataclass(frozen=True)
class Learnt:
    """The tables that a picture's planes share and add to."""

    plain: Tables = field(default_factory=lambda: Tables(_means()))
    predicted: Tables = field(default_factory=lambda: Tables(np.geomspace(0.5, 64, ROUGHNESS)))


def _means() -> Floats:
    """Magnitudes to expect in each context before anything was seen; a guess that the tables mend."""
    past = np.concatenate([[1.0], PAST]) / 32
    near = np.concatenate([[0.5], NEAR]) / 4
    return np.concatenate([past, *(np.sqrt(past * n) for n in near)])


def batches(rank: int) -> Iterator[slice]:
    """Cut components 1 to rank - 1 into runs that are coded side by side, longer ones the further on.

    One by one would be 1 % smaller and four times as slow: the first components say most of what the others
    can be told by.
    """
    start = 1
    while start < rank:
        stop = min(start + max(1, start // 4), rank)
        yield slice(start, stop)
        start = stop


class PlaneCoder:
    """Codes planes of one shape; each is a context for those that follow."""

    def __init__(self, shape: tuple[int, int], learnt: Learnt) -> None:
        self.shape, self.learnt = shape, learnt
        self.past: Ints = np.zeros(shape, np.int64)  # magnitudes of earlier planes, older ones fading

    def plain(self, coder: Coder, choose: Chooser | None, planes: slice) -> Ints:
        """Send or receive planes whose numbers are as likely negative as positive, (planes, rows, columns).

        They are coded side by side: each is a context for the planes of later calls, not for one another.
        """
        found = np.zeros((planes.stop - planes.start, *self.shape), np.int64)
        magnitudes = np.pad(found, ((0, 0), (1, 1), (1, 1)))
        ground = np.pad(self.past, 1)
        around = ground[:-2, 1:-1] + ground[2:, 1:-1] + ground[1:-1, :-2] + ground[1:-1, 2:]
        past = np.searchsorted(PAST, (4 * self.past + around) >> 3, side="right")
        for where, neighbours in steps(self.shape, 1):
            context = np.broadcast_to(past[where], found[:, *where].shape)
            if neighbours:
                near = _sum(_parts(magnitudes, where, neighbours, self.shape, 1))
                context = context + WIDTH * (1 + np.searchsorted(NEAR, near, side="right"))
            values = _code(coder, self.learnt.plain, context, choose, planes, where, None)
            found[:, *where] = values
            magnitudes[:, 1:-1, 1:-1][:, *where] = np.abs(values)
        for plane in found:
            self.past += 16 * np.minimum(np.abs(plane), 255) - (self.past >> 2)
        return found

    def predicted(self, coder: Coder, choose: Chooser | None, plane: int) -> Ints:
        """Send or receive a smooth plane: each number as its difference from the mean of its neighbours."""
        rows, columns = self.shape
        depth = min((max(rows, columns, 2) - 1).bit_length(), 6)
        margin = 1 << (depth - 1)
        known = np.zeros((rows + 2 * margin, columns + 2 * margin), np.int64)
        valid = np.zeros_like(known)
        inside = (slice(margin, margin + rows), slice(margin, margin + columns))
        valid[inside] = 1
        for where, neighbours in steps(self.shape, depth):
            guess = np.zeros(known[inside][where].shape, np.int64)
            context = guess
            if neighbours:
                parts = _parts(known, where, neighbours, self.shape, margin)
                weights = _parts(valid, where, neighbours, self.shape, margin)
                count = _sum(weights)
                guess = (2 * _sum(parts) + count) // (2 * count)
                spread = _sum([np.abs(p - guess) * w for p, w in zip(parts, weights, strict=True)])
                octave = np.frexp(spread.astype(np.float64))[1].astype(np.int64)
                context = 1 + np.minimum(octave, ROUGHNESS - 2)
            known[inside][where] = guess + _code(
                coder, self.learnt.predicted, context, choose, slice(plane, plane + 1), where, guess
            )
        return known[inside].copy()


def _code(
    coder: Coder, tables: Tables, context: Ints, choose: Chooser | None, planes: slice,
    where: tuple[slice, slice], guess: Ints | None,
) -> Ints:  # fmt: skip
    flat: Ints = context.reshape(-1)
    probabilities = tables.frequencies()
    values = None
    if choose is not None:
        flat_guess: Ints | None = None if guess is None else guess.reshape(-1)
        values = choose(planes, where, probabilities, flat, flat_guess)
    return code(coder, tables, probabilities, flat, values).reshape(context.shape)


def _parts(
    padded: Ints,
    where: tuple[slice, slice],
    neighbours: list[tuple[int, int]],
    shape: tuple[int, int],
    margin: int,
) -> list[Ints]:
    """Return the neighbours of the points of a step, one array to a direction."""
    rows, columns = where
    return [
        padded[
            ...,
            margin + rows.start + dy : margin + shape[0] + dy : rows.step,
            margin + columns.start + dx : margin + shape[1] + dx : columns.step,
        ]
        for dy, dx in neighbours
    ]


def _sum(parts: list[Ints]) -> Ints:
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total
