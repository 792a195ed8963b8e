"""The tables of matrices that the tests run over, each built so that its answer is known.

A matrix is built from given singular values and random orthonormal factors, so a test can look for these
values. `Case.values` is an independent reference: NumPy's float64 SVD of the array that the library gets,
including its rounding to float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

ROUTES = ("lapack", "gram", "krylov", "auto")
EXACT_ROUTES = ("lapack", "gram")

DECAYS: dict[str, Callable[[int], np.ndarray]] = {
    "1/i": lambda n: 1.0 / np.arange(1, n + 1),
    "i^-0.5": lambda n: np.arange(1, n + 1) ** -0.5,
    "i^-0.3": lambda n: np.arange(1, n + 1) ** -0.3,
    "exp(-i/20)": lambda n: np.exp(-np.arange(n) / 20.0),
    "flat": np.ones,
    "spikes": lambda n: np.where(np.arange(n) < 20, 10.0 - np.arange(n) / 4, 0.2),
    "ties": lambda n: 2.0 ** -(np.arange(n) // 7.0),
    "rank 1": lambda n: np.where(np.arange(n) < 1, 3.142, 0.0),
    "rank 16": lambda n: np.where(np.arange(n) < 16, 3.0 - np.arange(n) / 10, 0.0),
    "zero": np.zeros,
}


def orthonormal(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return a random matrix with orthonormal columns, (rows, columns)."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, columns)))[0]


def with_values(sigma: np.ndarray, m: int, n: int, seed: int = 0) -> np.ndarray:
    """Return a float64 matrix (m, n) whose singular values are ``sigma``, padded with zeros."""
    k = len(sigma)
    return (orthonormal(m, k, 2 * seed) * sigma) @ orthonormal(n, k, 2 * seed + 1).T


@dataclass(frozen=True, eq=False)
class Case:
    """A matrix with a name, built from the singular values ``sigma``; None for Gaussian noise."""

    name: str
    build: Callable[[], np.ndarray]
    sigma: np.ndarray | None = None

    @cached_property
    def A(self) -> np.ndarray:
        """The matrix, read-only, so that a route that writes to its input fails."""
        A = self.build()
        A.setflags(write=False)
        return A

    @cached_property
    def unit(self) -> float:
        """A power of two near the largest entry. Dividing by it is exact and brings squares into range."""
        largest = float(np.abs(self.A).max())
        return float(2.0 ** np.floor(np.log2(largest))) if largest else 1.0

    @cached_property
    def wide(self) -> np.ndarray:
        """The matrix in float64, divided by ``unit``."""
        return self.A.astype(np.float64) / self.unit

    @cached_property
    def values(self) -> np.ndarray:
        """Singular values of ``wide``, by NumPy in float64."""
        return np.linalg.svd(self.wide, compute_uv=False)

    @property
    def eps(self) -> float:
        return float(np.finfo(self.A.dtype).eps)

    @property
    def is_large(self) -> bool:
        """Whether "auto" chooses among the routes instead of always using LAPACK."""
        return min(self.A.shape) > 256

    def __repr__(self) -> str:
        return self.name


def _case(decay: str, m: int, n: int, dtype: type, seed: int) -> Case:
    sigma = DECAYS[decay](min(m, n))
    kind = np.dtype(dtype).name
    return Case(f"{decay} {m}x{n} {kind}", lambda: with_values(sigma, m, n, seed).astype(dtype), sigma)


def _noise(m: int, n: int, dtype: type) -> Case:
    random = np.random.default_rng(99)
    return Case(f"noise {m}x{n} {np.dtype(dtype).name}", lambda: random.standard_normal((m, n)).astype(dtype))


def _strided() -> np.ndarray:
    buffer = np.full((80, 120), 7.0, np.float32)
    buffer[::2, ::3] = with_values(DECAYS["1/i"](40), 40, 40, 5)
    return buffer[::2, ::3]


def _reversed() -> np.ndarray:
    return with_values(DECAYS["i^-0.5"](30), 30, 50, 6)[::-1, ::-1]


def _scaled(scale: float, dtype: type, m: int, n: int) -> Case:
    sigma = DECAYS["1/i"](min(m, n))
    return Case(
        f"1/i times {scale:g} {m}x{n} {np.dtype(dtype).name}",
        lambda: (with_values(sigma, m, n, 8) * scale).astype(dtype),
        sigma * scale,
    )


SMALL_CASES = [
    *(
        _case(decay, *shape, dtype, seed)
        for seed, decay in enumerate(DECAYS)
        for shape, dtype in (((40, 60), np.float32), ((60, 33), np.float64))
    ),
    _noise(40, 60, np.float32),
    _noise(60, 33, np.float64),
    Case("1x1 float64", lambda: np.array([[-2.718]]), np.array([2.718])),
    Case("1x1 float32", lambda: np.array([[2.5]], np.float32), np.array([2.5])),
    Case("one row", lambda: np.array([[3.0, 0.0, 4.0]]), np.array([5.0])),
    Case("one column", lambda: np.array([[5.0], [12.0]], np.float32), np.array([13.0])),
    Case("2x2 by hand", lambda: np.array([[4.0, 0.0], [3.0, 5.0]]), np.sqrt([40.0, 10.0])),
    _case("1/i", 200, 3, np.float64, 21),
    _case("1/i", 3, 200, np.float32, 22),
    Case("strided view", _strided, DECAYS["1/i"](40)),
    Case("reversed view", _reversed, DECAYS["i^-0.5"](30)),
    Case("transposed view", lambda: with_values(DECAYS["1/i"](30), 50, 30, 9).T, DECAYS["1/i"](30)),
    Case(
        "Fortran order",
        lambda: np.asfortranarray(with_values(DECAYS["1/i"](30), 50, 30, 9), np.float32),
        DECAYS["1/i"](30),
    ),
    _scaled(1e30, np.float32, 40, 60),
    _scaled(1e-30, np.float32, 40, 60),
    _scaled(1e100, np.float64, 40, 60),
    _scaled(1e-100, np.float64, 40, 60),
]

LARGE_CASES = [
    *(_case(decay, 300, 400, np.float32, 30 + seed) for seed, decay in enumerate(DECAYS)),
    *(
        _case(decay, 600, 300, np.float64, 50 + seed)
        for seed, decay in enumerate(("1/i", "i^-0.3", "exp(-i/20)", "rank 16"))
    ),
    _noise(300, 400, np.float32),
    _case("1/i", 256, 300, np.float32, 61),
    _case("1/i", 257, 300, np.float32, 62),
    Case(
        "large transposed view",
        lambda: with_values(DECAYS["i^-0.5"](300), 400, 300, 63).astype(np.float32).T,
        DECAYS["i^-0.5"](300),
    ),
    _scaled(1e30, np.float32, 300, 400),
    _scaled(1e-30, np.float32, 300, 400),
    _scaled(1e100, np.float64, 300, 300),
    _scaled(1e-100, np.float64, 300, 300),
]

CASES = SMALL_CASES + LARGE_CASES


@cache
def case(name: str) -> Case:
    """Return the case with this name."""
    (match,) = (c for c in CASES if c.name == name)
    return match


def least_rank(sigma: np.ndarray, energy: float) -> int:
    """Return the least r with sum_{i<=r} sigma_i^2 >= energy * sum sigma_i^2, by adding term by term."""
    total = sum(float(s) ** 2 for s in sigma)
    kept, rank = 0.0, 0
    for s in sigma:
        if kept >= energy * total:
            break
        kept += float(s) ** 2
        rank += 1
    return rank


def least_ranks(sigma: np.ndarray, energy: float, doubt: float) -> tuple[int, int]:
    """Return the least ranks for the energies ``energy - doubt`` and ``energy + doubt``.

    They are equal unless the target falls on a step of the energy curve, where rounding decides.
    """
    return least_rank(sigma, energy - doubt), least_rank(sigma, min(energy + doubt, 1.0))


def best_error(sigma: np.ndarray, rank: int) -> float:
    """Return the relative Frobenius error of the best approximation (Eckart and Young, 1936)."""
    whole = float(np.sqrt((sigma**2).sum()))
    return float(np.sqrt((sigma[rank:] ** 2).sum())) / whole if whole else 0.0
