"""Matrices and stacks of matrices, checked, and their thin SVD in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import Floats, is_torch, ops_for

Numbers = NDArray[Any]  # float64 or complex128


def as_stack(A: ArrayLike, call: str) -> tuple[Numbers, np.dtype[Any]]:
    """Return ``A`` (..., m, n) in double precision, and the dtype that results should have.

    float32 and complex64 stay what they are in results; smaller floats become float32; integers,
    booleans and lists float64. Everything between is double: it costs twice the time of single
    precision, and squares no condition number into nothing.
    """
    array, dtype = as_numbers(A, call)
    if array.ndim < 2:
        raise MatrixError(call, f"expected a matrix or a stack of them, got shape {array.shape}")
    return array, dtype


def as_numbers(A: ArrayLike, call: str) -> tuple[Numbers, np.dtype[Any]]:
    """Return an array of any shape in double precision, checked, and the dtype of results."""
    if is_torch(A):
        A = ops_for(A).host(A.float() if A.is_floating_point() and A.itemsize < 4 else A)  # type: ignore[union-attr]
    try:
        array = np.asarray(A)
    except ValueError:
        raise MatrixError(call, "expected numbers, got rows of different lengths") from None
    kind = array.dtype
    result: np.dtype[Any]
    if kind.kind in "Oiub":
        result = np.dtype(np.float64)
    elif kind.kind == "c":
        result = kind if kind == np.complex64 else np.dtype(np.complex128)
    else:
        result = np.dtype(np.float32 if kind.itemsize <= 4 else np.float64)
    if kind.kind in "USMm":
        raise MatrixError(call, f"expected numbers, got dtype {kind}")
    try:
        wide: Numbers = array.astype(np.complex128 if result.kind == "c" else np.float64)
    except (TypeError, ValueError):
        raise MatrixError(call, f"expected numbers, got dtype {kind}") from None
    finite = np.isfinite(wide)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise MatrixError(
            call,
            f"{int((~finite).sum())} of {wide.size} entries are NaN or infinite, the first at {list(where)}",
            "Mend or mask them first",
        )
    return wide, result


def thin_svd(A: Numbers) -> tuple[Numbers, Floats, Numbers]:
    """Return U (..., m, k), s (..., k) and Vh (..., k, n) of a checked stack, k = min(m, n).

    Divide and conquer; where it does not converge, which happens with some builds of LAPACK, QR
    iteration, matrix by matrix.
    """
    try:
        U, s, Vh = np.linalg.svd(A, full_matrices=False)
    except np.linalg.LinAlgError:
        import scipy.linalg

        flat = A.reshape(-1, *A.shape[-2:])
        each = [scipy.linalg.svd(M, full_matrices=False, lapack_driver="gesvd") for M in flat]
        U, s, Vh = (
            np.stack(parts).reshape(*A.shape[:-2], *parts[0].shape) for parts in zip(*each, strict=True)
        )
    return U, s, Vh


def cut_off(
    s: Floats, shape: tuple[int, ...], dtype: np.dtype[Any], rtol: ArrayLike | None, call: str
) -> Floats:
    """Return the tolerance (..., 1) at or under which a singular value counts as zero.

    ``rtol`` times the largest; by default max(m, n) eps of the dtype that the data came in, which
    is NumPy's for `matrix_rank`: about the size of what rounding the entries does to a singular value.
    """
    if rtol is None:
        relative: Floats = np.asarray(max(shape[-2:]) * np.finfo(dtype).eps, np.float64)
    else:
        relative = np.asarray(rtol, np.float64)
        if not (relative >= 0).all():
            raise UsageError(call, f"expected rtol of at least 0, got {rtol}")
    return np.asarray(relative[..., None] * s.max(axis=-1, keepdims=True, initial=0.0))


def conjugate_transpose(A: Numbers) -> Numbers:
    """Return A^H (..., n, m); for real numbers a view."""
    flipped = np.swapaxes(A, -1, -2)
    return flipped.conj() if A.dtype.kind == "c" else flipped
