"""Matrices and stacks of matrices, checked, and their thin SVD in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array, Floats
from eckart.errors import MatrixError, UsageError
from eckart.linalg.backend import SMALL_FLOATS, as_array, is_torch, ops_for, power_of_two

Numbers = Array  # float64 or complex128


def as_stack(A: ArrayLike, call: str) -> tuple[Numbers, np.dtype]:
    """Return ``A`` (..., m, n) in double precision, and the dtype that results should have.

    float32 and complex64 stay what they are in results; smaller floats become float32; integers,
    booleans and lists float64. Everything between is double: it costs twice the time of single
    precision, and squares no condition number into nothing.
    """
    array, dtype = as_numbers(A, call)
    if array.ndim < 2:
        raise MatrixError(call, f"expected a matrix or a stack of them, got shape {array.shape}")
    return array, dtype


def as_numbers(A: ArrayLike, call: str) -> tuple[Numbers, np.dtype]:
    """Return an array of any shape in double precision, checked, and the dtype of results."""
    if is_torch(A):
        A = ops_for(A).host(A.float() if A.is_floating_point() and A.itemsize < 4 else A)  # type: ignore[union-attr]
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
    """Return the tolerance (..., 1) at or under which a singular value counts as zero.

    ``rtol`` times the largest; by default max(m, n) eps of the dtype that the data came in, which
    is NumPy's for `matrix_rank`: about the size of what rounding the entries does to a singular value.
    """
    if rtol is None:
        relative: Floats = np.asarray(max(shape[-2:]) * np.finfo(dtype).eps, np.float64)
    else:
        relative = as_tolerance(rtol, "rtol", shape[:-2], call)
    return np.asarray(relative[..., None] * s.max(axis=-1, keepdims=True, initial=0.0))


def as_tolerance(value: ArrayLike, name: str, stack: tuple[int, ...], call: str) -> Floats:
    """Return a tolerance that was given, one for all matrices of a stack or one for each."""
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise UsageError(call, f"expected a number for {name}, got {value!r}") from None
    if not (found >= 0).all():
        raise UsageError(call, f"expected {name} of at least 0, got {value!r}")
    try:
        np.broadcast_shapes(found.shape, stack)
    except ValueError:
        raise UsageError(call, f"{name} of shape {found.shape} does not fit a stack of {stack}") from None
    return found


def one_of(call: str, **given: Any) -> Any:
    """Return the one argument that was given, or None; refuse two names for one thing at once."""
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise UsageError(call, f"expected one of {' and '.join(named)}, got both")
    return next(iter(named.values()), None)


def held(result: Numbers, dtype: np.dtype, call: str) -> Numbers:
    """Return a result in the dtype it should have, or refuse where that cannot hold it."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = result.astype(dtype)
    if not np.isfinite(narrow).all():
        raise MatrixError(call, f"its result is out of {dtype}'s range", "Scale the data by a power of ten")
    return narrow


def relative_difference(found: Numbers, wanted: Numbers) -> float:
    """Return ||found - wanted||_F / ||wanted||_F, in any unit; absolute where ``wanted`` is zero."""
    largest = max(float(np.abs(M).max(initial=0.0)) for M in (found, wanted))
    if not np.isfinite(largest):
        return float("inf")
    unit = power_of_two(largest)  # norms square
    size = float(np.linalg.norm(wanted / unit))
    missed = float(np.linalg.norm(found / unit - wanted / unit))
    return missed / size if size else missed * unit


def conjugate_transpose(A: Numbers) -> Numbers:
    """Return A^H (..., n, m); for real numbers a view."""
    flipped = np.swapaxes(A, -1, -2)
    return flipped.conj() if A.dtype.kind == "c" else flipped
