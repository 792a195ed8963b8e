"""Search for the quantisation step that reaches a quality or a size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

import numpy as np

from eckart.applications.images.blocks import SIZES, Blocks
from eckart.applications.images.colour import FORWARD, Picture, to_planes
from eckart.applications.images.entropy import BitCounter
from eckart.applications.images.factors import encode_factors, leading, predicted_cost
from eckart.applications.images.file import CHECK, ENTRY, HEADER
from eckart.applications.images.layers import STEP_UNIT, Layer, LayerKind, Session, encode_blocks
from eckart.applications.images.quality import peak_of
from eckart.applications.images.quantise import BIT_PRICE
from eckart.arrays import Floats
from eckart.linalg import LowRank

MIN_STEP = STEP_UNIT // 64
MAX_TRIES = 6
LOSSLESS_DB = 200.0  # stands for no error; one level in one of 2^26 16-bit samples is 174 dB
NEAR_DB = 0.05  # the search on a sample stops this close to a quality
NEAR_SIZE = 0.008  # the search on a sample stops this close to a size, in octaves
ROUNDING = 1 / 12  # squared error of rounding to integer samples
TILE = 128  # a sample of a picture consists of squares of this many rows and columns
TILES = 12

Representation: TypeAlias = Blocks | LowRank  # of a plane


class Source:
    """A picture separated into planes once, for encoding at several steps.

    Parameters
    ----------
    picture : ndarray (m, n, channels), uint8 or uint16
        The original.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.depth = 8 * picture.dtype.itemsize
        self.planes = to_planes(picture)
        is_colour = len(self.planes) >= 3
        # The squared error of the samples caused by a unit squared error of each plane.
        of_colours = (np.linalg.inv(FORWARD) ** 2).sum(0) if is_colour else np.ones(0)
        self.weights = [*of_colours, *([1.0] * (len(self.planes) - len(of_colours)))]
        self.representations: list[Representation] | None = None
        self._blocks: dict[tuple[int, int], Blocks] = {}
        self._tried: dict[int, tuple[float, list[float]]] = {}
        self._sizes: dict[int, tuple[int, float]] = {}

    @cached_property
    def energy(self) -> float:
        """Sum of squared deviations from the mean of each channel."""
        wide = self.picture.astype(np.float64)
        return float(((wide - wide.mean((0, 1))) ** 2).sum())

    @cached_property
    def sample(self) -> Source:
        """A mosaic of a few squares, spread evenly over the picture; the picture itself if it is small."""
        rows, columns = self.picture.shape[0] // TILE, self.picture.shape[1] // TILE
        if rows * columns <= TILES + TILES // 2:
            return self
        # Multiples of the golden section modulo 1 never repeat and cover the range evenly.
        at = [
            (int(rows * ((i + 0.5) / TILES)), int(columns * ((i * 0.618034 + 0.3) % 1))) for i in range(TILES)
        ]
        tiles = [self.picture[TILE * i : TILE * (i + 1), TILE * j : TILE * (j + 1)] for i, j in at]
        return Source(np.concatenate([np.concatenate(tiles[k::4], 0) for k in range(4)], 1))

    @property
    def finest(self) -> int:
        """The finest step. Still finer ones would need integers above the largest symbol of the coder."""
        return MIN_STEP if self.depth == 8 else STEP_UNIT // 2

    @property
    def coarsest(self) -> int:
        """A step at which only the mean remains."""
        return (1 << (self.depth + 5)) * STEP_UNIT

    @property
    def ends(self) -> tuple[int, int]:
        """The finest and the coarsest step."""
        return self.finest, self.coarsest

    def blocks(self, plane: int, size: int) -> Blocks:
        """Return a plane as blocks of a size."""
        if (plane, size) not in self._blocks:
            self._blocks[plane, size] = Blocks(self.planes[plane], size)
        return self._blocks[plane, size]

    def decibels(self, step: int) -> float:
        """Return the quality at a step in decibels, estimated from the squared errors of the planes."""
        errors = self._try(step)[1]
        mean_square = sum(w * e for w, e in zip(self.weights, errors, strict=True)) / self.picture.size
        mean_square += min(ROUNDING, mean_square)  # errors far below one level disappear in the rounding
        return float(10 * np.log10(peak_of(self.picture) ** 2 / max(mean_square, 1e-9)))

    def bytes(self, step: int, scale: float) -> float:
        """Return the size in bytes of a picture ``scale`` times as large at a step."""
        return header_bytes(self) + scale * self._try(step)[0] / 8

    def tried_steps(self, default: float) -> list[float]:
        """Return the steps tried so far, whose results are cached; if there are none, ``[default]``."""
        return [float(step) for step in self._tried] or [default]

    def _try(self, step: int) -> tuple[float, list[float]]:
        """Return the bits at a step and the squared error of each plane."""
        if step not in self._tried:
            counter = BitCounter()
            errors = self.encode(Session(counter), step)[1]
            self._tried[step] = (counter.bits, errors)
        return self._tried[step]

    def psnr_at_energy(self, energy: float) -> float:
        """Return the PSNR in decibels at which this share of the energy is kept."""
        mean_square = (1 - energy) * self.energy / self.picture.size
        if mean_square <= 0:
            return LOSSLESS_DB
        return float(10 * np.log10(peak_of(self.picture) ** 2 / mean_square))

    def encode(self, session: Session, step: int, rank: int | None = None) -> tuple[list[Layer], list[float]]:
        """Encode every plane. Return the header entries and the squared errors of the planes.

        Parameters
        ----------
        session : Session
            The coder and the tables.
        step : int
            Quantisation step in units of 2^-10 of a grey level.
        rank : int, optional
            Use blocks of 8 x 8 and keep this many components of each. By default, each plane has the
            representation of the lowest cost, chosen at the step of the first call.
        """
        indices = range(len(self.planes))
        if rank is not None:
            coded = [encode_blocks(session, self.blocks(i, 8), step, rank) for i in indices]
        else:
            self.representations = self.representations or self._choose(step)
            coded = [_encode(session, self.planes[i], self.representations[i], step) for i in indices]
        return [layer for layer, _ in coded], [error for _, error in coded]

    def _choose(self, step: int) -> list[Representation]:
        """Choose for each plane blocks of one size, or factors: the lowest error + BIT_PRICE step^2 bits."""
        sample, chosen = self.sample, list[Representation]()
        scale = self.picture.size / sample.picture.size
        for i, plane in enumerate(self.planes):
            size, cost = sample.best_size(i, step)
            factors = leading(plane, (step / STEP_UNIT) ** 2 / 12)
            if factors is not None and predicted_cost(factors, step) > 2 * scale * cost:
                factors = None
            if factors is not None and _cost(plane, factors, step) < scale * cost:
                chosen.append(factors)
            else:
                chosen.append(self.blocks(i, size))
        return chosen

    def best_size(self, plane: int, step: int) -> tuple[int, float]:
        """Return the block size of the lowest cost for a plane, and that cost, at the first call's step."""
        if plane not in self._sizes:
            sizes = [size for size in SIZES if size <= max(8, min(self.picture.shape[:2]))]
            # The cosines are good enough to compare sizes, and no basis has to be learned.
            costs = [_cost(self.planes[plane], self.blocks(plane, size).plain(), step) for size in sizes]
            self._sizes[plane] = (sizes[int(np.argmin(costs))], min(costs))
        return self._sizes[plane]


