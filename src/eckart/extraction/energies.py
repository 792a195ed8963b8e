"""Energies of changes without factors, and of what a bias, a whole tensor or some rows leave of them."""

from __future__ import annotations

import math

import numpy as np

from eckart.adapter.adapter import Module, Rows
from eckart.arrays import Array, Floats
from eckart.checkpoint import TensorInfo, to_float
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.numbers import name_non_finite
from eckart.errors import CheckpointError
from eckart.extraction.change import Region, TensorPart
from eckart.store.sources import PairedSource

BLOCK_ENTRIES = 1 << 21  # numbers held at a time


def entry_changes(source: PairedSource) -> Array:
    """Return tuned - base of a small tensor, in its shape, in float32 or in float64 if either is float64."""
    tuned, base = map_tensor(source.tuned), map_tensor(source.base)
    return np.asarray(to_float(tuned) - to_float(base))


def energy_lost_by_bias(source: PairedSource, module: Module) -> float:
    """Return ||change - scale * bias||^2: what the stored update of a bias leaves of its change.

    Parameters
    ----------
    source : PairedSource
        The bias in both checkpoints.
    module : Module
        The module that has an update of this bias.
    """
    assert module.bias is not None  # the caller has checked it
    stored = module.bias.astype(np.float64) * module.scale  # as PEFT adds it
    return squares(entry_changes(source).astype(np.float64) - stored)


def energy_lost_by_whole(part: TensorPart, array: Array) -> float:
    """Return ||tuned - array||^2 over the rows of a part, for a tensor that the adapter saves whole.

    Parameters
    ----------
    part : TensorPart
        The tensor, or its new rows.
    array : ndarray
        The tensor as the adapter holds it.
    """
    tuned = map_tensor(part.tuned)
    if array.shape != tuned.shape:
        return stored_energy(part.tuned, part.start)
    if not tuned.ndim:
        return squares(to_float(tuned) - to_float(array))
    shared = part.source.rows if part.source is not None and part.region is Region.SHARED else None
    step = max(1, BLOCK_ENTRIES // max(math.prod(tuned.shape[1:]), 1))
    end = len(tuned) if shared is None else shared
    blocks = (slice(first, min(first + step, end)) for first in range(part.start, end, step))
    return sum(squares(to_float(tuned[block]) - to_float(array[block])) for block in blocks)


def energy_lost_by_rows(part: TensorPart, rows: Rows, energy: float) -> float:
    """Return the energy of a part that is left where an adapter replaces some rows of its tensor.

    Parameters
    ----------
    part : TensorPart
        The tensor, or its new rows.
    rows : Rows
        The rows as the adapter holds them.
    energy : float
        The energy of the whole part.
    """
    tuned = map_tensor(part.tuned)
    base = map_tensor(part.source.base) if part.source is not None else tuned[:0]
    stop = len(base) if part.is_shared else len(tuned)
    for row, value in zip(rows.indices, rows.values, strict=True):
        if part.start <= row < min(stop, len(tuned)):
            change = to_float(tuned[row]) - (to_float(base[row]) if part.is_shared else 0)
            energy += squares(to_float(tuned[row]) - to_float(value)) - squares(np.asarray(change))
    return max(energy, 0.0)


def stored_energy(info: TensorInfo, start: int = 0) -> float:
    """Return the sum of the squares of a stored tensor, or of its rows from a given one on.

    Parameters
    ----------
    info : TensorInfo
        The tensor.
    start : int
        The first row.

    Raises
    ------
    CheckpointError
        If an entry is NaN or infinite, or the sum overflows.
    """
    array = map_tensor(info)
    rows = array[start:] if array.ndim else array
    flat = rows.reshape(-1)
    energy = sum(squares(flat[i : i + BLOCK_ENTRIES]) for i in range(0, flat.size, BLOCK_ENTRIES))
    if not math.isfinite(energy):
        name_non_finite(info)
        raise CheckpointError(f"{info.file}: {info.name}", "the sum of its squares overflows float64")
    return energy


def squares(array: Array) -> float:
    """Return the sum of the squares of a tensor's entries, in float64."""
    flat: Floats = to_float(array).astype(np.float64, copy=False).reshape(-1)
    return float(np.dot(flat, flat))
