"""A matrix kept as its factors: U diag(s) Vh."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from eckart.arrays import Floats
from eckart.errors import UsageError
from eckart.linalg.backend import DeviceArray, ops_for
from eckart.linalg.goal import one_goal
from eckart.linalg.routes.product import svd_of_product
from eckart.linalg.spectrum import Spectrum


@dataclass(frozen=True, eq=False)
class LowRank:
    """A matrix of low rank, U diag(s) Vh, and what it leaves out of the matrix it came from.

    Parameters
    ----------
    U : array (m, r)
        Left singular vectors.
    s : ndarray (r,), float64
        Singular values, largest first.
    Vh : array (r, n)
        Right singular vectors, transposed.
    tail : float
        ||A - U diag(s) Vh||_F^2 for the matrix A that was factored; 0 if nothing was left out.
    rank_bounds : (int, int), optional
        Bounds on the least rank that fulfils what was asked for; equal where the rank is proven.
    method : str
        The route that made it.
    spectrum : Spectrum, optional
        Every singular value that the route computed, with the exact energy of the rest.

    Examples
    --------
    >>> import eckart
    >>> f = eckart.svd(np.diag([3.0, 2.0, 1.0]), energy=0.9)
    >>> f.rank, round(f.energy, 4), round(f.error, 4), f.rank_bounds
    (2, 0.9286, 0.2673, (2, 2))
    >>> B, A = f.factors()
    >>> np.allclose(B @ A, np.diag([3.0, 2.0, 0.0]))
    True
    """

    U: DeviceArray
    s: Floats
    Vh: DeviceArray
    tail: float = 0.0
    rank_bounds: tuple[int, int] | None = None
    method: str = "given"
    spectrum: Spectrum | None = field(default=None, repr=False)

    __array_ufunc__ = None  # so that `ndarray @ LowRank` and `2.0 * LowRank` come to this class

    @classmethod
    def from_product(cls, B: DeviceArray, A: DeviceArray) -> LowRank:
        """Factor the product B A, never forming it. Equivalent to the SVD of ``B @ A``, exactly.

        Parameters
        ----------
        B : array (m, r)
        A : array (r, n)

        Notes
        -----
        QR of B, QR of A^T, SVD of the r x r core, in float64: 4(m + n)r^2 + 22r^3 flops against
        about 26n^3 for the SVD of the product.
        """
        (U, s, Vh, tail), known = svd_of_product(B, A)
        return cls(U, s, Vh, tail, (len(s), len(s)), "product", known)

    @property
    def rank(self) -> int:
        """Number of components kept."""
        return len(self.s)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the matrix."""
        return int(self.U.shape[0]), int(self.Vh.shape[1])

    @property
    def parameters(self) -> int:
        """Numbers stored by B and A: r (m + n)."""
        return self.rank * sum(self.shape)

    @property
    def energy(self) -> float:
        """Share of the original's energy that is kept; 1 for a zero matrix."""
        kept = float((self.s**2).sum())
        return kept / (kept + self.tail) if kept + self.tail > 0 else 1.0

    @property
    def error(self) -> float:
        """Relative Frobenius error against the original; 0 for a zero matrix."""
        whole = float((self.s**2).sum()) + self.tail
        return float(np.sqrt(self.tail / whole)) if whole > 0 else 0.0

    @property
    def T(self) -> LowRank:
        """The transpose, from the same factors."""
        return replace(self, U=self.Vh.T, Vh=self.U.T)

    def factors(self) -> tuple[DeviceArray, DeviceArray]:
        """Return B = U sqrt(S), shape (m, r), and A = sqrt(S) Vh, shape (r, n), so that B A is the matrix."""
        root = _like(np.sqrt(self.s), self.U)
        return self.U * root, root[:, None] * self.Vh

    def dense(self) -> DeviceArray:
        """Return the matrix itself, (m, n). Cost 2mnr."""
        return (self.U * _like(self.s, self.U)) @ self.Vh

    def norm(self, order: int | str = "fro") -> float:
        """Return a norm of the matrix: ``"fro"``, ``2`` (spectral) or ``"nuc"`` (sum of sigma)."""
        if order not in ("fro", "nuc", 2):
            raise UsageError(f"LowRank.norm({order!r})", "expected 'fro', 'nuc' or 2")
        if not self.rank:
            return 0.0
        if order == 2:
            return float(self.s[0])
        return float(self.s.sum() if order == "nuc" else np.sqrt((self.s**2).sum()))

    def truncate(
        self, rank: int | None = None, energy: float | None = None, error: float | None = None
    ) -> LowRank:
        """Keep the leading components. Energy and error are those of this matrix, not of its original.

        The tail of the result is still measured against the original.
        """
        goal = one_goal("LowRank.truncate", rank=rank, energy=energy, error=error)
        keep = Spectrum(self.s).rank_at(goal)
        left = float((self.s[keep:] ** 2).sum())
        return replace(
            self,
            U=self.U[:, :keep],
            s=self.s[:keep],
            Vh=self.Vh[:keep],
            tail=self.tail + left,
            rank_bounds=None,  # they answered another question
        )

    def __matmul__(self, other: DeviceArray) -> DeviceArray:
        if isinstance(other, LowRank):
            _chain(self.shape, other.shape)
            B, A = self.factors()
            return LowRank.from_product(B, (A @ other.U * _like(other.s, self.U)) @ other.Vh)
        _chain(self.shape, tuple(other.shape))
        return (self.U * _like(self.s, self.U)) @ (self.Vh @ other)

    def __rmatmul__(self, other: DeviceArray) -> DeviceArray:
        _chain(tuple(other.shape), self.shape)
        return ((other @ self.U) * _like(self.s, self.U)) @ self.Vh

    def __mul__(self, scalar: float) -> LowRank:
        if not np.isscalar(scalar):
            raise UsageError("LowRank * x", f"expected a number, got {type(scalar).__name__}", "Use @")
        size = abs(float(scalar))  # type: ignore[arg-type]
        sign = -1 if float(scalar) < 0 else 1  # type: ignore[arg-type]
        spectrum = self.spectrum and Spectrum(
            self.spectrum.values * size, self.spectrum.tail * size**2, self.spectrum.size
        )
        return replace(self, U=self.U * sign, s=self.s * size, tail=self.tail * size**2, spectrum=spectrum)

    __rmul__ = __mul__

    def __neg__(self) -> LowRank:
        return self * -1.0

    def __add__(self, other: LowRank) -> LowRank:
        """Add two matrices in factor space: exact, rank at most the sum of ranks; the tail starts at 0."""
        if not isinstance(other, LowRank):
            return NotImplemented
        if self.shape != other.shape:
            raise UsageError("LowRank + LowRank", f"shapes differ: {self.shape} and {other.shape}")
        (B1, A1), (B2, A2) = self.factors(), other.factors()
        return LowRank.from_product(_stack(B1, B2, 1), _stack(A1, A2, 0))

    def __sub__(self, other: LowRank) -> LowRank:
        return self + (-other)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"LowRank({m} x {n}, rank {self.rank}, energy {self.energy:.4f}, by {self.method})"


def _like(values: Floats, array: DeviceArray) -> DeviceArray:
    """Return float64 values as an array of the same kind, dtype and device as ``array``."""
    return ops_for(array).like(values, array)


def _stack(a: DeviceArray, b: DeviceArray, axis: int) -> DeviceArray:
    return ops_for(a).concatenate([a, b], axis)


def _chain(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    if left[-1] != right[0]:
        raise UsageError("LowRank @ x", f"shapes {left} and {right} do not chain")
