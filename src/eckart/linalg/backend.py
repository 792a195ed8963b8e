"""The array operations that differ between NumPy arrays and torch tensors.

Each route is written once, in terms of these operations and of `@`, `.T`, slicing and in-place
arithmetic, which both kinds of array share. Random numbers always come from NumPy, so a seed gives
the same sketch on every device.

A public routine prepares its matrix in three steps, in this order::

    matrix = as_matrix(A, call)                          # float32 or float64, NumPy or torch, or refused
    total = ops_for(matrix).energy(matrix)
    check_energy(matrix, total, call)                    # NaN, infinity or an extreme size is refused
    matrix, scale = scaled_to_safe_range(matrix, total)  # only if total > 0

After the last step, the routine multiplies the singular values that it returns by ``scale``. `check_energy`
comes before scaling because a NaN or an infinity makes every scale meaningless. A routine that works in
float64, or that calls one that scales, does not need the last step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array, Floats
from eckart.errors import MatrixError
from eckart.workers import Workers

# A NumPy array or a torch tensor on any device. torch is optional, and its type is unknown without it.
DeviceArray: TypeAlias = Any

THREADS = 2  # a sum of squares is limited by memory bandwidth, which two threads use up
BLOCK_ENTRIES = 1 << 18  # entries in a block of rows: 1 MB of float32, which stays in a core's cache
SAFE_RANGE = (1e-12, 1e12)  # root mean square of entries whose float32 products neither overflow nor vanish


class Ops(Protocol):
    """The operations on one kind of array."""

    def like(self, values: Array, array: DeviceArray) -> DeviceArray:
        """Return NumPy values as an array of the kind, dtype and device of ``array``."""

    def host(self, array: DeviceArray) -> Array:
        """Return an array as a NumPy array in main memory."""

    def dtype(self, array: DeviceArray) -> np.dtype[np.floating]:
        """Return the dtype as NumPy's, without copying any entry."""

    def concatenate(self, arrays: Sequence[DeviceArray], axis: int) -> DeviceArray:
        """Join arrays along an axis."""

    def orthonormal_rows(self, Y: DeviceArray, noise: float) -> tuple[DeviceArray, Floats]:
        """Split Y (b, n) = L Q with orthonormal rows in Q, dropping directions shorter than ``noise``."""

    def energy(self, A: DeviceArray) -> float:
        """Return the sum of squares, in float64."""

    def residual(self, A: DeviceArray, U: DeviceArray, s: Floats, Vh: DeviceArray) -> float:
        """Return ||A - U diag(s) Vh||_F^2, computed from the difference itself."""


class NumpyOps:
    """NumPy arrays."""

    def like(self, values: Array, array: Array) -> Array:
        return np.asarray(values, dtype=array.dtype)

    def host(self, array: Array) -> Array:
        return np.asarray(array)

    def dtype(self, array: Array) -> np.dtype[np.floating]:
        return array.dtype

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        return np.concatenate(arrays, axis)

    def orthonormal_rows(self, Y: Array, noise: float) -> tuple[Array, Floats]:
        wide = Y.astype(np.float64)
        Q, L = _orthonormal(wide, noise, quick=Y.dtype == np.float32)
        return Q.astype(Y.dtype), L

    def energy(self, A: Array) -> float:
        """Return the sum of squares, in float64, over cache-sized blocks of rows."""
        return _over_row_blocks(A, lambda rows: A[rows])

    def residual(self, A: Array, U: Array, s: Floats, Vh: Array) -> float:
        """Return ||A - U diag(s) Vh||_F^2, computed from the difference itself."""
        Us = U * self.like(s, U)
        return _over_row_blocks(A, lambda rows: A[rows] - Us[rows] @ Vh)


