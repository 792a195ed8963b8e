"""The search for the step: how coarse the integers may be for a quality, or must be for a size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.applications.images.blocks import SIZES, Blocks
from eckart.applications.images.colour import FORWARD, to_planes
from eckart.applications.images.entropy import Counter, Floats
from eckart.applications.images.factors import leading, predicted_cost, send_factors
from eckart.applications.images.file import CHECK, ENTRY, HEAD
from eckart.applications.images.layers import FACTORS, STEP_UNIT, Layer, Session, send_blocks
from eckart.applications.images.quality import peak_of
from eckart.applications.images.quantise import BIT
from eckart.linalg import LowRank

MIN_STEP = STEP_UNIT // 64
TRIES = 6
EXACTLY = 200.0  # decibels that stand for no error at all: one level in 2^26 samples is 174, of 16 bits
NEAR_DB = 0.05  # a quality met this nearly by a sample is left to be measured on the whole
NEAR_SIZE = 0.008  # octaves: so is a size
ROUNDING = 1 / 12  # squared error of rounding to whole samples
TILE = 128  # a sample of a picture is made of squares of this many rows and columns
TILES = 12


class Source:
    """A picture taken apart once, to be sent at one step after another."""

    def __init__(self, picture: NDArray[Any]) -> None:
        self.picture = picture
        self.depth = 8 * picture.dtype.itemsize
        self.planes = to_planes(picture)
        colours = len(self.planes) >= 3
        # What a squared error of a plane is in squared errors of samples.
        back = (np.linalg.inv(FORWARD) ** 2).sum(0) if colours else np.ones(0)
        self.weights = [*back, *([1.0] * (len(self.planes) - len(back)))]
        self.ways: list[Blocks | LowRank] | None = None
        self._blocks: dict[tuple[int, int], Blocks] = {}
        self._tried: dict[int, tuple[float, list[float]]] = {}
        self._sizes: dict[int, tuple[int, float]] = {}

    @cached_property
    def energy(self) -> float:
        """Sum of squares about the channels' means."""
        wide = self.picture.astype(np.float64)
        return float(((wide - wide.mean((0, 1))) ** 2).sum())

    @cached_property
    def sample(self) -> Source:
        """A few squares of the picture, spread evenly, side by side; the picture itself if it is small."""
        rows, columns = self.picture.shape[0] // TILE, self.picture.shape[1] // TILE
        if rows * columns <= TILES + TILES // 2:
            return self
        # Steps of the golden section fall nowhere twice and leave no corner out.
        at = [
            (int(rows * ((i + 0.5) / TILES)), int(columns * ((i * 0.618034 + 0.3) % 1))) for i in range(TILES)
        ]
        tiles = [self.picture[TILE * i : TILE * (i + 1), TILE * j : TILE * (j + 1)] for i, j in at]
        return Source(np.concatenate([np.concatenate(tiles[k::4], 0) for k in range(4)], 1))

    @property
    def finest(self) -> int:
        """The least step: finer ones would need integers larger than the coder has symbols for."""
        return MIN_STEP if self.depth == 8 else STEP_UNIT // 2

    @property
    def coarsest(self) -> int:
        """A step at which nothing is left but the mean."""
        return (1 << (self.depth + 5)) * STEP_UNIT

    @property
    def ends(self) -> tuple[int, int]:
        """The finest and the coarsest step."""
        return self.finest, self.coarsest

    def blocks(self, plane: int, size: int) -> Blocks:
        """Return a plane in blocks."""
        if (plane, size) not in self._blocks:
            self._blocks[plane, size] = Blocks(self.planes[plane], size)
        return self._blocks[plane, size]

    def decibels(self, step: int) -> float:
        """Return the quality at a step, as the sums of squares over the planes have it."""
        errors = self._try(step)[1]
        mean_square = sum(w * e for w, e in zip(self.weights, errors, strict=True)) / self.picture.size
        mean_square += min(ROUNDING, mean_square)  # errors far below a level vanish in the rounding
        return float(10 * np.log10(peak_of(self.picture) ** 2 / max(mean_square, 1e-9)))

    def bytes(self, step: int, scale: float) -> float:
        """Return the bytes at a step of a picture ``scale`` times as large."""
        return head_bytes(self) + scale * self._try(step)[0] / 8

    def known(self, start: float) -> list[float]:
        """Return the steps that were tried, which cost nothing to try again, or the one given."""
        return [float(step) for step in self._tried] or [start]

    def _try(self, step: int) -> tuple[float, list[float]]:
        if step not in self._tried:
            counter = Counter()
            errors = self.send(Session(counter), step)[1]
            self._tried[step] = (counter.bits, errors)
        return self._tried[step]

    def psnr_at_energy(self, energy: float) -> float:
        """Return the quality at which this share of the energy is kept."""
        left = (1 - energy) * self.energy / self.picture.size
        return float(10 * np.log10(peak_of(self.picture) ** 2 / left)) if left > 0 else EXACTLY

    def send(self, session: Session, step: int, rank: int | None = None) -> tuple[list[Layer], list[float]]:
        """Send every plane; return what the head says of each, and the squared errors they leave."""
        indices = range(len(self.planes))
        if rank is not None:
            sent = [send_blocks(session, self.blocks(i, 8), step, rank) for i in indices]
        else:
            self.ways = self.ways or self._choose(step)
            sent = [_send(session, self.planes[i], self.ways[i], step) for i in indices]
        return [layer for layer, _ in sent], [error for _, error in sent]

    def _choose(self, step: int) -> list[Blocks | LowRank]:
        """Choose for each plane, once, blocks of one size or factors: the least error + BIT step^2 bits."""
        sample, ways = self.sample, list[Blocks | LowRank]()
        scale = self.picture.size / sample.picture.size
        for i, plane in enumerate(self.planes):
            size, cost = sample.best_size(i, step)
            factors = leading(plane, (step / STEP_UNIT) ** 2 / 12)
            if factors is not None and predicted_cost(factors, step) > 2 * scale * cost:
                factors = None
            is_factors = factors is not None and _cost(plane, factors, step) < scale * cost
            ways.append(factors if factors is not None and is_factors else self.blocks(i, size))
        return ways

    def best_size(self, plane: int, step: int) -> tuple[int, float]:
        """Return the size of block that costs a plane least, and that cost; the first step decides."""
        if plane not in self._sizes:
            sizes = [size for size in SIZES if size <= max(8, min(self.picture.shape[:2]))]
            # The cosines tell the sizes apart well enough, and need no basis to be learnt.
            costs = [_cost(self.planes[plane], self.blocks(plane, size).plain(), step) for size in sizes]
            self._sizes[plane] = (sizes[int(np.argmin(costs))], min(costs))
        return self._sizes[plane]


