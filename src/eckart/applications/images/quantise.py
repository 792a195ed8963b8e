"""Which integer a coefficient becomes: the one that costs least in error and bits together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eckart.applications.images.entropy import Floats, Ints, to_symbols

# Error that one bit is worth, in units of step^2. At high rate D = step^2 / 12 and D falls by 2^-2 a bit, so
# that -dD/dR = (2 ln 2 / 12) step^2 = 0.1155 step^2; at the rates of pictures a little less measured best.
BIT = 0.10
GUESS = (0.04, 0.02)  # by how much magnitudes of one, and greater ones, overstate: see `centroids`


@dataclass(frozen=True)
class Chooser:
    """Chooses integers for a table of coefficients, one plane to a row, in units of the step."""

    targets: Floats  # (components, rows, columns)

    def __call__(
        self,
        planes: slice,
        where: tuple[slice, slice],
        probabilities: Floats,
        context: Ints,
        guess: Ints | None,
    ) -> Ints:
        x = self.targets[planes, *where].ravel()
        nearest: Ints = np.rint(x).astype(np.int64)
        if guess is not None:  # predicted planes are means of blocks, where an error is seen as a step
            return np.asarray(nearest - guess)
        some = np.flatnonzero(nearest)
        if not len(some):
            return nearest
        size, magnitude = np.abs(x[some]), np.abs(nearest[some])
        if len(some) < len(probabilities):  # few coefficients: only their tables
            bits = -np.log2(probabilities[context[some]])
        else:
            bits = -np.log2(probabilities)[context[some]]
        bits[:, 1:] += 1  # the sign
        at = np.arange(len(some))
        best, least = magnitude, np.full(len(some), np.inf)
        for candidate in (magnitude, np.maximum(magnitude - 1, 0), np.zeros_like(magnitude)):
            overstated = np.where(candidate == 1, GUESS[0], np.where(candidate > 1, GUESS[1], 0.0))
            cost = (size - candidate + overstated) ** 2 + BIT * bits[at, to_symbols(candidate)]
            better = cost < least
            best, least = np.where(better, candidate, best), np.where(better, cost, least)
        nearest[some] = np.where(x[some] < 0, -best, best)
        return nearest


def worth_sending(targets: Floats, price: Floats) -> Ints:
    """Return which components lessen the error by more than they cost.

    Parameters
    ----------
    targets : ndarray (blocks, components)
        In units of the step.
    price : ndarray (components,)
        Bits that a component costs before its first coefficient: its basis vector.
    """
    blocks, component = np.nonzero(np.abs(targets) > 0.6)
    size = np.abs(targets[blocks, component])
    gain = size**2 - (size - np.rint(size - 0.1)) ** 2 - 5 * BIT
    return np.flatnonzero(np.bincount(component, gain, targets.shape[1]) > BIT * price)


def centroids(targets: Floats, values: Ints) -> tuple[int, int]:
    """Return by how much integers overstate, in 1/32, for magnitudes of one and for greater ones.

    Coefficients are denser near zero, so that those that round to n lie below n on average.
    """
    magnitude, size = np.abs(values), np.abs(targets)
    found = []
    for group in (magnitude == 1, magnitude > 1):
        mean = float((magnitude - size)[group].mean()) if group.any() else 0.0
        found.append(int(np.clip(np.rint(32 * mean), -15, 15)))
    return found[0], found[1]


def levels(values: Ints, overstated: tuple[int, int]) -> Ints:
    """Return what integers stand for, in units of step / 32: the decoder's half of `centroids`."""
    magnitude = np.abs(values)
    low = np.where(magnitude == 1, overstated[0], np.where(magnitude > 1, overstated[1], 0))
    return np.asarray(np.sign(values) * (32 * magnitude - low))
