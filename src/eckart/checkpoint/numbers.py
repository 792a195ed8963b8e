"""Numbers of a tensor as stored: as a matrix, its energy, and a search for NaN and infinity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint.dtypes import to_float
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import CheckpointError


def as_matrix(array: NDArray[Any], rows: int | None) -> NDArray[Any]:
    """View a tensor of any number of axes as a matrix with its first axis as rows."""
    if array.ndim < 2:
        return array.reshape(1, -1)
    kept = array[:rows]
    return kept.reshape(len(kept), math.prod(array.shape[1:]))


def energy_of(array: NDArray[Any]) -> float:
    """Return the sum of squares of a tensor of any dtype, in float64."""
    return float((to_float(array).astype(np.float64) ** 2).sum())


def name_non_finite(info: TensorInfo, rows: int | None = None) -> None:
    """Raise if a tensor holds a NaN or an infinity: how many, and where the first is."""
    stored = map_tensor(info)[:rows] if len(info.shape) else map_tensor(info)
    bad = ~np.isfinite(stored.astype(np.float32) if stored.dtype.itemsize < 4 else stored)
    if bad.any():
        first = [int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)]
        raise CheckpointError(
            f"{info.file}: {info.name}",
            f"{int(bad.sum())} of {bad.size} entries of shape {list(info.shape)} are NaN or infinite, "
            f"the first at {first}",
            "Mend the checkpoint, or leave the tensor out with --exclude",
        )
