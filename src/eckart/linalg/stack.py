"""Checked matrices and stacks of matrices, and their thin SVD in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array, Floats
from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import SMALL_FLOATS, as_array, is_torch, ops_for, power_of_two

Numbers = Array  # real or complex, in double precision


def as_stack(A: ArrayLike, call: str) -> tuple[Numbers, np.dtype]:
    """Return a matrix or stack of matrices in double precision, and the dtype of results.

    Parameters
    ----------
    A : array_like (..., m, n)
    call : str
        The call as messages show it.

    Returns
    -------
    wide : ndarray (..., m, n), float64 or complex128
    dtype : dtype
        float32 and complex64 are kept in results; smaller floats become float32; integers, booleans
        and lists float64.

    Raises
    ------
    MatrixError
        If A has fewer than two axes, is not numeric, or holds a NaN or an infinity.

    Notes
    -----
    Computing in double precision costs twice the time of single precision, and keeps the digits that
    squared condition numbers would take from single precision.
    """
    array, dtype = as_numbers(A, call)
    if array.ndim < 2:
        raise MatrixError(call, f"expected a matrix or a stack of matrices, got shape {array.shape}")
    return array, dtype


def as_numbers(A: ArrayLike, call: str) -> tuple[Numbers, np.dtype]:
    """Return an array of any shape in double precision, and the dtype of results: see `as_stack`."""
    if is_torch(A):
        A = ops_for(A).host(A.float() if A.is_floating_point() and A.itemsize < 4 else A)
    array = as_array(A, call)
    kind = array.dtype
    result: np.dtype
    if kind.kind in "Oiub":
        result = np.dtype(np.float64)
    elif kind.kind == "c":
        result = kind if kind == np.complex64 else np.dtype(np.complex128)
    elif kind.kind == "f" or kind in SMALL_FLOATS:
        result = np.dtype(np.float32 if kind.itemsize <= 4 else np.float64)
    else:
        raise MatrixError(call, f"expected numbers, got dtype {kind}")
    try:
        wide: Numbers = array.astype(np.complex128 if result.kind == "c" else np.float64)
    except (TypeError, ValueError, OverflowError):
        raise MatrixError(call, f"expected numbers, got dtype {kind}") from None
    finite = np.isfinite(wide)
    if not finite.all():
        where = [int(i) for i in np.argwhere(~finite)[0]]
        raise MatrixError(
            call,
            f"{int((~finite).sum())} of {wide.size} entries are NaN or infinite, the first at {where}",
            "Replace them with finite numbers",
        )
    return wide, result


def thin_svd(A: Numbers) -> tuple[Numbers, Floats, Numbers]:
    """Return U (..., m, k), s (..., k) and Vh (..., k, n) of a checked stack, k = min(m, n).

    Uses divide and conquer. If that does not converge, which happens with some builds of LAPACK, uses QR
    iteration, one matrix at a time.
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


def hermitian_svd(A: Numbers, call: str) -> tuple[Numbers, Floats, Numbers]:
    """Return the SVD of Hermitian matrices from their eigenvalues; only lower triangles are read."""
    check_square(A, call)
    values, V = np.linalg.eigh(A)
    order = np.argsort(-np.abs(values), axis=-1)
    values, V = np.take_along_axis(values, order, -1), np.take_along_axis(V, order[..., None, :], -1)
    return V * np.sign(values)[..., None, :], np.abs(values), conjugate_transpose(V)


def hermitian_values(A: Numbers, call: str) -> Floats:
    """Return the singular values of a stack of Hermitian matrices, largest first."""
    check_square(A, call)
    return np.sort(np.abs(np.linalg.eigvalsh(A)), axis=-1)[..., ::-1]


def check_square(A: Numbers, call: str) -> None:
    """Refuse matrices that are not square."""
    if A.shape[-1] != A.shape[-2]:
        raise MatrixError(call, f"expected square matrices, got shape {A.shape}")


def cut_off(s: Floats, shape: tuple[int, ...], dtype: np.dtype, rtol: ArrayLike | None, call: str) -> Floats:
    """Return the tolerance (..., 1) at or below which a singular value counts as zero.

    The tolerance is ``rtol`` times the largest value. The default is max(m, n) eps of the dtype that the
    data came in, as in NumPy's `matrix_rank`: about the effect of rounding the entries on a singular value.
    """
    if rtol is None:
        relative: Floats = np.asarray(max(shape[-2:]) * np.finfo(dtype).eps, np.float64)
    else:
        relative = as_tolerance(rtol, "rtol", shape[:-2], call)
    return np.asarray(relative[..., None] * s.max(axis=-1, keepdims=True, initial=0.0))


def as_tolerance(value: ArrayLike, name: str, stack: tuple[int, ...], call: str) -> Floats:
    """Return a tolerance as an array: one number for all matrices of a stack, or one for each."""
    try:
        tolerance = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise UsageError(call, f"expected a number for {name}, got {value!r}") from None
    if not (tolerance >= 0).all():
        raise UsageError(call, f"expected {name} of at least 0, got {value!r}")
    try:
        np.broadcast_shapes(tolerance.shape, stack)
    except ValueError:
        raise UsageError(call, f"{name} of shape {tolerance.shape} does not fit a stack of {stack}") from None
    return tolerance


def at_most_one(
    call: str, first: tuple[str, ArrayLike | None], second: tuple[str, ArrayLike | None]
) -> ArrayLike | None:
    """Return the argument that was given of two, or None; refuse both together.

    Parameters
    ----------
    call : str
        The call as messages show it.
    first, second : (str, value)
        Name and value of each argument; None for one that was not given.
    """
    if first[1] is not None and second[1] is not None:
        raise UsageError(call, f"expected {first[0]} or {second[0]}, got both")
    return second[1] if first[1] is None else first[1]


def to_dtype(result: Numbers, dtype: np.dtype, call: str) -> Numbers:
    """Return a result in its dtype; raise MatrixError if it is out of that dtype's range."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = result.astype(dtype)
    if not np.isfinite(narrow).all():
        raise MatrixError(call, f"the result is out of {dtype}'s range", "Scale the data by a power of ten")
    return narrow


def relative_difference(actual: Numbers, expected: Numbers) -> float:
    """Return ||actual - expected||_F / ||expected||_F, at any scale; absolute if ``expected`` is zero."""
    largest = max(float(np.abs(M).max(initial=0.0)) for M in (actual, expected))
    if not np.isfinite(largest):
        return float("inf")
    unit = power_of_two(largest)  # keeps the squares inside norms in range
    size = float(np.linalg.norm(expected / unit))
    difference = float(np.linalg.norm(actual / unit - expected / unit))
    return difference / size if size else difference * unit


def conjugate_transpose(A: Numbers) -> Numbers:
    """Return A^H (..., n, m), as a view if A is real."""
    flipped = np.swapaxes(A, -1, -2)
    return flipped.conj() if A.dtype.kind == "c" else flipped
