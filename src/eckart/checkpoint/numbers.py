"""Stored tensors as numbers: a matrix view, the energy, and a check for NaN and infinity."""

from __future__ import annotations

import math

import numpy as np

from eckart.arguments import argument
from eckart.arrays import Array
from eckart.checkpoint.dtypes import to_float
from eckart.checkpoint.mapping import map_tensor
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import CheckpointError
from eckart.text import clip


def as_matrix(array: Array, rows: int | None) -> Array:
    """View a tensor as a matrix whose rows are its first axis.

    Parameters
    ----------
    array : ndarray, any shape
        A vector or scalar becomes a matrix of one row.
    rows : int or None
        Number of leading rows to keep of a tensor with two or more axes; None keeps all.

    Returns
    -------
    ndarray (m, n)
        A view if possible.
    """
    if array.ndim < 2:
        return array.reshape(1, -1)
    kept = array[:rows]
    return kept.reshape(len(kept), math.prod(array.shape[1:]))


def energy_of(array: Array) -> float:
    """Return the sum of the squares of a tensor.

    Parameters
    ----------
    array : ndarray, any shape
        Numbers of any dtype of `DTYPES`.

    Returns
    -------
    float
        The sum, computed in float64.
    """
    return float((to_float(array).astype(np.float64, copy=False) ** 2).sum())


def name_non_finite(info: TensorInfo, rows: int | None = None) -> None:
    """Raise if a stored tensor holds a NaN or an infinity.

    Parameters
    ----------
    info : TensorInfo
        The tensor, which is read.
    rows : int, optional
        Number of leading rows to check. By default all are checked.

    Raises
    ------
    CheckpointError
        If an entry is not finite. The message gives the number of such entries and the index of the first.
    """
    stored = map_tensor(info)[:rows] if len(info.shape) else map_tensor(info)
    bad = ~np.isfinite(stored.astype(np.float32) if stored.dtype.itemsize < 4 else stored)
    if bad.any():
        first = [int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)]
        raise CheckpointError(
            f"{info.file}: {clip(info.name)}",
            f"{int(bad.sum())} of {bad.size} entries of shape {list(info.shape)} are NaN or infinite, "
            f"the first at {first}",
            f"Repair the checkpoint, or skip the tensor with {argument('exclude')}",
        )