def _send(session: Session, plane: Floats, way: Blocks | LowRank, step: int) -> tuple[Layer, float]:
    if isinstance(way, Blocks):
        return send_blocks(session, way, step, None)
    return send_factors(session, plane, way, step) or send_blocks(session, Blocks(plane, 8), step, None)


def _cost(plane: Floats, way: Blocks | LowRank, step: int) -> float:
    counter = Counter()
    layer, error = _send(Session(counter), plane, way, step)
    if isinstance(way, LowRank) and layer.kind != FACTORS:
        return float("inf")
    return error + BIT * (step / STEP_UNIT) ** 2 * counter.bits


def find_step(source: Source, psnr: float | None = None, size: float | None = None) -> int:
    """Return a step near the one that reaches a quality or a size, from a sample of the picture.

    Notes
    -----
    Decibels fall, and the logarithm of bytes falls, almost in a straight line with the logarithm of the
    step, so that a secant needs few tries.
    """
    sample = source.sample
    scale = source.picture.size / sample.picture.size
    start = _first_guess(sample, psnr, None if size is None else size / scale)
    if psnr is not None:
        return secant(
            sample.known(start), lambda step: sample.decibels(step) - psnr, -4.0, NEAR_DB, source.ends
        )
    room = float(np.log2(size or 1.0))
    return secant(
        sample.known(start),
        lambda step: room - float(np.log2(sample.bytes(step, scale))),
        0.8,
        NEAR_SIZE,
        source.ends,
    )


