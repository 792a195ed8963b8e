"""The block transform: a basis learned from the picture's own blocks and stored as integers.

The Karhunen-Loeve transform of a picture is the SVD of the matrix with one block per row: its right
singular vectors are the best possible basis for these blocks (Eckart and Young, 1936). The file must also
contain the basis. In the coordinates of the discrete cosine transform, which is the limit of this basis for
smooth pictures, the basis is nearly a permutation, and a few integers describe it.
"""

from __future__ import annotations

from copy import copy
from functools import cache, cached_property

import numpy as np

from eckart.arrays import Floats, Ints

SIZES = (8, 16)
BASIS_UNIT = 128  # entries of the basis are integer multiples of 1 / 128
COSINE_UNIT = 1 << 13
FRACTION = 10  # decoded coefficients are integer multiples of 2^-10
PIXEL_FRACTION = 6  # decoded planes are integer multiples of 2^-6
BOUND = float(1 << 31)  # 16-bit pictures need 2^30; values from a damaged file are clipped here
THRESHOLDS = (2.0, 0.3, 0.1)  # for correlations; 2 keeps none and leaves the cosines


@cache
def cosines(n: int) -> Floats:
    """Return the orthonormal DCT-II matrix of n points, (n, n), rounded to integers in units of 2^-13.

    For the sizes in use, no entry is within 1e-3 of a half-integer (a test checks this). Every
    implementation of the cosine therefore rounds to the same integers.
    """
    k, x = np.arange(n)[:, None], np.arange(n)[None, :]
    exact = np.cos(np.pi * k * (2 * x + 1) / (2 * n)) * np.sqrt(np.where(k == 0, 1, 2) / n)
    return np.asarray(np.rint(COSINE_UNIT * exact))