def _encode(session: Session, plane: Floats, chosen: Representation, step: int) -> tuple[Layer, float]:
    """Encode a plane; factors that do not fit the format are replaced by blocks."""
    if isinstance(chosen, Blocks):
        return encode_blocks(session, chosen, step, None)
    coded = encode_factors(session, plane, chosen, step)
    return coded or encode_blocks(session, Blocks(plane, 8), step, None)


def _cost(plane: Floats, chosen: Representation, step: int) -> float:
    """Return error + BIT_PRICE step^2 bits; infinite for factors that do not fit the format."""
    counter = BitCounter()
    layer, error = _encode(Session(counter), plane, chosen, step)
    if isinstance(chosen, LowRank) and layer.kind != LayerKind.FACTORS:
        return float("inf")
    return error + BIT_PRICE * (step / STEP_UNIT) ** 2 * counter.bits


def find_step(source: Source, psnr: float | None = None, size: float | None = None) -> int:
    """Return a step near the one that reaches a quality or a size, using a sample of the picture.

    Parameters
    ----------
    source : Source
        The picture.
    psnr : float, optional
        The quality in decibels.
    size : float, optional
        The size in bytes; used if ``psnr`` is not given.

    Notes
    -----
    Decibels and the logarithm of the bytes are almost linear in the logarithm of the step, so the secant
    method needs few tries.
    """
    sample = source.sample
    scale = source.picture.size / sample.picture.size
    start = _first_guess(sample, psnr, None if size is None else size / scale)
    starts = sample.tried_steps(start)
    if psnr is not None:
        return secant(starts, lambda step: sample.decibels(step) - psnr, -4.0, NEAR_DB, source.ends)
    log_size = float(np.log2(size or 1.0))

    def octaves_to_spare(step: int) -> float:
        return log_size - float(np.log2(sample.bytes(step, scale)))

    return secant(starts, octaves_to_spare, 0.8, NEAR_SIZE, source.ends)