def secant(
    starts: list[float], over: Callable[[int], float], rise: float, close: float, ends: tuple[int, int]
) -> int:
    """Return the step, as near as few tries bring it, at which ``over`` is between 0 and ``close``.

    Parameters
    ----------
    starts : list of float
        The first steps to try.
    over : callable
        By how much a goal is exceeded at a step.
    rise : float
        About how much ``over`` changes as the step doubles; its sign says which way.
    ends : (int, int)
        The finest and the coarsest step.
    """
    low, high = float(np.log2(ends[0])), float(np.log2(ends[1]))
    tried: dict[float, float] = {}
    for step in starts:
        x = min(max(float(np.log2(step)), low), high)
        tried[x] = over(round(2**x))
    for _ in range(TRIES):
        good = sorted((t for t, miss in tried.items() if miss >= 0), reverse=rise < 0)
        bad = sorted((t for t, miss in tried.items() if miss < 0), reverse=rise > 0)
        if good and tried[good[0]] < close:
            break
        if good and bad:  # the goal lies between the last good step and the first bad one
            share = (tried[good[0]] - close / 2) / (tried[good[0]] - tried[bad[0]])
            x = good[0] + min(max(share, 0.05), 0.95) * (bad[0] - good[0])
        else:
            one, *more = good or bad
            if more:
                rise *= min(max((tried[one] - tried[more[0]]) / (one - more[0]) / rise, 0.3), 3.0)
            x = min(max(one + min(max((close / 2 - tried[one]) / rise, -6.0), 6.0), low), high)
        if any(round(2**x) == round(2**t) for t in tried):
            break
        tried[x] = over(round(2**x))
    good = [t for t, miss in tried.items() if miss >= 0]
    return round(2 ** ((max if rise < 0 else min)(good) if good else x))


def head_bytes(source: Source) -> int:
    """Return the bytes of a file that are not bits of the picture."""
    return HEAD.size + len(source.planes) * ENTRY.size + CHECK.size


def _first_guess(source: Source, psnr: float | None, size: float | None) -> float:
    """Return a step, by water-filling over the energies of the cosines."""
    blocks = [source.blocks(i, 8) for i in range(len(source.planes))]
    spectra = [(b.coordinates**2).mean(0) for b in blocks]
    steps = 2.0 ** np.arange(np.log2(source.finest), np.log2(source.coarsest), 0.25)
    misses = []
    for level in (steps / STEP_UNIT) ** 2 / 7:
        left = rate = 0.0
        for weight, block, energies in zip(source.weights, blocks, spectra, strict=True):
            left += weight * len(block.coordinates) * float(np.minimum(energies, level).sum())
            rate += 0.25 * len(block.coordinates) * float(np.log2(np.maximum(energies / level, 1)).sum())
        if psnr is not None:
            reached = 10 * np.log10(peak_of(source.picture) ** 2 / max(left / source.picture.size, 1e-9))
            misses.append(abs(reached - psnr))
        else:
            misses.append(abs(np.log2((rate / 8 + head_bytes(source)) / (size or 1))))
    return float(steps[int(np.argmin(misses))])


def step_for_rank(source: Source, rank: int) -> int:
    """Return the step whose rounding adds a tenth of the error that cutting at ``rank`` leaves."""
    left = kept = 0.0
    for i in range(len(source.planes)):
        along = np.sort(source.blocks(i, 8).basis(0.1)[1][1:])[::-1]
        left += float(along[rank - 1 :].sum())
        kept += min(rank, 64)
    return max(STEP_UNIT // 2, int(STEP_UNIT * np.sqrt(0.1 * 12 * left / kept)))
