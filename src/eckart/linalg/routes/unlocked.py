"""LAPACK without the lock of the interpreter.

SciPy holds the lock while LAPACK works, up to a minute for a large matrix. No other thread of Python runs
meanwhile: workers take turns, a progress bar stands still, and a program cannot be interrupted. Here the same
routines of the same library are called through ``scipy.linalg.cython_lapack`` and ctypes, which releases the
lock. The results are those of SciPy to the last bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy.linalg import cython_blas, cython_lapack

from eckart.arrays import Array, Floats
from eckart.errors import MatrixError

SMALLER = "Use a rank, an energy or another goal that needs fewer vectors"

Argument = str | int | float | ctypes.c_int | Array


def lower_product(block: Floats, C: Floats) -> None:
    """Add ``block @ block.T`` to the lower triangle of C, in place.

    Parameters
    ----------
    block : ndarray (n, k), float64
        In Fortran order.
    C : ndarray (n, n), float64
        In Fortran order.
    """
    n, k = block.shape
    _call("dsyrk", "L", "N", n, k, 1.0, _fortran(block), max(n, 1), 1.0, _fortran(C), max(n, 1))


def tridiagonalise(C: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Reduce a symmetric matrix to tridiagonal form, and overwrite it with the reflectors.

    Parameters
    ----------
    C : ndarray (n, n), float64
        In Fortran order; its lower triangle is read.

    Returns
    -------
    reflectors : ndarray (n, n)
        ``C`` itself.
    d, e, tau : ndarray (n,), (n - 1,), (n - 1,)
        The diagonal, the sub-diagonal, and the scale factors of the reflectors.

    Raises
    ------
    numpy.linalg.LinAlgError
        If LAPACK fails.
    """
    n = len(C)
    d, e, tau = (np.empty(size) for size in (n, max(n - 1, 0), max(n - 1, 0)))
    _with_workspace("dsytrd", "L", n, _fortran(C), max(n, 1), d, e, tau)
    return C, d, e, tau


def tridiagonal_values(d: Floats, e: Floats) -> Floats:
    """Return all eigenvalues of a symmetric tridiagonal matrix, the smallest first.

    Parameters
    ----------
    d, e : ndarray (n,), (n - 1,), float64
        The diagonal and the sub-diagonal.

    Raises
    ------
    numpy.linalg.LinAlgError
        If LAPACK does not converge.
    """
    values, rest = d.copy(), e.copy()
    _checked("dsterf", len(values), values, rest)
    return values


def top_vectors(d: Floats, e: Floats, rank: int) -> Floats:
    """Return the eigenvectors (n, rank) of the largest eigenvalues of a tridiagonal matrix, the largest last.

    Parameters
    ----------
    d, e : ndarray (n,), (n - 1,), float64
        The diagonal and the sub-diagonal.
    rank : int
        Number of vectors.

    Raises
    ------
    numpy.linalg.LinAlgError
        If MRRR fails, as it does on some spectra with hundreds of equal values.
    """
    n = len(d)
    padded = np.append(e, 0.0)
    values, Z = np.empty(n), np.empty((n, rank), order="F")
    found, try_accurate = ctypes.c_int(), ctypes.c_int(1)
    support, whole = np.empty(2 * max(rank, 1), np.intc), np.empty(10 * n, np.intc)
    # The workspace is given in full, because its size changes no result.
    work = np.empty(18 * n)
    index = (n - rank + 1, n)
    # fmt: off
    _checked(
        "dstemr", "V", "I", n, d.copy(), padded, 0.0, 0.0, *index, found, values, Z, n, rank, support,
        try_accurate, work, len(work), whole, len(whole),
    )
    # fmt: on
    return Z[:, : found.value]


