"""The update of one tensor, tuned minus base, and what is measured while it is read."""

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
from eckart.text import clip

# Entries in a block of rows: three blocks of float32 and one of float64 stay in a core's cache.
BLOCK_ENTRIES = 1 << 16

# Energies that float64 holds with all digits, also as sums over many tensors. A smaller one, of an update
# below 1e-145, counts as zero: next to any other update it does not change a sum.
ENERGIES = (1e-290, 1e300)


@dataclass(frozen=True)
class Delta:
    """An update and what was measured on it.

    Parameters
    ----------
    matrix : ndarray (m, n), float32 or float64
        tuned - base, subtracted in float32, or in float64 if either tensor is float64.
    energy : float
        ||tuned - base||_F^2, summed in float64; 0 if it is below 1e-290.
    base_energy : float
        ||base||_F^2; 0 for a single checkpoint.
    unchanged : int
        Number of entries that are equal in both.
    noise_floor : float or None
        Largest singular value that rounding of the checkpoints is expected to cause; None if not computed.
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
        The tensor in the base. None reads ``tuned`` itself, for a single checkpoint.
    tuned : TensorInfo
        The tensor in the tuned checkpoint.
    rows : int, optional
        Number of leading rows to compare, if the vocabulary was resized; all by default.
    noise : bool
        Whether to compute the noise floor from both dtypes.

    Returns
    -------
    Delta
        The update and what was measured on it.

    Raises
    ------
    CheckpointError
        If an entry is NaN or infinite, or the update overflows. The message names the tensor.

    Notes
    -----
    Rounding an entry x to p bits of mantissa is modelled as uniform noise with variance ulp(x)^2 / 12, where
    ulp(x) = 2^(floor(log2 |x|) - p). The variances of both checkpoints add up. If fine-tuning started from
    exactly this base, its rounding is not noise, and the floor is too high by a factor of at most sqrt(2),
    which is on the safe side: a weak component may be taken for noise.
    """
    tuned_matrix = as_matrix(map_tensor(tuned), rows)
    base_matrix = None if base is None else as_matrix(map_tensor(base), rows)
    m, n = tuned_matrix.shape
    wide = any(side is not None and side.dtype == np.float64 for side in (tuned_matrix, base_matrix))
    dtype = np.dtype(np.float64 if wide else np.float32)
    D = np.empty((m, n), dtype)
    step = min(max(1, BLOCK_ENTRIES // max(n, 1)), max(m, 1))
    tuned_buffer, base_buffer = np.empty((step, n), dtype), np.empty((step, n), dtype)
    squares = np.empty(step * n)
    row_noise, column_noise = np.zeros(m), np.zeros(n)
    energy = base_energy = 0.0
    unchanged = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, m, step):
            height = min(step, m - start)
            part = slice(start, start + height)
            update, count = D[part], height * n
            tuned_block = _float_block(tuned_matrix[part], tuned_buffer[:height])
            if noise:
                _add_noise(tuned_block, tuned_matrix.dtype, row_noise[part], column_noise)
            if base_matrix is None:
                update[...] = tuned_block
            else:
                base_block = _float_block(base_matrix[part], base_buffer[:height])
                if noise:
                    _add_noise(base_block, base_matrix.dtype, row_noise[part], column_noise)
                base_energy += _sum_of_squares(base_block)
                np.subtract(tuned_block, base_block, out=update)
                unchanged += count - int(np.count_nonzero(update != 0))
            np.copyto(squares[:count], update.reshape(-1))
            energy += float(np.dot(squares[:count], squares[:count]))
    if not energy < ENERGIES[1]:
        name_non_finite(tuned, rows)
        if base is not None:
            name_non_finite(base, rows)
        raise CheckpointError(
            f"{tuned.file}: {clip(tuned.name)}",
            f"the update overflows {dtype.name}" + (", once it is squared" if wide else ""),
            "Divide both checkpoints by the same power of two"
            if wide
            else "Save both checkpoints as float64",
        )
    if energy < ENERGIES[0]:
        energy = 0.0
    floor = noise_edge(row_noise, column_noise) if noise else None
    return Delta(D, energy, base_energy, unchanged, floor)


def _float_block(block: Array, out: Array) -> Array:
    """Convert a block to the dtype of ``out``, which receives it."""
    if not is_float(block.dtype) or (block.dtype != out.dtype and out.dtype == np.float64):
        out[...] = block
        return out
    return to_float(block, out)


def _add_noise(block: Array, stored: DType, rows: Floats, columns: Floats) -> None:
    """Add ulp^2 / 12 of every entry to the sums of its row and its column."""
    if not is_float(stored) or stored == np.float64:
        return
    bits = mantissa_bits(stored)
    # The exponent bits of a float32 alone represent 2^floor(log2 |x|), so no logarithm is needed. Below the
    # smallest normal number of a format, the spacing of its numbers is constant.
    power = (block.astype(np.float32).view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
    least = float(ml_dtypes.finfo(stored).smallest_normal)  # type: ignore[no-untyped-call]
    squares = np.square(np.maximum(power.astype(np.float64), least)) * (4.0**-bits / 12)
    rows += squares.sum(axis=1)
    columns += squares.sum(axis=0)


def _sum_of_squares(block: Array) -> float:
    """Sum the squares of a block of the base, in float32 (accurate to 1e-6) unless they leave its range."""
    in_float32 = float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
    if 1e-25 < in_float32 < 1e35:
        return in_float32
    return energy_of(block)
