"""The update of one tensor, tuned minus base, and everything that one pass over it can measure."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from eckart.arrays import Array, DType, Floats
from eckart.checkpoint import TensorInfo, is_float, mantissa_bits, to_float
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.numbers import as_matrix, energy_of, name_non_finite
from eckart.errors import CheckpointError
from eckart.rank import noise_edge

BLOCK_ENTRIES = (
    1 << 16
)  # numbers in a block of rows: three of float32 and one of float64 stay in a core's cache


@dataclass(frozen=True)
class Delta:
    """An update and its measures.

    Parameters
    ----------
    matrix : ndarray (m, n), float32 or float64
        tuned - base, subtracted in float32, or in float64 if either checkpoint is float64.
    energy : float
        ||tuned - base||_F^2, summed in float64.
    base_energy : float
        ||base||_F^2; 0 for a single checkpoint.
    unchanged : int
        Entries that are equal in both.
    noise_floor : float or None
        Largest singular value that the checkpoints' own rounding is expected to cause; None if not asked for.
    """

    matrix: Array
    energy: float
    base_energy: float
    unchanged: int
    noise_floor: float | None


def read_delta(
    base: TensorInfo | None, tuned: TensorInfo, rows: int | None = None, noise: bool = False
) -> Delta:
    """Read two tensors block by block and subtract them.

    Parameters
    ----------
    base : TensorInfo or None
        None to read ``tuned`` itself, for a single checkpoint.
    tuned : TensorInfo
    rows : int, optional
        Compare only the first rows, where a vocabulary has grown.
    noise : bool
        Also compute the noise floor from both dtypes.

    Raises
    ------
    CheckpointError
        If an entry is NaN or infinite: which tensor, how many, and the first position.

    Notes
    -----
    The noise of an entry x stored with p bits of mantissa is uniform with variance ulp(x)^2 / 12,
    ulp(x) = 2^(floor(log2 |x|) - p); the two sides' variances add. Where the base was the exact
    start of the fine-tune, its own rounding is not noise, and the floor is too high by at most a
    factor sqrt(2), which errs on the side of calling a component noise.
    """
    ours = as_matrix(map_tensor(tuned), rows)
    theirs = None if base is None else as_matrix(map_tensor(base), rows)
    m, n = ours.shape
    wide = any(side is not None and side.dtype == np.float64 for side in (ours, theirs))
    dtype = np.dtype(np.float64 if wide else np.float32)
    D = np.empty((m, n), dtype)
    step = min(max(1, BLOCK_ENTRIES // max(n, 1)), max(m, 1))
    block, other = np.empty((step, n), dtype), np.empty((step, n), dtype)
    squares = np.empty(step * n)
    row_noise, column_noise = np.zeros(m), np.zeros(n)
    energy = base_energy = 0.0
    unchanged = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, m, step):
            height = min(step, m - start)
            part = slice(start, start + height)
            update, count = D[part], height * n
            mine = _float_block(ours[part], block[:height])
            if noise:
                _add_noise(mine, ours.dtype, row_noise[part], column_noise)
            if theirs is None:
                update[...] = mine
            else:
                weight = _float_block(theirs[part], other[:height])
                if noise:
                    _add_noise(weight, theirs.dtype, row_noise[part], column_noise)
                base_energy += _sum_of_squares(weight)
                np.subtract(mine, weight, out=update)
                unchanged += count - int(np.count_nonzero(update != 0))
            np.copyto(squares[:count], update.reshape(-1))
            energy += float(np.dot(squares[:count], squares[:count]))
    if not np.isfinite(energy):
        name_non_finite(tuned, rows)
        if base is not None:
            name_non_finite(base, rows)
        raise CheckpointError(
            f"{tuned.file}: {tuned.name}",
            f"the update overflows {dtype.name}",
            "Compare float64 copies",
        )
    floor = noise_edge(row_noise, column_noise) if noise else None
    return Delta(D, energy, base_energy, unchanged, floor)


def _float_block(block: Array, out: Array) -> Array:
    if not is_float(block.dtype) or (block.dtype != out.dtype and out.dtype == np.float64):
        out[...] = block
        return out
    return to_float(block, out)


def _add_noise(block: Array, stored: DType, rows: Floats, columns: Floats) -> None:
    """Add ulp^2 / 12 of every entry to the sums of its row and its column."""
    if not is_float(stored) or stored == np.float64:
        return
    bits = mantissa_bits(stored)
    # The exponent bits of a float32 alone are 2^floor(log2 |x|), with no logarithm taken. Below its
    # smallest normal number a format's spacing stays what it is there.
    power = (block.astype(np.float32).view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
    least = float(ml_dtypes.finfo(stored).smallest_normal)  # type: ignore[no-untyped-call]
    squares = np.square(np.maximum(power.astype(np.float64), least)) * (4.0**-bits / 12)
    rows += squares.sum(axis=1)
    columns += squares.sum(axis=0)


def _sum_of_squares(block: Array) -> float:
    """Sum the squares of a block of the base: in float32, accurate to 1e-6, unless they leave its range."""
    in_float32 = float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
    if 1e-25 < in_float32 < 1e35:
        return in_float32
    return energy_of(block)
