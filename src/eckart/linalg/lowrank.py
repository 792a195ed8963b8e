"""A low-rank matrix, stored as its factors U diag(s) Vh."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from eckart.arrays import Floats
from eckart.errors import UsageError
from eckart.linalg.backend import DeviceArray, ops_for
from eckart.linalg.display import html_table
from eckart.linalg.goal import one_goal
from eckart.linalg.routes.product import svd_of_product
from eckart.linalg.spectrum import Spectrum


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank matrix U diag(s) Vh, and the energy it lacks of the matrix it was computed from.

    Parameters
    ----------
    U : array (m, r)
        Left singular vectors.
    s : ndarray (r,), float64
        Singular values, largest first.
    Vh : array (r, n)
        Right singular vectors, transposed.
    tail : float
        ||A - U diag(s) Vh||_F^2 for the matrix A that was factored; 0 if the factors are exact.
    rank_bounds : (int, int), optional
        Bounds on the least rank that reaches the goal; equal if the rank is proven.
    method : str
        The route that computed it.
    spectrum : Spectrum, optional
        Every singular value that the route computed, with the exact energy of the rest.

    Notes
    -----
    Supports ``+``, ``-``, multiplication by numbers, and ``@`` with arrays and with other `LowRank`
    matrices, without forming the matrix. Sums and products of two `LowRank` matrices are exact;
    components that are rounding are dropped.

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

    __array_ufunc__ = None  # makes NumPy leave `ndarray @ LowRank` and `2.0 * LowRank` to this class

    @classmethod
    def from_product(cls, B: DeviceArray, A: DeviceArray) -> LowRank:
        """Factor the product B A without forming it. Equivalent to the SVD of ``B @ A``.

        Parameters
        ----------
        B : array_like (m, r)
            Left factor.
        A : array_like (r, n)
            Right factor.

        Returns
        -------
        LowRank
            Of rank at most min(m, n, r); components that are rounding are dropped. In the dtype of B, or
            float32 for smaller ones.

        Raises
        ------
        MatrixError
            If the shapes do not chain, or a factor is not a real matrix or holds a NaN or an infinity.

        Notes
        -----
        QR of B, QR of A^T, SVD of the r x r core, in float64: 4(m + n)r^2 + 22r^3 flops against
        about 26n^3 for the SVD of the product.

        Examples
        --------
        >>> LowRank.from_product(np.array([[3.0], [4.0]]), np.array([[1.0, 0.0, 0.0]])).s.tolist()
        [5.0]
        """
        (U, s, Vh, tail), known = svd_of_product(B, A)
        return cls(U, s, Vh, tail, (len(s), len(s)), "product", known)

    @property
    def rank(self) -> int:
        """Number of components."""
        return len(self.s)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the matrix."""
        return int(self.U.shape[0]), int(self.Vh.shape[1])

    @property
    def parameters(self) -> int:
        """Number of entries of B and A together, r (m + n)."""
        return self.rank * sum(self.shape)

    @property
    def energy(self) -> float:
        """Share of the original matrix's energy that is kept; 1 for a zero matrix."""
        kept = float((self.s**2).sum())
        return kept / (kept + self.tail) if kept + self.tail > 0 else 1.0

    @property
    def error(self) -> float:
        """Relative Frobenius error against the original matrix; 0 for a zero matrix."""
        whole = float((self.s**2).sum()) + self.tail
        return float(np.sqrt(self.tail / whole)) if whole > 0 else 0.0

    @property
    def T(self) -> LowRank:
        """The transpose, from the same factors."""
        return replace(self, U=self.Vh.T, Vh=self.U.T)

    def factors(self) -> tuple[DeviceArray, DeviceArray]:
        """Return two factors of equal norm whose product is the matrix.

        Returns
        -------
        B : array (m, r)
            U sqrt(S).
        A : array (r, n)
            sqrt(S) Vh.
        """
        root = _like(np.sqrt(self.s), self.U)
        return self.U * root, root[:, None] * self.Vh

    def dense(self) -> DeviceArray:
        """Return the matrix as an array (m, n), in 2mnr flops."""
        return (self.U * _like(self.s, self.U)) @ self.Vh

    def norm(self, order: int | str = "fro") -> float:
        """Return a norm of the matrix, from its singular values.

        Parameters
        ----------
        order : {"fro", 2, "nuc"}
            Frobenius norm, spectral norm (sigma_1) or nuclear norm (sum of sigma).

        Returns
        -------
        float
            0 for a matrix of rank 0.

        Raises
        ------
        UsageError
            If the order is not one of the three.
        """
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
        """Keep the leading components.

        Parameters
        ----------
        rank : int, optional
            Keep this many components.
        energy : float, optional
            Keep the least number that holds this share of this matrix's energy (not of the original's).
        error : float, optional
            Keep the least number whose relative Frobenius error against this matrix is at most this.

        Returns
        -------
        LowRank
            Its ``tail`` is measured against the original matrix.

        Raises
        ------
        UsageError
            If more than one goal is given, or one is out of range.
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
            rank_bounds=None,  # the bounds belong to the goal of the original
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
            raise UsageError(
                "LowRank * x",
                f"expected a number, got {type(scalar).__name__}",
                "Use @ for products with matrices",
            )
        size = abs(float(scalar))  # type: ignore[arg-type]
        sign = -1 if float(scalar) < 0 else 1  # type: ignore[arg-type]
        spectrum = None
        if self.spectrum is not None:
            known = self.spectrum
            spectrum = Spectrum(known.values * size, known.tail * size**2, known.size)
        return replace(self, U=self.U * sign, s=self.s * size, tail=self.tail * size**2, spectrum=spectrum)

    __rmul__ = __mul__

    def __neg__(self) -> LowRank:
        return self * -1.0

    def __add__(self, other: LowRank) -> LowRank:
        """Return the exact sum, from the factors: of rank at most the sum of ranks, with tail 0."""
        if not isinstance(other, LowRank):
            return NotImplemented
        if self.shape != other.shape:
            raise UsageError(
                "LowRank + LowRank", f"expected equal shapes, got {self.shape} and {other.shape}"
            )
        (B1, A1), (B2, A2) = self.factors(), other.factors()
        return LowRank.from_product(_stack(B1, B2, 1), _stack(A1, A2, 0))

    def __sub__(self, other: LowRank) -> LowRank:
        return self + (-other)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"LowRank({m} x {n}, rank {self.rank}, energy {self.energy:.4f}, by {self.method})"

    def _repr_html_(self) -> str:
        m, n = self.shape
        rows = {
            "shape": f"{m:,} x {n:,}",
            "rank": str(self.rank),
            "energy kept": f"{self.energy:.4%}",
            "relative error": f"{self.error:.4g}",
            "parameters": f"{self.parameters:,} (dense: {m * n:,})",
            "method": self.method,
        }
        if self.rank_bounds is not None:
            low, high = self.rank_bounds
            proven = f"proven: {high}" if low == high else f"between {low} and {high}"
            rows["least rank for the goal"] = proven
        return html_table("LowRank", rows)


def _like(values: Floats, array: DeviceArray) -> DeviceArray:
    """Return float64 values as an array of the kind, dtype and device of ``array``."""
    return ops_for(array).like(values, array)


def _stack(a: DeviceArray, b: DeviceArray, axis: int) -> DeviceArray:
    return ops_for(a).concatenate([a, b], axis)


def _chain(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    if left[-1] != right[0]:
        raise UsageError("LowRank @ x", f"the shapes {left} and {right} do not chain")
