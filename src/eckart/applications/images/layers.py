"""Coding of a plane as blocks: first the basis, then the coefficients, component by component."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from eckart.applications.images.blocks import (
    BASIS_UNIT,
    BOUND,
    FRACTION,
    Blocks,
    grid_of,
    join,
    price,
    project,
    rebuild,
)
from eckart.applications.images.entropy import Coder
from eckart.applications.images.planes import Chooser, PlaneCoder, PlaneTables, batches
from eckart.applications.images.quantise import (
    RateDistortionChooser,
    reconstruction_levels,
    reconstruction_offsets,
    worth_coding,
)
from eckart.arrays import Floats, Ints

STEP_UNIT = 1 << FRACTION  # steps are integer multiples of 2^-10 of a grey level


class LayerKind(IntEnum):
    """How a plane is coded. The values are those of the file format."""

    BLOCKS = 0
    FACTORS = 1


@dataclass(frozen=True)
class Layer:
    """The entry for one plane in the header of a file.

    Attributes
    ----------
    kind : LayerKind
        Whether the plane is coded as blocks or as factors.
    size : int
        Rows and columns of a block; 0 for factors.
    rank : int
        Number of components of each block, or of terms of the factors.
    step : int
        Quantisation step in units of 2^-10 of a grey level.
    offsets : (int, int)
        See `quantise.reconstruction_offsets`.
    """

    kind: LayerKind
    size: int
    rank: int
    step: int
    offsets: tuple[int, int]


@dataclass
class Session:
    """The range coder of one picture, and the adaptive tables that its planes share."""

    coder: Coder
    coefficients: PlaneTables = field(default_factory=PlaneTables)
    bases: PlaneTables = field(default_factory=PlaneTables)
    factors: PlaneTables = field(default_factory=PlaneTables)


def encode_blocks(session: Session, blocks: Blocks, step: int, rank: int | None) -> tuple[Layer, float]:
    """Encode a plane as blocks. Return its header entry and its squared error.

    Parameters
    ----------
    session : Session
        The coder and the tables of the picture.
    blocks : Blocks
        The plane.
    step : int
        In units of 2^-10 of a grey level, the same for every component. Squared errors add up, so a given
        number of bits leaves the least error when all components have the same slope of error against bits,
        and the step determines that slope.
    rank : int, optional
        Keep this many components, whether or not they are worth their bits. By default, keep those that are.
    """
    full, _ = blocks.best_basis(step / STEP_UNIT)
    width = step / STEP_UNIT
    if rank is None:
        rough = blocks.coordinates @ full.T / (BASIS_UNIT * width)
        chosen = np.union1d(worth_coding(rough, price(full)), [0])
    else:
        chosen = np.arange(min(rank, len(full)))
    basis = full[chosen]
    targets = project(blocks.coordinates, basis) / width
    size, rank = blocks.size, len(chosen)

    if rank > 1:
        table = PlaneCoder((rank - 1, size * size), session.bases)
        table.plain(session.coder, FixedChooser(basis[None, 1:]), slice(0, 1))
    choose = RateDistortionChooser(np.ascontiguousarray(targets.T).reshape(rank, *blocks.grid))
    coder = PlaneCoder(blocks.grid, session.coefficients)
    values = _code_components(coder, session.coder, choose, rank)
    offsets = reconstruction_offsets(targets.T[1:], values[1:])
    decoded = _dequantise(values, step, offsets).T / STEP_UNIT @ basis / BASIS_UNIT
    error = float(((decoded - blocks.coordinates) ** 2).sum())
    return Layer(LayerKind.BLOCKS, size, rank, step, offsets), error


def decode_blocks(session: Session, layer: Layer, shape: tuple[int, int]) -> Ints:
    """Decode a plane of blocks, in units of 2^-6."""
    size, rank = layer.size, layer.rank
    basis = np.zeros((rank, size * size), np.int64)
    basis[0, 0] = BASIS_UNIT
    if rank > 1:
        table = PlaneCoder((rank - 1, size * size), session.bases)
        basis[1:] = np.clip(table.plain(session.coder, None, slice(0, 1))[0], -BASIS_UNIT, BASIS_UNIT)
    grid = grid_of(shape, size)
    coder = PlaneCoder(grid, session.coefficients)
    values = _code_components(coder, session.coder, None, rank)
    coefficients = _dequantise(values, layer.step, layer.offsets).T
    return join(rebuild(coefficients, basis, size, grid), shape).astype(np.int64)


def _code_components(planes: PlaneCoder, coder: Coder, choose: Chooser | None, rank: int) -> Ints:
    """Encode or decode all components, (rank, blocks)."""
    values = np.empty((rank, *planes.shape), np.int64)
    values[0] = planes.predicted(coder, choose, 0)
    for batch in batches(rank):
        values[batch] = planes.plain(coder, choose, batch)
    return values.reshape(rank, -1)


def _dequantise(values: Ints, step: int, offsets: tuple[int, int]) -> Floats:
    """Return coefficients in units of 2^-10. The block means, which come first, have no dead zone."""
    scaled = reconstruction_levels(values, offsets)
    scaled[0] = 32 * values[0]
    return np.asarray(np.clip((scaled * np.int64(step) + 16) >> 5, -BOUND, BOUND), np.float64)


@dataclass(frozen=True)
class FixedChooser:
    """Codes given integers exactly."""

    planes: Ints

    def __call__(
        self,
        planes: slice,
        points: tuple[slice, slice],
        probabilities: Floats,
        contexts: Ints,
        guess: Ints | None,
    ) -> Ints:
        """Return the integers at some points of some planes."""
        exact = self.planes[planes, *points].ravel()
        return np.asarray(exact if guess is None else exact - guess)