class TorchOps:
    """torch tensors on any device."""

    def like(self, values: Array, array: DeviceArray) -> DeviceArray:
        import torch

        return torch.tensor(np.asarray(values), dtype=array.dtype, device=array.device)

    def host(self, array: DeviceArray) -> Array:
        return np.asarray(array.detach().cpu().numpy())

    def dtype(self, array: DeviceArray) -> np.dtype[np.floating]:
        return np.dtype(str(array.dtype).removeprefix("torch."))  # "torch.float32" names NumPy's float32

    def concatenate(self, arrays: Sequence[DeviceArray], axis: int) -> DeviceArray:
        import torch

        return torch.cat(list(arrays), axis)

    def orthonormal_rows(self, Y: DeviceArray, noise: float) -> tuple[DeviceArray, Floats]:
        import torch

        Z, s, W = torch.linalg.svd(Y.double().T, full_matrices=False)  # thin: (n, b), (b,), (b, b)
        keep = int((s > noise).sum())
        return Z[:, :keep].T.to(Y.dtype).contiguous(), self.host(W[:keep].T * s[:keep])

    def energy(self, A: DeviceArray) -> float:
        return float(sum(float((A[rows].double() ** 2).sum()) for rows in row_blocks(*A.shape)))

    def residual(self, A: DeviceArray, U: DeviceArray, s: Floats, Vh: DeviceArray) -> float:
        Us = U * self.like(s, U)
        parts = (A[rows] - Us[rows] @ Vh for rows in row_blocks(*A.shape))
        return float(sum(float((part.double() ** 2).sum()) for part in parts))


NUMPY: Ops = NumpyOps()
TORCH: Ops = TorchOps()


