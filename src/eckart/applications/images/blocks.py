"""The block transform: a basis learnt from the picture's own blocks, kept as integers.

The Karhunen-Loeve transform of a picture is the SVD of the matrix that has one block to a row: its right
singular vectors are the best basis there is for these blocks (Eckart and Young, 1936). The basis has to be
sent too. In the coordinates of the discrete cosine transform, which is the limit of this basis for smooth
pictures, it is nearly a permutation, so that few integers say it.
"""

from __future__ import annotations

from copy import copy
from functools import cache, cached_property

import numpy as np

from eckart.applications.images.entropy import Floats, Ints

SIZES = (8, 16)
BASIS_UNIT = 128  # entries of the basis are whole multiples of 1 / 128
COSINE_UNIT = 1 << 13
FRACTION = 10  # decoded coefficients are whole multiples of 2^-10
PIXEL_FRACTION = 6  # decoded planes are whole multiples of 2^-6
BOUND = float(1 << 31)  # 16-bit pictures need 2^30; a broken file gets no further than this
THRESHOLDS = (2.0, 0.3, 0.1)  # of correlations; 2 keeps none, which leaves the cosines


@cache
def cosines(n: int) -> Floats:
    """Return the orthonormal DCT-II of n points in units of 2^-13, rounded: (n, n) whole numbers.

    No entry of the sizes in use is within 1e-3 of a half (a test looks), so that no cosine, however it is
    computed, can round to another integer.
    """
    k, x = np.arange(n)[:, None], np.arange(n)[None, :]
    exact = np.cos(np.pi * k * (2 * x + 1) / (2 * n)) * np.sqrt(np.where(k == 0, 1, 2) / n)
    return np.asarray(np.rint(COSINE_UNIT * exact))


def grid_of(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return how many blocks cover a plane, by rows and by columns."""
    return -(-shape[0] // size), -(-shape[1] // size)


def cut(plane: Floats, size: int) -> Floats:
    """Return the blocks of a plane, (rows of blocks, columns of blocks, size, size), its edges repeated."""
    m, n = plane.shape
    rows, columns = grid_of(plane.shape, size)
    full = np.pad(plane, ((0, rows * size - m), (0, columns * size - n)), mode="edge")
    return full.reshape(rows, size, columns, size).swapaxes(1, 2)


def join(blocks: Floats, shape: tuple[int, int]) -> Floats:
    """Undo `cut`."""
    rows, columns, size, _ = blocks.shape
    return blocks.swapaxes(1, 2).reshape(rows * size, columns * size)[: shape[0], : shape[1]]


class Blocks:
    """The blocks of a plane in the coordinates of the cosines, and the bases that fit them.

    Parameters
    ----------
    plane : ndarray (m, n)
    size : int
        Rows and columns of a block.

    Notes
    -----
    The first basis vector is the mean of a block; the others are the right singular vectors of the blocks
    less their means, found from the Gram matrix (size^2 x size^2, however large the picture). The integer
    cosines are orthonormal to 1e-4 only, which is levels in 16 bits: coordinates are taken by their inverse.
    Correlations below a threshold are taken for chance and set to zero (Bickel and Levina, 2008): this parts
    the basis into small groups, which are cheap to send. Threshold 0 is the SVD itself; threshold 2 leaves
    the cosines in the order of their energy.
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
        """Mean products of the coordinates, the mean's left out, (size^2 - 1, size^2 - 1)."""
        rest = self.coordinates[:, 1:]
        return np.asarray(rest.T @ rest / len(rest))

    @cached_property
    def energy(self) -> float:
        """Sum of squares of the coordinates."""
        return float((self.coordinates**2).sum())

    def basis(self, threshold: float) -> tuple[Ints, Floats]:
        """Return the basis of a threshold, (size^2, size^2), and the mean square along each vector."""
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
        """Return these blocks with the cosines for their basis."""
        twin = copy(self)
        twin._best = self.basis(THRESHOLDS[0])
        return twin

    def best_basis(self, step: float) -> tuple[Ints, Floats]:
        """Return the basis that is predicted to take the fewest bits at a step, its own included.

        The first step that is asked about decides, so that a search over steps compares like with like.

        Notes
        -----
        A component of variance v takes log2(v / d) / 2 bits a block to be known to an error of d, if it is
        Gaussian (reverse water-filling: Cover and Thomas, section 10.3.3); d is the quantiser's, step^2 / 12
        and what its dead zone adds.
        """
        if self._best is not None:
            return self._best
        # A correlation measured on few blocks is chance: its deviation is 1 / sqrt(blocks).
        least = min(3 / np.sqrt(len(self.coordinates)), 1.0)
        options = [self.basis(t) for t in THRESHOLDS if t >= least]
        level = step**2 / 6

        def bits(option: tuple[Ints, Floats]) -> float:
            basis, along = option
            rates = 0.5 * np.log2(np.maximum(along / level, 1))
            return float(len(self.coordinates) * rates.sum() + price(basis)[rates > 0].sum())

        self._best = min(options, key=bits)
        return self._best


def price(basis: Ints) -> Floats:
    """Return about how many bits each vector of a basis takes to send, (components,)."""
    size = np.abs(basis)
    return np.asarray(np.where(size > 0, 5 + 2 * np.log2(np.maximum(size, 1) / 8 + 1), 0.05).sum(1))


def project(coordinates: Floats, basis: Ints) -> Floats:
    """Return the least-squares coefficients, (blocks, components), of blocks in an integer basis."""
    B = basis / BASIS_UNIT
    return np.asarray(coordinates @ np.linalg.solve(B @ B.T, B).T)


def rebuild(coefficients: Floats, basis: Ints, size: int, grid: tuple[int, int]) -> Floats:
    """Return blocks in units of 2^-6 from coefficients in units of 2^-10, (rows, columns, size, size).

    Every number on the way is whole and below 2^53, so that float64 holds it exactly and the order of a sum
    does not matter: the result is the same on any machine, with any BLAS.
    """
    C = cosines(size)
    x = _divide(coefficients @ basis, BASIS_UNIT).reshape(-1, size, size)
    x = _divide(C.T @ x, COSINE_UNIT)
    x = _divide(x @ C, COSINE_UNIT << (FRACTION - PIXEL_FRACTION))
    return x.reshape(*grid, size, size)


def _divide(values: Floats, unit: int) -> Floats:
    """Divide by a power of two and round halves up: exact in float64."""
    return np.asarray(np.clip(np.floor(values / unit + 0.5), -BOUND, BOUND))
