"""A plane in blocks: its basis, then its coefficients, component by component."""

from __future__ import annotations

from dataclasses import dataclass, field

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
from eckart.applications.images.entropy import Coder, Floats, Ints
from eckart.applications.images.planes import Learnt, PlaneCoder, batches
from eckart.applications.images.quantise import Chooser, centroids, levels, worth_sending

STEP_UNIT = 1 << FRACTION  # steps are whole multiples of 2^-10 of a grey level
BLOCKS, FACTORS = 0, 1  # kinds of layer


@dataclass(frozen=True)
class Layer:
    """What the head of a file says of one plane."""

    kind: int
    size: int  # rows and columns of a block; 0 for factors
    rank: int
    step: int  # in units of 2^-10 of a grey level
    overstated: tuple[int, int]  # see `quantise.centroids`


@dataclass
class Session:
    """The bits of one picture on their way, and the tables its planes share."""

    coder: Coder
    coefficients: Learnt = field(default_factory=Learnt)
    bases: Learnt = field(default_factory=Learnt)
    factors: Learnt = field(default_factory=Learnt)


def send_blocks(session: Session, blocks: Blocks, step: int, most: int | None) -> tuple[Layer, float]:
    """Send a plane in blocks; return its layer and the squared error it leaves.

    Parameters
    ----------
    step : int
        In units of 2^-10: the same for every component, because where errors add up as squares, bits are
        spent best where all components have the same slope of error against bits, which is the step's.
    most : int, optional
        Keep this many components, worth their bits or not.
    """
    full, _ = blocks.best_basis(step / STEP_UNIT)
    width = step / STEP_UNIT
    if most is None:
        rough = blocks.coordinates @ full.T / (BASIS_UNIT * width)
        chosen = np.union1d(worth_sending(rough, price(full)), [0])
    else:
        chosen = np.arange(min(most, len(full)))
    basis = full[chosen]
    targets = project(blocks.coordinates, basis) / width
    size, rank = blocks.size, len(chosen)

    if rank > 1:
        table = PlaneCoder((rank - 1, size * size), session.bases)
        table.plain(session.coder, Exactly(basis[None, 1:]), slice(0, 1))
    choose = Chooser(np.ascontiguousarray(targets.T).reshape(rank, *blocks.grid))
    coder = PlaneCoder(blocks.grid, session.coefficients)
    values = _walk(coder, session.coder, choose, rank)
    overstated = centroids(targets.T[1:], values[1:])
    found = _dequantise(values, step, overstated).T / STEP_UNIT @ basis / BASIS_UNIT
    left = float(((found - blocks.coordinates) ** 2).sum())
    return Layer(BLOCKS, size, rank, step, overstated), left


def receive_blocks(session: Session, layer: Layer, shape: tuple[int, int]) -> Ints:
    """Return the plane, in units of 2^-6."""
    size, rank = layer.size, layer.rank
    basis = np.zeros((rank, size * size), np.int64)
    basis[0, 0] = BASIS_UNIT
    if rank > 1:
        table = PlaneCoder((rank - 1, size * size), session.bases)
        basis[1:] = np.clip(table.plain(session.coder, None, slice(0, 1))[0], -BASIS_UNIT, BASIS_UNIT)
    grid = grid_of(shape, size)
    coder = PlaneCoder(grid, session.coefficients)
    values = _walk(coder, session.coder, None, rank)
    coefficients = _dequantise(values, layer.step, layer.overstated).T
    return join(rebuild(coefficients, basis, size, grid), shape).astype(np.int64)


def _walk(planes: PlaneCoder, coder: Coder, choose: Chooser | None, rank: int) -> Ints:
    """Send or receive all components, (rank, blocks)."""
    values = np.empty((rank, *planes.shape), np.int64)
    values[0] = planes.predicted(coder, choose, 0)
    for some in batches(rank):
        values[some] = planes.plain(coder, choose, some)
    return values.reshape(rank, -1)


def _dequantise(values: Ints, step: int, overstated: tuple[int, int]) -> Floats:
    """Return coefficients in units of 2^-10; those of the mean, which come first, have no dead zone."""
    scaled = levels(values, overstated)
    scaled[0] = 32 * values[0]
    return np.asarray(np.clip((scaled * np.int64(step) + 16) >> 5, -BOUND, BOUND), np.float64)


@dataclass(frozen=True)
class Exactly:
    """Chooses the integers that are given."""

    planes: Ints

    def __call__(
        self,
        planes: slice,
        where: tuple[slice, slice],
        probabilities: Floats,
        context: Ints,
        guess: Ints | None,
    ) -> Ints:
        exact = self.planes[planes, *where].ravel()
        return np.asarray(exact if guess is None else exact - guess)
