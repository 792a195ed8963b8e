"""Norms of changes, and of what an adapter leaves of them, measured from the files a block at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eckart.adapter.adapter import Module
from eckart.arrays import Array, DType
from eckart.checkpoint import TensorInfo, to_float
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.numbers import as_matrix, name_non_finite
from eckart.errors import AdapterError
from eckart.extraction.energies import BLOCK_ENTRIES, squares
from eckart.linalg.backend import power_of_two
from eckart.store.sources import PairedSource

# Root mean squares of an update between which a product of its factors, and the squares of its entries, keep
# all their digits: float32 products from float32 factors, and float64 squares.
SAFE = {np.dtype(np.float32): (1e-25, 1e25), np.dtype(np.float64): (1e-140, 1e140)}


@dataclass(frozen=True)
class Norms:
    """What is measured of one update.

    Parameters
    ----------
    update : float
        ||dW||_F.
    lost : float
        ||dW - B A||_F.
    """

    update: float
    lost: float


def measure_update(source: PairedSource, module: Module | None = None) -> Norms:
    """Measure an update, and what the factors of a module leave of it.

    Parameters
    ----------
    source : PairedSource
        The tensor in both checkpoints.
    module : Module, optional
        The factors, in the orientation of the stored tensor. If the vocabulary shrank, they may cover the
        rows of the base alone too, whose intended update is zero. Without it, everything is lost.

    Returns
    -------
    Norms

    Raises
    ------
    CheckpointError
        If an entry of a checkpoint is NaN or infinite.
    AdapterError
        If the update or the product of the factors overflows.

    Notes
    -----
    The arithmetic is float64 if a checkpoint or the adapter is float64, and float32 otherwise; squares are
    summed in float64. If squares or products of such magnitudes would lose digits, everything is measured
    again in float64, divided by powers of two.
    """
    kinds = {map_tensor(info).dtype for info in (source.tuned, source.base)}
    kinds |= {module.left.dtype, module.right.dtype} if module is not None else set()
    work = np.dtype(np.float64 if np.dtype(np.float64) in kinds else np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        norms = _norms(source, work, _Scaled.factors(module, work))
        if not _is_reliable(norms, source, work):
            norms = _norms(source, np.dtype(np.float64), _Scaled.to_unit(source, module))
    if not math.isfinite(norms.update + norms.lost):
        name_non_finite(source.tuned, source.rows)
        name_non_finite(source.base, source.rows)
        raise AdapterError(source.name, "the update or its factors overflow float64")
    return norms


def _is_reliable(norms: Norms, source: PairedSource, work: DType) -> bool:
    """Return whether no square or product of an update of this size loses digits."""
    if norms.update == 0 and norms.lost == 0 and work == np.float32:
        return True  # squares of float32 numbers do not vanish in float64
    least, most = SAFE[work]
    typical = norms.update / math.sqrt(max(math.prod(source.shape), 1))
    return least < typical < most and math.isfinite(norms.lost)


@dataclass(frozen=True)
class _Scaled:
    """The factors of a module, and the powers of two by which the update and the rest are divided.

    Parameters
    ----------
    left, right : ndarray or None
        Their product is B A / unit.
    unit : float
        The divisor of dW - B A.
    update_unit : float
        The divisor of dW.
    """

    left: Array | None
    right: Array | None
    unit: float = 1.0
    update_unit: float = 1.0

    @classmethod
    def factors(cls, module: Module | None, work: DType) -> _Scaled:
        """Return the factors as they are, in the dtype of the arithmetic."""
        if module is None:
            return cls(None, None)
        left, right = module.product() if work == np.float64 else module.float_factors()
        return cls(left, right)

    @classmethod
    def to_unit(cls, source: PairedSource, module: Module | None) -> _Scaled:
        """Return the factors, divided like the update so that the largest entries are near 1."""
        wide = np.dtype(np.float64)
        update_unit = power_of_two(
            max((_largest(update) for _, update in _updates(source, wide)), default=0.0)
        )
        if module is None:
            return cls(None, None, update_unit, update_unit)
        left, right = module.product()
        left_unit, right_unit = power_of_two(_largest(left)), power_of_two(_largest(right))
        unit = max(update_unit, left_unit * right_unit)
        right = right / right_unit * (left_unit * right_unit / unit)
        return cls(left / left_unit, right, unit, update_unit)


def _norms(source: PairedSource, work: DType, scaled: _Scaled) -> Norms:
    """Sum the squares of an update, and of what the factors leave of it, a block of rows at a time."""
    left, right, unit = scaled.left, scaled.right, scaled.unit
    energy = lost = 0.0
    rows = 0
    for part, update in _updates(source, work):
        energy += squares(_divided(update, scaled.update_unit))
        rows = part.stop
        if left is not None and right is not None:
            lost += squares(_divided(update, unit) - left[part] @ right)
    norm = math.sqrt(energy) * scaled.update_unit
    if left is None or right is None:
        return Norms(norm, norm)
    lost += squares(left[rows:] @ right)  # rows of the base alone: the intended update is zero
    return Norms(norm, math.sqrt(lost) * unit)


def opposite_norm(norms: Norms, module: Module) -> float:
    """Return ||-dW - B A||_F, which is what would be lost if the two checkpoints were exchanged.

    Parameters
    ----------
    norms : Norms
        As measured for dW - B A.
    module : Module
        The factors, in either orientation.

    Notes
    -----
    ||x - y||^2 + ||x + y||^2 = 2 ||x||^2 + 2 ||y||^2, and ||B A|| follows from two Gram matrices of size r.
    """
    left, right = module.product()
    units = [power_of_two(_largest(left)), power_of_two(_largest(right))]
    left, right = left / units[0], right / units[1]
    product = math.sqrt(max(float(((left.T @ left) * (right @ right.T)).sum()), 0.0)) * units[0] * units[1]
    largest = max(norms.update, norms.lost, product)
    if not largest:
        return 0.0
    update, lost, product = norms.update / largest, norms.lost / largest, product / largest
    return largest * math.sqrt(max(2 * update**2 + 2 * product**2 - lost**2, 0.0))


def _updates(source: PairedSource, work: DType) -> Iterator[tuple[slice, Array]]:
    """Yield tuned - base in blocks of rows."""
    tuned = as_matrix(map_tensor(source.tuned), source.rows)
    base = as_matrix(map_tensor(source.base), source.rows)
    rows, columns = tuned.shape
    step = max(1, BLOCK_ENTRIES // max(columns, 1))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        yield part, to_float(tuned[part]).astype(work, copy=False) - to_float(base[part])


def matrix_shape(info: TensorInfo) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix whose rows are its first axis."""
    rows, *columns = info.shape if len(info.shape) > 1 else (1, info.size)
    return rows, math.prod(columns)


def relative_norm(lost: float, update: float) -> float | None:
    """Return the relative error of an update; 0 if both are zero, None if only the update is zero."""
    if update == 0:
        return 0.0 if lost == 0 else None
    return lost / update


def _divided(array: Array, unit: float) -> Array:
    return array if unit == 1.0 else array / unit


def _largest(array: Array) -> float:
    return float(np.abs(array).max(initial=0.0))
