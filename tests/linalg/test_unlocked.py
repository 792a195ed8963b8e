"""LAPACK without the lock of the interpreter: the bits of SciPy, and other threads that run meanwhile."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import scipy.linalg
from scipy.linalg import blas, lapack

from eckart.errors import MatrixError
from eckart.linalg.routes import unlocked

SIZES = [1, 2, 3, 50, 300]  # LAPACK works in blocks of 32 or 64 columns


def matrix(m: int, n: int) -> np.ndarray:
    return np.random.default_rng(m * n).standard_normal((m, n))


@pytest.mark.parametrize("n", SIZES)
def test_the_gram_matrix_and_its_eigenvalues_have_the_bits_of_scipy(n):
    A = matrix(n + 5, n)
    expected = blas.dsyrk(1.0, A.T, lower=1)
    C = np.zeros((n, n), order="F")
    unlocked.lower_product(A.T, C)
    assert np.array_equal(C, expected)

    size = int(lapack.dsytrd_lwork(n, lower=1)[0])
    *expected_parts, info = lapack.dsytrd(expected, lower=1, lwork=size)
    reflectors, d, e, tau = unlocked.tridiagonalise(C)
    assert info == 0
    for part, expected_part in zip((reflectors, d, e, tau), expected_parts, strict=True):
        assert np.array_equal(part, expected_part)
    if n > 1:
        assert np.array_equal(unlocked.tridiagonal_values(d, e), lapack.dsterf(d, e)[0])


@pytest.mark.parametrize("n", [n for n in SIZES if n > 1])
def test_vectors_of_a_tridiagonal_matrix_have_the_bits_of_scipy(n):
    rng = np.random.default_rng(n)
    d, e = rng.standard_normal(n), rng.standard_normal(n - 1)
    for rank in {1, (n + 1) // 2, n}:
        _, expected = scipy.linalg.eigh_tridiagonal(
            d, e, select="i", select_range=(n - rank, n - 1), lapack_driver="stemr"
        )
        assert np.array_equal(unlocked.top_vectors(d, e, rank), expected)
    _, expected = scipy.linalg.eigh_tridiagonal(d, e, lapack_driver="stevd")
    assert np.array_equal(unlocked.all_vectors(d, e), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (60, 60), (200, 30), (30, 200)])
@pytest.mark.parametrize("driver", ["gesdd", "gesvd"])
def test_the_svd_has_the_bits_of_scipy(dtype, shape, driver):
    A = np.asfortranarray(matrix(*shape), dtype)
    expected = scipy.linalg.svd(A, full_matrices=False, lapack_driver=driver)
    for part, expected_part in zip(
        unlocked.thin_svd(A.copy(order="F"), robust=driver == "gesvd"), expected, strict=True
    ):
        assert part.dtype == dtype and np.array_equal(part, expected_part)
    values = unlocked.thin_svd(A.copy(order="F"), vectors=False)[1]
    assert np.array_equal(values, scipy.linalg.svdvals(A))


def test_a_matrix_that_lapack_cannot_index_is_refused():
    row = np.broadcast_to(np.zeros((), np.float32), (50_000, 50_000))
    with pytest.raises(MatrixError, match="50000 x 50000 matrix`: LAPACK cannot index"):
        unlocked.thin_svd(row)


def test_a_failure_of_lapack_is_an_error():
    with pytest.raises(np.linalg.LinAlgError, match="dgesdd returned -4"):
        unlocked.thin_svd(np.full((3, 3), np.nan, order="F"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: unlocked.tridiagonalise(np.asfortranarray(matrix(1100, 1100))),
        lambda: unlocked.thin_svd(np.asfortranarray(matrix(600, 600))),
        lambda: unlocked.lower_product(matrix(4000, 1200).T, np.zeros((1200, 1200), order="F")),
        lambda: unlocked.top_vectors(np.ones(2000), np.linspace(1, 2, 1999), 700),
    ],
    ids=["tridiagonalise", "thin_svd", "lower_product", "top_vectors"],
)
def test_other_threads_run_while_lapack_works(call):
    is_running = threading.Event()

    def work() -> None:
        is_running.set()
        call()
        is_running.clear()

    thread = threading.Thread(target=work)
    thread.start()
    beats = 0
    while is_running.is_set():
        time.sleep(0.001)
        beats += 1
    thread.join()
    # A call takes tenths of a second. With the lock, there would be one beat before it and one after it.
    assert beats > 5