def secant(
    starts: list[float], excess: Callable[[int], float], slope: float, close: float, ends: tuple[int, int]
) -> int:
    """Search, in a limited number of tries, for a step at which ``excess`` is between 0 and ``close``.

    Parameters
    ----------
    starts : list of float
        The first steps to try.
    excess : callable
        Returns by how much a target is exceeded at a step; negative where it is missed.
    slope : float
        The approximate change of ``excess`` when the step doubles. The sign gives the direction.
    close : float
        The search stops when ``excess`` is below this.
    ends : (int, int)
        The finest and the coarsest step.

    Returns
    -------
    int
        Among the steps tried that reach the target, the one nearest to missing it; if there is none, the
        last one tried.
    """
    low, high = float(np.log2(ends[0])), float(np.log2(ends[1]))
    tried: dict[float, float] = {}  # log2 of a step -> excess
    for step in starts:
        x = min(max(float(np.log2(step)), low), high)
        tried[x] = excess(round(2**x))
    for _ in range(MAX_TRIES):
        good = sorted((t for t, margin in tried.items() if margin >= 0), reverse=slope < 0)
        bad = sorted((t for t, margin in tried.items() if margin < 0), reverse=slope > 0)
        if good and tried[good[0]] < close:
            break
        if good and bad:  # the target is between the last good step and the first bad one
            share = (tried[good[0]] - close / 2) / (tried[good[0]] - tried[bad[0]])
            x = good[0] + min(max(share, 0.05), 0.95) * (bad[0] - good[0])
        else:
            nearest, *others = good or bad
            if others:
                measured = (tried[nearest] - tried[others[0]]) / (nearest - others[0])
                slope *= min(max(measured / slope, 0.3), 3.0)
            change = min(max((close / 2 - tried[nearest]) / slope, -6.0), 6.0)
            x = min(max(nearest + change, low), high)
        if any(round(2**x) == round(2**t) for t in tried):
            break
        tried[x] = excess(round(2**x))
    good = [t for t, margin in tried.items() if margin >= 0]
    if good:
        x = max(good) if slope < 0 else min(good)
    return round(2**x)


def header_bytes(source: Source) -> int:
    """Return the number of bytes of a file without the coded data."""
    return HEADER.size + len(source.planes) * ENTRY.size + CHECK.size


def _first_guess(source: Source, psnr: float | None, size: float | None) -> float:
    """Return a step from water-filling over the energies of the cosines."""
    blocks = [source.blocks(i, 8) for i in range(len(source.planes))]
    spectra = [(b.coordinates**2).mean(0) for b in blocks]
    steps = 2.0 ** np.arange(np.log2(source.finest), np.log2(source.coarsest), 0.25)
    misses = []
    for level in (steps / STEP_UNIT) ** 2 / 7:
        error = bits = 0.0
        for weight, block, energies in zip(source.weights, blocks, spectra, strict=True):
            error += weight * len(block.coordinates) * float(np.minimum(energies, level).sum())
            bits += 0.25 * len(block.coordinates) * float(np.log2(np.maximum(energies / level, 1)).sum())
        if psnr is not None:
            reached = 10 * np.log10(peak_of(source.picture) ** 2 / max(error / source.picture.size, 1e-9))
            misses.append(abs(reached - psnr))
        else:
            misses.append(abs(np.log2((bits / 8 + header_bytes(source)) / (size or 1))))
    return float(steps[int(np.argmin(misses))])


def step_for_rank(source: Source, rank: int) -> int:
    """Return the step at which rounding adds a tenth of the truncation error at ``rank``."""
    error = kept = 0.0
    for i in range(len(source.planes)):
        along = np.sort(source.blocks(i, 8).basis(0.1)[1][1:])[::-1]
        error += float(along[rank - 1 :].sum())
        kept += min(rank, 64)
    return max(STEP_UNIT // 2, int(STEP_UNIT * np.sqrt(0.1 * 12 * error / kept)))
