"""Tikhonov's regularisation (ridge) by filter factors: every penalty from one SVD, and two ways to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Floats
from eckart.checks import is_number
from eckart.errors import UsageError
from eckart.linalg.backend import check_energy
from eckart.linalg.solve import as_problem, reduced
from eckart.linalg.stack import Numbers, conjugate_transpose, held

POINTS = 200  # penalties looked at, evenly in their logarithm, before the best is refined


@dataclass(frozen=True, eq=False)
class RidgeSolution:
    """The minimiser of ||A x - b||^2 + penalty ||x||^2, and what it costs.

    Parameters
    ----------
    x : ndarray (n,) or (n, k)
    penalty : float
        lambda.
    residual : float
        ||A x - b||, over all right-hand sides together.
    norm : float
        ||x||.
    degrees_of_freedom : float
        Sum of the filter factors sigma^2 / (sigma^2 + lambda): min(m, n) at 0, 0 at infinity.
    gcv : float
        The score of generalised cross-validation; less is better.
    """

    x: Numbers
    penalty: float
    residual: float
    norm: float
    degrees_of_freedom: float
    gcv: float


class RidgePath:
    """min ||A x - b||^2 + lambda ||x||^2 for every lambda, from one SVD.

    Equivalent, at each lambda, to ``numpy.linalg.solve(A.T @ A + lambda * I, A.T @ b)``.

    Parameters
    ----------
    A : array_like (m, n)
    b : array_like (m,) or (m, k)
        All columns share one lambda.

    Raises
    ------
    MatrixError
        Shapes that do not fit, a NaN or an infinity, or squares out of float64's range.

    Notes
    -----
    x = sum_i sigma_i / (sigma_i^2 + lambda) v_i (u_i^T b). After the SVD (`lstsq` says what it costs) a
    solution costs 2 min(m, n) n k flops, and a score or a point of the L-curve min(m, n). A^T A is
    never formed: it would square the condition. Nothing is centred: subtract means first where the
    model has an intercept. lambda here is not divided by m, as it is in some texts.

    References
    ----------
    Hansen (1998), Rank-Deficient and Discrete Ill-Posed Problems, chapters 4 and 7.

    Examples
    --------
    >>> path = RidgePath(np.diag([3.0, 1.0]), [3.0, 1.0])
    >>> path.solve(1.0).x.round(12).tolist()                # 9/10 and 1/2 of (1, 1)
    [0.9, 0.5]
    >>> round(path.solve(1.0).degrees_of_freedom, 12)
    1.4
    """

    def __init__(self, A: ArrayLike, b: ArrayLike) -> None:
        call = "eckart.linalg.RidgePath(A, b)"
        wide, right, self._dtype, self._is_vector = as_problem(A, b, call)
        with np.errstate(over="ignore", invalid="ignore"):
            self._problem = reduced(wide, right)
            self._squares = (np.abs(self._problem.coordinates) ** 2).sum(axis=1)  # |u_i^T b|^2 over all b
            self._outside = float(self._problem.outside.sum())
            # lambda is of the size of sigma^2, and the scores are of that of |b|^2.
            check_energy(wide, float((self.s**2).sum()), f"A of {call}")
            check_energy(right, float(self._squares.sum()) + self._outside, f"b of {call}")

    @property
    def s(self) -> Floats:
        """Singular values of A, (min(m, n),)."""
        return self._problem.s

    def filter_factors(self, penalty: float) -> Floats:
        """Return sigma^2 / (sigma^2 + lambda), (min(m, n),): the share of each component that is kept."""
        kept, _ = _filtered(self.s, _checked(penalty))
        return kept

    def solve(self, penalty: float) -> RidgeSolution:
        """Return the solution for one penalty; 0 gives the least-squares solution of smallest norm."""
        problem, penalty = self._problem, _checked(penalty)
        kept, _ = _filtered(self.s, penalty)
        # sigma / (sigma^2 + lambda), without squaring a small sigma.
        weights = np.divide(kept, self.s, out=np.zeros_like(self.s), where=kept > 0)
        x = conjugate_transpose(problem.Vh) @ (weights[:, None] * problem.coordinates)  # (n, k)
        residual, norm = self._sizes(penalty)
        return RidgeSolution(
            held(x[:, 0] if self._is_vector else x, self._dtype, "RidgePath.solve"),
            penalty,
            float(np.sqrt(residual)),
            float(np.sqrt(norm)),
            float(kept.sum()),
            self.gcv(penalty),
        )

    def gcv(self, penalty: float) -> float:
        """Return m ||A x - b||^2 / (m - degrees of freedom)^2; inf where there is nothing left to test with.

        The leave-one-out error, made independent of the axes that b is written in.

        References
        ----------
        Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good
        ridge parameter, Technometrics 21, equation 1.4.
        """
        m = self._problem.shape[0]
        kept, lost = _filtered(self.s, _checked(penalty))
        left = float(lost.sum()) + max(m - len(kept), 0)  # not m - sum(kept): that cancels
        return m * self._sizes(penalty)[0] / left**2 if left > 0 else float("inf")

    def curvature(self, penalty: float) -> float:
        """Return the curvature of the L-curve (log ||A x - b||, log ||x||) at a penalty above 0.

        Positive where the curve turns as at the corner of an L.

        Notes
        -----
        By the exact derivatives of both squared norms in lambda, and the chain rule for the logarithms;
        for real and complex data alike.
        """
        penalty = _checked(penalty)
        if penalty == 0:
            raise UsageError(
                "RidgePath.curvature(0)", "expected a penalty above 0: the curve is drawn in logarithms"
            )
        kept, lost = _filtered(self.s, penalty)
        safe = np.where(self.s > 0, self.s, 1.0)
        parts = np.where(self.s > 0, (kept / safe) ** 2, 0.0) * self._squares  # of ||x||^2
        rho, eta = self._sizes(penalty)
        if rho <= 0 or eta <= 0:
            return 0.0
        # With t = log lambda: d(kept)/dt = -kept lost, and d(||r||^2)/dt = -lambda d(||x||^2)/dt.
        eta_1 = -2.0 * float((parts * lost).sum())
        eta_2 = float((parts * lost * (4.0 * lost - 2.0 * kept)).sum())
        rho_1, rho_2 = -penalty * eta_1, -penalty * (eta_1 + eta_2)
        x_1, x_2 = rho_1 / rho / 2, (rho_2 / rho - (rho_1 / rho) ** 2) / 2
        y_1, y_2 = eta_1 / eta / 2, (eta_2 / eta - (eta_1 / eta) ** 2) / 2
        speed = float(np.hypot(x_1, y_1))
        return (x_1 * y_2 - x_2 * y_1) / speed**3 if speed > 0 else 0.0

    def best_by_gcv(self) -> float:
        """Return the penalty with the least `gcv` score.

        Notes
        -----
        The curve can have several minima: `POINTS` penalties between sigma_1^2 and the square of the
        rounding of sigma_1 (or of the least sigma that is above it) are looked at, and the best is
        refined. Right for white noise in b; correlated noise is taken for signal.
        """
        return self._best(self.gcv)

    def corner(self) -> float:
        """Return the penalty at the corner of the L-curve: where its curvature is largest.

        Notes
        -----
        Needs no model of the noise. It is known to choose too small a penalty where the solution is smooth
        (Hanke, 1996) and not to converge as the noise goes to zero (Vogel, 1996): on the blurred signals
        of our tests its error is up to 25 times the best, that of `best_by_gcv` up to 3.3 times. A curve
        without a corner has none: then what is found is a bend by chance.

        References
        ----------
        Hansen (1992), Analysis of discrete ill-posed problems by means of the L-curve, SIAM Review 34.
        """
        return self._best(lambda penalty: -self.curvature(penalty))

    def _best(self, score: Any) -> float:
        from scipy.optimize import minimize_scalar

        above = self.s[self.s > (self.s.max(initial=0.0) * np.finfo(np.float64).eps * len(self.s))]
        if not len(above):
            raise UsageError("RidgePath", "A is zero: every penalty gives x = 0")
        grid = np.linspace(2 * np.log(above[-1]), 2 * np.log(above[0]), POINTS) if len(above) > 1 else None
        if grid is None or grid[0] == grid[-1]:
            grid = 2 * np.log(above[0]) + np.linspace(-30.0, 0.0, POINTS)
        scores = [score(float(np.exp(t))) for t in grid]
        best = int(np.argmin(scores))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
        found = minimize_scalar(lambda t: score(float(np.exp(t))), bounds=(low, high), method="bounded")
        return float(np.exp(found.x if found.fun <= scores[best] else grid[best]))

    def _sizes(self, penalty: float) -> tuple[float, float]:
        """Return ||A x - b||^2 and ||x||^2."""
        kept, lost = _filtered(self.s, penalty)
        weights = np.divide(kept, self.s, out=np.zeros_like(self.s), where=kept > 0)
        return float((lost**2 * self._squares).sum()) + self._outside, float(
            (weights**2 * self._squares).sum()
        )


def ridge(A: ArrayLike, b: ArrayLike, penalty: float | str = "gcv") -> RidgeSolution:
    """Solve min ||A x - b||^2 + lambda ||x||^2.

    Equivalent to ``numpy.linalg.solve(A.T @ A + penalty * I, A.T @ b)``, without forming A^T A.

    Parameters
    ----------
    A : array_like (m, n)
    b : array_like (m,) or (m, k)
    penalty : float, "gcv" or "l-curve"
        lambda, or how to choose it: see `RidgePath.best_by_gcv` and `RidgePath.corner`.

    Returns
    -------
    RidgeSolution

    Raises
    ------
    MatrixError
        As `RidgePath`.
    UsageError
        A penalty below 0, or a word that is none of the two.

    Notes
    -----
    One SVD (`lstsq` says what it costs); a choice adds some 230 scores of min(m, n) numbers each.

    Examples
    --------
    >>> ridge([[3.0, 0.0], [0.0, 1.0]], [3.0, 1.0], 1.0).x.round(12).tolist()
    [0.9, 0.5]
    """
    path = RidgePath(A, b)
    if penalty == "gcv":
        penalty = path.best_by_gcv()
    elif penalty == "l-curve":
        penalty = path.corner()
    elif isinstance(penalty, str):
        raise UsageError(f"ridge(penalty={penalty!r})", "expected a number, 'gcv' or 'l-curve'")
    return path.solve(penalty)


def _filtered(s: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Return the shares of each component that are kept and lost, each without cancelling."""
    if penalty == 0:
        # As in `lstsq`: what is under rounding is not there.
        kept = (s > s.max(initial=0.0) * len(s) * np.finfo(np.float64).eps).astype(np.float64)
        return kept, 1.0 - kept
    root = np.sqrt(penalty)
    scale = np.maximum(s, root)
    one, other = (s / scale) ** 2, (root / scale) ** 2
    return one / (one + other), other / (one + other)


def _checked(penalty: float) -> float:
    if not is_number(penalty) or penalty < 0:
        raise UsageError(f"penalty={penalty!r}", "expected a number of at least 0")
    return float(penalty)
