"""Coding of stacks of integer planes: the neighbours of each number select its frequency table.

A plane is traversed from coarse to fine: the points of a grid, then the centres of its cells, then the
middles of their sides. All points of one step are coded at once (in NumPy, not in a Python loop), and their
neighbours from earlier steps are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from eckart.applications.images.entropy import Coder, Tables, code
from eckart.arrays import Floats, Ints

NEAR = np.array([1, 2, 3, 5, 7, 10, 15, 25])  # context boundaries: the sum of four neighbours
# Context boundaries: the magnitudes of earlier planes at this point.
PAST = np.array([2, 5, 9, 14, 20, 28, 40, 56, 80, 120, 200, 400])
WIDTH = len(PAST) + 1
ROUGHNESS = 16  # contexts of a predicted plane, one per octave of the difference between neighbours


class Chooser(Protocol):
    """Chooses the integers to encode, given what each of them would cost."""

    def __call__(
        self,
        planes: slice,
        points: tuple[slice, slice],
        probabilities: Floats,
        contexts: Ints,
        guess: Ints | None,
        /,
    ) -> Ints:
        """Return the integers at some points of some planes, flattened.

        Parameters
        ----------
        planes : slice
            The planes.
        points : (slice, slice)
            Rows and columns within each plane.
        probabilities : ndarray (contexts, symbols)
            The frequency tables.
        contexts : ndarray of int
            The row of ``probabilities`` for each integer.
        guess : ndarray of int, optional
            The prediction for each integer; if given, the result is the difference from it.
        """
        ...


def steps(shape: tuple[int, int], depth: int) -> Iterator[tuple[tuple[slice, slice], list[tuple[int, int]]]]:
    """Yield the points of each step and the offsets of their known neighbours; no step is empty."""
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
class PlaneTables:
    """The adaptive frequency tables that the planes of a picture share."""

    plain: Tables = field(default_factory=lambda: Tables(_means()))
    predicted: Tables = field(default_factory=lambda: Tables(np.geomspace(0.5, 64, ROUGHNESS)))


def _means() -> Floats:
    """Return the expected magnitude in each context at the start: a guess that the tables correct."""
    past = np.concatenate([[1.0], PAST]) / 32
    near = np.concatenate([[0.5], NEAR]) / 4
    return np.concatenate([past, *(np.sqrt(past * n) for n in near)])


def batches(rank: int) -> Iterator[slice]:
    """Split components 1 to rank - 1 into batches that are coded together; later batches are longer.

    Coding one component at a time would save 1 % of the bytes and take four times as long: most of the
    useful context comes from the first components.
    """
    start = 1
    while start < rank:
        stop = min(start + max(1, start // 4), rank)
        yield slice(start, stop)
        start = stop


class PlaneCoder:
    """Codes planes of one shape; each plane provides context for the planes after it."""

    def __init__(self, shape: tuple[int, int], tables: PlaneTables) -> None:
        self.shape, self.tables = shape, tables
        self.past: Ints = np.zeros(shape, np.int64)  # magnitudes of earlier planes, older ones discounted

    def plain(self, coder: Coder, choose: Chooser | None, planes: slice) -> Ints:
        """Encode or decode planes whose numbers are symmetric about zero, (planes, rows, columns).

        The planes are coded together: each provides context for the planes of later calls, not for the
        others of this call.

        Parameters
        ----------
        coder : Coder
            The encoder or decoder.
        choose : Chooser, optional
            Chooses the integers to encode; None to decode.
        planes : slice
            The planes to code.
        """
        values = np.zeros((planes.stop - planes.start, *self.shape), np.int64)
        magnitudes = np.pad(values, ((0, 0), (1, 1), (1, 1)))
        padded_past = np.pad(self.past, 1)
        around = padded_past[:-2, 1:-1] + padded_past[2:, 1:-1]
        around += padded_past[1:-1, :-2] + padded_past[1:-1, 2:]
        past = np.searchsorted(PAST, (4 * self.past + around) >> 3, side="right")
        for points, neighbours in steps(self.shape, 1):
            contexts = np.broadcast_to(past[points], values[:, *points].shape)
            if neighbours:
                near = _sum(_neighbours(magnitudes, points, neighbours, self.shape, 1))
                contexts = contexts + WIDTH * (1 + np.searchsorted(NEAR, near, side="right"))
            coded = _code(coder, self.tables.plain, contexts, choose, planes, points, None)
            values[:, *points] = coded
            magnitudes[:, 1:-1, 1:-1][:, *points] = np.abs(coded)
        for plane in values:
            self.past += 16 * np.minimum(np.abs(plane), 255) - (self.past >> 2)
        return values

    def predicted(self, coder: Coder, choose: Chooser | None, plane: int) -> Ints:
        """Encode or decode a smooth plane: each number as its difference from the mean of its neighbours.

        Parameters
        ----------
        coder : Coder
            The encoder or decoder.
        choose : Chooser, optional
            Chooses the integers to encode; None to decode.
        plane : int
            The plane to code.
        """
        rows, columns = self.shape
        depth = min((max(rows, columns, 2) - 1).bit_length(), 6)
        margin = 1 << (depth - 1)
        known = np.zeros((rows + 2 * margin, columns + 2 * margin), np.int64)
        valid = np.zeros_like(known)
        inside = (slice(margin, margin + rows), slice(margin, margin + columns))
        valid[inside] = 1
        for points, neighbours in steps(self.shape, depth):
            guess = np.zeros(known[inside][points].shape, np.int64)
            contexts = guess
            if neighbours:
                values = _neighbours(known, points, neighbours, self.shape, margin)
                weights = _neighbours(valid, points, neighbours, self.shape, margin)
                count = _sum(weights)
                guess = (2 * _sum(values) + count) // (2 * count)
                spread = _sum([np.abs(v - guess) * w for v, w in zip(values, weights, strict=True)])
                octave = np.frexp(spread.astype(np.float64))[1].astype(np.int64)
                contexts = 1 + np.minimum(octave, ROUGHNESS - 2)
            planes = slice(plane, plane + 1)
            difference = _code(coder, self.tables.predicted, contexts, choose, planes, points, guess)
            known[inside][points] = guess + difference
        return known[inside].copy()


def _code(
    coder: Coder,
    tables: Tables,
    contexts: Ints,
    choose: Chooser | None,
    planes: slice,
    points: tuple[slice, slice],
    guess: Ints | None,
) -> Ints:
    flat: Ints = contexts.reshape(-1)
    probabilities = tables.frequencies()
    values = None
    if choose is not None:
        flat_guess: Ints | None = None if guess is None else guess.reshape(-1)
        values = choose(planes, points, probabilities, flat, flat_guess)
    return code(coder, tables, probabilities, flat, values).reshape(contexts.shape)


def _neighbours(
    padded: Ints,
    points: tuple[slice, slice],
    neighbours: list[tuple[int, int]],
    shape: tuple[int, int],
    margin: int,
) -> list[Ints]:
    """Return the neighbours of the points of a step, one array per direction."""
    rows, columns = points
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