def all_vectors(d: Floats, e: Floats) -> Floats:
    """Return all eigenvectors (n, n) of a symmetric tridiagonal matrix, by divide and conquer.

    Parameters
    ----------
    d, e : ndarray (n,), (n - 1,), float64
        The diagonal and the sub-diagonal.

    Raises
    ------
    numpy.linalg.LinAlgError
        If LAPACK does not converge.
    """
    n = len(d)
    Z = np.empty((n, n), order="F")
    work, whole = np.empty(1 + 4 * n + n * n), np.empty(3 + 5 * n, np.intc)
    _checked("dstevd", "V", n, d.copy(), e.copy(), Z, n, work, len(work), whole, len(whole))
    return Z


def thin_svd(A: Floats, *, vectors: bool = True, robust: bool = False) -> tuple[Floats, Floats, Floats]:
    """Return U (m, k), s (k,) and Vh (k, n) with k = min(m, n), in the dtype of A, which is overwritten.

    Parameters
    ----------
    A : ndarray (m, n), float32 or float64
        In Fortran order and not empty.
    vectors : bool
        Whether to compute U and Vh; otherwise they are empty.
    robust : bool
        Whether to use QR iteration (gesvd), which is slower, instead of divide and conquer (gesdd).

    Raises
    ------
    numpy.linalg.LinAlgError
        If LAPACK does not converge.
    """
    (m, n), k = A.shape, min(A.shape)
    if max(m, n) * (k if vectors else 1) > np.iinfo(np.intc).max:
        raise MatrixError(f"{m} x {n} matrix", "LAPACK cannot index so many singular vectors", SMALLER)
    s = np.empty(k, A.dtype)
    U, Vh = (
        np.empty(shape, A.dtype, order="F") for shape in (((m, k), (k, n)) if vectors else ((1, 1),) * 2)
    )
    letter, job = ("s" if A.dtype == np.float32 else "d"), ("S" if vectors else "N")
    matrices = (m, n, _fortran(A), m, s, U, len(U), Vh, len(Vh))
    if robust:
        _with_workspace(f"{letter}gesvd", job, job, *matrices)
    else:
        _with_workspace(f"{letter}gesdd", job, *matrices, after=(np.empty(8 * k, np.intc),))
    return U, s, Vh


def _fortran(array: Array) -> Array:
    assert array.flags.f_contiguous
    return array


def _with_workspace(name: str, *arguments: Argument, after: tuple[Array, ...] = ()) -> None:
    """Ask a routine for the size of its workspace, and call it."""
    dtype = np.float32 if name[0] == "s" else np.float64
    size = np.empty(1, dtype)
    _checked(name, *arguments, size, -1, *after)
    # In float32, a large size is rounded, possibly down.
    length = int(size[0] if dtype == np.float64 else np.nextafter(size[0], np.float32(np.inf)))
    work = np.empty(length, dtype)
    _checked(name, *arguments, work, len(work), *after)


def _checked(name: str, *arguments: Argument) -> None:
    """Call a routine and raise if it reports a failure in its last argument."""
    info = ctypes.c_int()
    _call(name, *arguments, info)
    if info.value != 0:
        raise np.linalg.LinAlgError(f"{name} returned {info.value}")


def _call(name: str, *arguments: Argument) -> None:
    """Call a routine of BLAS or LAPACK, all of whose arguments are pointers."""
    kept = [_as_c(argument, name[0] == "s") for argument in arguments]
    pointers = (
        ctypes.c_void_p(item.ctypes.data) if isinstance(item, np.ndarray) else ctypes.byref(item)
        for item in kept
    )
    _routine(name, len(kept))(*pointers)


def _as_c(argument: Argument, single: bool) -> Any:  # Any: a C value or an array
    if isinstance(argument, str):
        return ctypes.c_char(argument.encode())
    if isinstance(argument, int):
        return ctypes.c_int(argument)
    if isinstance(argument, float):
        return ctypes.c_float(argument) if single else ctypes.c_double(argument)
    return argument


@cache
def _routine(name: str, arguments: int) -> Callable[..., None]:
    """Return a routine as a C function; ctypes releases the lock of the interpreter during the call."""
    library = cython_blas if name.endswith("syrk") else cython_lapack
    capsule = library.__pyx_capi__[name]
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)
    return prototype(pointer_of(capsule, name_of(capsule)))