def is_torch(array: object) -> TypeGuard[DeviceArray]:
    """Whether a value is a torch tensor. Does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def ops_for(array: DeviceArray) -> Ops:
    """Return the operations for the kind of array that ``array`` is."""
    return TORCH if is_torch(array) else NUMPY


def as_matrix(A: DeviceArray, call: str = "eckart.svd(A)", may_be_empty: bool = False) -> DeviceArray:
    """Return ``A`` as a float32 or float64 matrix, NumPy or torch as it came in, or refuse it.

    Parameters
    ----------
    A : array_like (m, n)
        float16, bfloat16 and float8 become float32; integers and lists become float64. Entries are not
        checked: see `check_energy`.
    call : str
        The call as messages show it.
    may_be_empty : bool
        Whether m or n may be 0.

    Raises
    ------
    MatrixError
        If ``A`` is not a matrix, is complex, masked, or not numeric.
    """
    if is_torch(A):
        return _torch_matrix(A, call, may_be_empty)
    array = as_array(A, call)
    if array.ndim != 2:
        raise MatrixError(call, f"expected a matrix, got an array of shape {array.shape}")
    if 0 in array.shape and not may_be_empty:
        raise MatrixError(call, f"expected at least one row and one column, got shape {array.shape}")
    if np.iscomplexobj(array):
        raise MatrixError(
            call, "expected real numbers, got complex ones", "Factor A.real and A.imag separately"
        )
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iub" or array.dtype == object:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            raise MatrixError(call, f"expected numbers, got dtype {array.dtype}") from None
    if array.dtype.kind == "f" or array.dtype in SMALL_FLOATS:
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    raise MatrixError(call, f"expected numbers, got dtype {array.dtype}")


def as_array(A: ArrayLike, call: str) -> Array:
    """Convert ``A`` to a NumPy array; refuse rows of different lengths and masked entries.

    Masks are refused because no computation here respects them.
    """
    if np.ma.is_masked(A):
        raise MatrixError(
            call, "expected a matrix of numbers, got masked entries", "Use A.filled(value) to fill them"
        )
    try:
        return np.asarray(A)
    except ValueError:
        raise MatrixError(call, "expected a matrix, got rows of different lengths") from None


SMALL_FLOATS = tuple(
    np.dtype(t) for t in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
)

# A sum of squares below this loses digits, because some squares underflow in float64.
LEAST_ENERGY = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)


def check_energy(A: DeviceArray, total: float, call: str) -> None:
    """Refuse a matrix whose energy shows a NaN, an infinity, or squares out of float64's range.

    Parameters
    ----------
    A : array (m, n)
        Searched for the entry to report, only if the energy is suspect.
    total : float
        ||A||_F^2 in float64.
    call : str
        The call as messages show it.

    Raises
    ------
    MatrixError
    """
    if np.isfinite(total) and total >= LEAST_ENERGY:
        return
    host = ops_for(A).host(A)
    bad = ~np.isfinite(host)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise MatrixError(
            call,
            f"{int(bad.sum())} of {bad.size} entries are NaN or infinite, the first at [{row}, {column}]",
            "Replace them with finite numbers",
        )
    largest = float(np.abs(host).max(initial=0.0))
    if largest > 0:
        raise MatrixError(
            call,
            f"the largest entry is {largest:.3g}; its sum of squares is out of float64's range",
            f"Divide the matrix by {largest:.3g}",
        )


def power_of_two(largest: float) -> float:
    """Return the largest power of two not above a number, which divides without rounding; 1 for 0."""
    return float(2.0 ** np.floor(np.log2(largest))) if largest > 0 else 1.0


def scaled_to_safe_range(A: DeviceArray, total: float) -> tuple[DeviceArray, float]:
    """Divide a matrix by a power of two if float32 squares of its entries could overflow or vanish.

    Parameters
    ----------
    A : array (m, n)
    total : float
        ||A||_F^2, not 0.

    Returns
    -------
    scaled : array (m, n)
        ``A`` itself if it needs no scaling.
    scale : float
        The divisor; 1 if ``A`` needs no scaling.
    """
    size = float(A.shape[0]) * float(A.shape[1])
    with np.errstate(divide="ignore", over="ignore"):
        typical = float(np.sqrt(total / size))
    if SAFE_RANGE[0] < typical < SAFE_RANGE[1]:
        return A, 1.0
    scale = power_of_two(float(abs(A).max()))
    return A / scale, scale


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Divide the rows of a matrix into slices of about ``BLOCK_ENTRIES`` entries."""
    step = max(1, BLOCK_ENTRIES // max(columns, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _orthonormal(Y: Floats, noise: float, quick: bool) -> tuple[Floats, Floats]:
    """Split Y = L Q with orthonormal rows in Q, dropping directions shorter than ``noise``.

    ``quick`` allows Cholesky of Y Y^T, which consists of products only. Its error is eps cond(Y)^2: in
    float64, below float32's own rounding for a condition up to 1e4. Worse conditions go to the SVD, because
    only the SVD shows which directions are real; the diagonal of an unpivoted triangle does not.
    """
    if quick:
        try:
            L = np.linalg.cholesky(Y @ Y.T)
        except np.linalg.LinAlgError:
            L = np.zeros((1, 1))
        diagonal = np.diag(L)
        if diagonal.min() > max(1e-3 * diagonal.max(), noise):
            return np.asarray(np.linalg.inv(L) @ Y), np.asarray(L, np.float64)
    W, s, Q = np.linalg.svd(Y, full_matrices=False)
    keep = int(np.count_nonzero(s > noise))
    return Q[:keep], np.asarray(W[:, :keep] * s[:keep], np.float64)


def _over_row_blocks(A: Array, part: Callable[[slice], Array]) -> float:
    """Sum the squares of ``part(rows)`` over blocks of rows, in float64 and in a fixed order."""

    def squares(rows: slice) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks the sum
            flat = part(rows).ravel().astype(np.float64)
            return float(np.dot(flat, flat))

    blocks = row_blocks(*A.shape)
    if len(blocks) < 8:
        return float(sum(map(squares, blocks)))
    with Workers(THREADS) as pool:
        return float(sum(pool.map(squares, blocks)))


def _torch_matrix(A: DeviceArray, call: str, may_be_empty: bool) -> DeviceArray:
    import torch

    if A.ndim != 2 or (0 in A.shape and not may_be_empty):
        raise MatrixError(call, f"expected a matrix, got a tensor of shape {tuple(A.shape)}")
    if A.is_complex():
        raise MatrixError(
            call, "expected real numbers, got complex ones", "Factor A.real and A.imag separately"
        )
    A = A.detach()
    if A.dtype in (torch.float32, torch.float64):
        return A
    return A.float() if A.is_floating_point() else A.double()
