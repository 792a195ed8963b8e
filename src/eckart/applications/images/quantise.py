"""Quantisation: each coefficient becomes the integer with the lowest combined cost of error and bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eckart.applications.images.entropy import to_symbols
from eckart.arrays import Floats, Ints

# The squared error that one bit is worth, in units of step^2. At high rate D = step^2 / 12, and each bit
# divides D by 4, so -dD/dR = (2 ln 2 / 12) step^2 = 0.1155 step^2. At the rates of pictures, 0.10 measured
# best.
BIT_PRICE = 0.10
EXPECTED_OFFSETS = (0.04, 0.02)  # typical `reconstruction_offsets`, in steps: magnitude 1, greater ones


@dataclass(frozen=True)
class RateDistortionChooser:
    """Chooses the integers for planes of coefficients.

    Attributes
    ----------
    targets : ndarray (components, rows, columns)
        The coefficients in units of the step.
    """

    targets: Floats

    def __call__(
        self,
        planes: slice,
        points: tuple[slice, slice],
        probabilities: Floats,
        contexts: Ints,
        guess: Ints | None,
    ) -> Ints:
        """Return the integers at some points of some planes; as differences from ``guess`` where given."""
        x = self.targets[planes, *points].ravel()
        nearest: Ints = np.rint(x).astype(np.int64)
        if guess is not None:  # predicted planes are block means, where any error shows as a step
            return np.asarray(nearest - guess)
        some = np.flatnonzero(nearest)
        if not len(some):
            return nearest
        size, magnitude = np.abs(x[some]), np.abs(nearest[some])
        if len(some) < len(probabilities):  # with few coefficients, take logarithms of their tables only
            bits = -np.log2(probabilities[contexts[some]])
        else:
            bits = -np.log2(probabilities)[contexts[some]]
        bits[:, 1:] += 1  # the sign
        at = np.arange(len(some))
        best, least = magnitude, np.full(len(some), np.inf)
        for candidate in (magnitude, np.maximum(magnitude - 1, 0), np.zeros_like(magnitude)):
            above_one = np.where(candidate > 1, EXPECTED_OFFSETS[1], 0.0)
            offset = np.where(candidate == 1, EXPECTED_OFFSETS[0], above_one)
            cost = (size - candidate + offset) ** 2 + BIT_PRICE * bits[at, to_symbols(candidate)]
            better = cost < least
            best, least = np.where(better, candidate, best), np.where(better, cost, least)
        nearest[some] = np.where(x[some] < 0, -best, best)
        return nearest


def worth_coding(targets: Floats, price: Floats) -> Ints:
    """Return the indices of the components that reduce the error by more than they cost.

    Parameters
    ----------
    targets : ndarray (blocks, components)
        The coefficients in units of the step.
    price : ndarray (components,)
        Bits for the basis vector of each component.
    """
    blocks, component = np.nonzero(np.abs(targets) > 0.6)
    size = np.abs(targets[blocks, component])
    gain = size**2 - (size - np.rint(size - 0.1)) ** 2 - 5 * BIT_PRICE
    return np.flatnonzero(np.bincount(component, gain, targets.shape[1]) > BIT_PRICE * price)


def reconstruction_offsets(targets: Floats, values: Ints) -> tuple[int, int]:
    """Return how far decoded magnitudes are moved toward zero, in 1/32 step.

    Coefficients are denser near zero, so those that become the integer n are smaller than n on average.

    Parameters
    ----------
    targets, values : ndarray (components, blocks)
        The coefficients in units of the step, and the integers they became.

    Returns
    -------
    (int, int)
        The offset for magnitude 1, and the offset for greater magnitudes.
    """
    magnitude, size = np.abs(values), np.abs(targets)

    def offset(group: NDArray[np.bool_]) -> int:
        mean = float((magnitude - size)[group].mean()) if group.any() else 0.0
        return int(np.clip(np.rint(32 * mean), -15, 15))

    return offset(magnitude == 1), offset(magnitude > 1)


def reconstruction_levels(values: Ints, offsets: tuple[int, int]) -> Ints:
    """Return the coefficients that integers decode to, in units of step / 32."""
    magnitude = np.abs(values)
    offset = np.where(magnitude == 1, offsets[0], np.where(magnitude > 1, offsets[1], 0))
    return np.asarray(np.sign(values) * (32 * magnitude - offset))