def grid_of(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the number of block rows and block columns that cover a plane."""
    return -(-shape[0] // size), -(-shape[1] // size)


def cut(plane: Floats, size: int) -> Floats:
    """Return the blocks of a plane, (block rows, block columns, size, size); edge pixels are repeated."""
    m, n = plane.shape
    rows, columns = grid_of(plane.shape, size)
    full = np.pad(plane, ((0, rows * size - m), (0, columns * size - n)), mode="edge")
    return full.reshape(rows, size, columns, size).swapaxes(1, 2)


def join(blocks: Floats, shape: tuple[int, int]) -> Floats:
    """Undo `cut`."""
    rows, columns, size, _ = blocks.shape
    return blocks.swapaxes(1, 2).reshape(rows * size, columns * size)[: shape[0], : shape[1]]


class Blocks:
    """The blocks of a plane in DCT coordinates, and the bases learned from them.

    Parameters
    ----------
    plane : ndarray (m, n)
    size : int
        Rows and columns of a block.

    Notes
    -----
    The first basis vector is the mean of a block. The others are the right singular vectors of the blocks
    minus their means, computed from the Gram matrix, which is size^2 x size^2 for a picture of any size.
    The integer cosines are orthonormal only to 1e-4, an error of several levels in 16 bits, so the
    coordinates are computed with their inverse. Correlations below a threshold are treated as chance and
    set to zero (Bickel and Levina, 2008). This separates the basis into small groups, which take few bits.
    Threshold 0 gives the SVD itself; threshold 2 leaves the cosines, ordered by energy.
    """

    def __init__(self, plane: Floats, size: int) -> None:
        C = np.linalg.inv(cosines(size) / COSINE_UNIT).T  # what the decoder's C^T X C undoes
        blocks = cut(plane, size)
        self.size, self.shape = size, plane.shape
        self.grid = (blocks.shape[0], blocks.shape[1])
        self.coordinates: Floats = (C @ blocks @ C.T).reshape(-1, size * size)  # (blocks, size^2)
        self._bases: dict[float, tuple[Ints, Floats]] = {}
        self._best: tuple[Ints, Floats] | None = None

    @cached_property
    def gram(self) -> Floats:
        """Mean products of the coordinates without the block mean, (size^2 - 1, size^2 - 1)."""
        rest = self.coordinates[:, 1:]
        return np.asarray(rest.T @ rest / len(rest))

    @cached_property
    def energy(self) -> float:
        """Sum of squares of the coordinates."""
        return float((self.coordinates**2).sum())

    def basis(self, threshold: float) -> tuple[Ints, Floats]:
        """Return the basis for a threshold, (size^2, size^2), and the mean square along each vector."""
        if threshold not in self._bases:
            self._bases[threshold] = self._learn(threshold)
        return self._bases[threshold]

    def _learn(self, threshold: float) -> tuple[Ints, Floats]:
        gram, n = self.gram, self.size**2
        deviation = np.sqrt(np.maximum(np.diag(gram), 1e-12))
        kept = np.abs(gram) >= threshold * np.outer(deviation, deviation)
        if threshold > 1:
            values, vectors = np.diag(gram), np.eye(n - 1)
        else:
            values, vectors = np.linalg.eigh(np.where(kept | np.eye(n - 1, dtype=bool), gram, 0.0))
        vectors = vectors[:, np.argsort(-values, kind="stable")].T  # (components, size^2 - 1)
        signs = np.sign(vectors[np.arange(n - 1), np.abs(vectors).argmax(1)])
        basis = np.zeros((n, n), np.int64)
        basis[0, 0] = BASIS_UNIT
        basis[1:, 1:] = np.rint(BASIS_UNIT * vectors * signs[:, None])
        rounded = basis[1:, 1:] / BASIS_UNIT
        along = np.einsum("ki,ki->k", rounded @ gram, rounded)
        mean = self.coordinates[:, 0]
        return basis, np.concatenate([[float(mean @ mean) / len(mean)], along])

    def plain(self) -> Blocks:
        """Return these blocks with the cosines as their basis."""
        with_cosines = copy(self)
        with_cosines._best = self.basis(THRESHOLDS[0])
        return with_cosines

    def best_basis(self, step: float) -> tuple[Ints, Floats]:
        """Return the basis with the fewest predicted bits, including the bits of the basis itself.

        The step of the first call decides; later calls return the same basis, which keeps the sizes at
        different steps comparable.

        Parameters
        ----------
        step : float
            Quantisation step in grey levels.

        Notes
        -----
        A Gaussian component of variance v needs log2(v / d) / 2 bits per block for a mean squared error of d
        (reverse water-filling: Cover and Thomas, section 10.3.3). Here d is the error of the quantiser:
        step^2 / 12 plus the contribution of its dead zone.
        """
        if self._best is not None:
            return self._best
        # Unrelated components correlate by chance, with a standard deviation of 1 / sqrt(blocks).
        significant = min(3 / np.sqrt(len(self.coordinates)), 1.0)
        options = [self.basis(t) for t in THRESHOLDS if t >= significant]
        level = step**2 / 6

        def bits(option: tuple[Ints, Floats]) -> float:
            basis, along = option
            rates = 0.5 * np.log2(np.maximum(along / level, 1))
            return float(len(self.coordinates) * rates.sum() + price(basis)[rates > 0].sum())

        self._best = min(options, key=bits)
        return self._best


def price(basis: Ints) -> Floats:
    """Return the approximate number of bits for each vector of a basis, (components,)."""
    size = np.abs(basis)
    return np.asarray(np.where(size > 0, 5 + 2 * np.log2(np.maximum(size, 1) / 8 + 1), 0.05).sum(1))


def project(coordinates: Floats, basis: Ints) -> Floats:
    """Return the least-squares coefficients, (blocks, components), of blocks in an integer basis."""
    B = basis / BASIS_UNIT
    return np.asarray(coordinates @ np.linalg.solve(B @ B.T, B).T)


def rebuild(coefficients: Floats, basis: Ints, size: int, grid: tuple[int, int]) -> Floats:
    """Return blocks in units of 2^-6 from coefficients in units of 2^-10, (rows, columns, size, size).

    Every intermediate number is an integer below 2^53. float64 holds it exactly, and the order of a sum does
    not matter, so the result is the same on every machine and with every BLAS.
    """
    C = cosines(size)
    x = _divide(coefficients @ basis, BASIS_UNIT).reshape(-1, size, size)
    x = _divide(C.T @ x, COSINE_UNIT)
    x = _divide(x @ C, COSINE_UNIT << (FRACTION - PIXEL_FRACTION))
    return x.reshape(*grid, size, size)


def _divide(values: Floats, unit: int) -> Floats:
    """Divide by a power of two and round halves up; this is exact in float64."""
    return np.asarray(np.clip(np.floor(values / unit + 0.5), -BOUND, BOUND))
