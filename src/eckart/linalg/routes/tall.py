"""Tall matrices of any dtype, processed in float64 a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from eckart.arrays import Array, Floats

BLOCK_ENTRIES = 1 << 16  # entries in a block of rows: 512 KB of float64, which stay in a core's cache


class Tall:
    """A matrix (m, r) whose columns are stored in several arrays.

    Parameters
    ----------
    parts : sequence of ndarray (m, r_i)
        The columns, side by side. Real numbers of any dtype; not copied.

    Notes
    -----
    A float64 copy of the whole matrix would take longer than the products that need it. Here one buffer of
    512 KB is reused for all blocks, in the memory order of the first part.
    """

    def __init__(self, parts: Sequence[Array]) -> None:
        self.parts = list(parts)
        self.shape = len(parts[0]), sum(part.shape[1] for part in parts)

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield (rows, block) for consecutive rows in float64; the next block overwrites this one."""
        m, r = self.shape
        step = max(BLOCK_ENTRIES // max(r, 1), 1)
        buffer = self._empty(min(step, m), r)
        for start in range(0, m, step):
            rows = slice(start, min(start + step, m))
            yield rows, self._filled(buffer[: rows.stop - start], rows)

    def whole(self) -> Floats:
        """Return a float64 copy (m, r)."""
        return self._filled(self._empty(*self.shape), slice(None))

    def gram(self) -> Floats:
        """Return F^T F (r, r), in mr^2 flops; squares beyond float64's range become infinite."""
        total = np.zeros((self.shape[1],) * 2)
        with np.errstate(over="ignore", invalid="ignore"):
            for _, block in self.blocks():
                total += block.T @ block
        return total

    def __matmul__(self, W: Floats) -> Floats:
        """Return F W (m, k), in the memory order of F."""
        result = self._empty(self.shape[0], W.shape[1])
        for rows, block in self.blocks():
            np.matmul(block, W, out=result[rows])
        return result

    def _empty(self, rows: int, columns: int) -> Floats:
        by_column = self.parts[0].flags.f_contiguous and not self.parts[0].flags.c_contiguous
        return np.empty((columns, rows)).T if by_column else np.empty((rows, columns))

    def _filled(self, block: Floats, rows: slice) -> Floats:
        start = 0
        for part in self.parts:
            block[:, start : start + part.shape[1]] = part[rows]
            start += part.shape[1]
        return block
