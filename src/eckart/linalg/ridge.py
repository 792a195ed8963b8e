"""Tikhonov regularisation (ridge): one SVD serves all penalties, and two methods choose one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Floats
from eckart.checks import is_number
from eckart.errors import UsageError
from eckart.linalg.backend import check_energy
from eckart.linalg.solve import as_problem, in_singular_coordinates
from eckart.linalg.stack import Numbers, conjugate_transpose, to_dtype

POINTS = 200  # penalties that are scored, evenly in their logarithm, before the best one is refined


@dataclass(frozen=True, eq=False)
class RidgeSolution:
    """The minimiser of ||A x - b||^2 + penalty ||x||^2, with its residual and norm.

    Parameters
    ----------
    x : ndarray (n,) or (n, k)
        The solution.
    penalty : float
        lambda.
    residual : float
        ||A x - b||_F, over all right-hand sides together.
    norm : float
        ||x||.
    degrees_of_freedom : float
        Sum of the filter factors sigma^2 / (sigma^2 + lambda): min(m, n) at 0, 0 at infinity.
    gcv : float
        Score of generalised cross-validation; lower is better.
    """

    x: Numbers
    penalty: float
    residual: float
    norm: float
    degrees_of_freedom: float
    gcv: float


class RidgePath:
    """Solutions of min ||A x - b||^2 + lambda ||x||^2 for every lambda, from one SVD.

    Equivalent, at each lambda, to ``numpy.linalg.solve(A.T @ A + lambda * I, A.T @ b)``.

    Parameters
    ----------
    A : array_like (m, n)
        The matrix.
    b : array_like (m,) or (m, k)
        One right-hand side, or k of them as columns, which share one lambda.

    Raises
    ------
    MatrixError
        If the shapes do not match, A or b holds a NaN or an infinity, or squares are out of float64's range.

    Notes
    -----
    x = sum_i sigma_i / (sigma_i^2 + lambda) v_i (u_i^T b). After the SVD (see `lstsq` for its cost) a
    solution costs 2 min(m, n) n k flops, and a score or a point of the L-curve min(m, n). A^T A is
    never formed, because that would square the condition. Nothing is centred: subtract the means first if
    the model has an intercept. lambda is not divided by m, unlike in some texts.

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
            self._problem = in_singular_coordinates(wide, right)
            self._squares = (np.abs(self._problem.coordinates) ** 2).sum(axis=1)  # |u_i^T b|^2 over all b
            self._outside = float(self._problem.outside.sum())
            # lambda is of the order of sigma^2, and the scores are of the order of |b|^2.
            check_energy(wide, float((self.s**2).sum()), f"A of {call}")
            check_energy(right, float(self._squares.sum()) + self._outside, f"b of {call}")

    @property
    def s(self) -> Floats:
        """Singular values of A, ndarray (min(m, n),)."""
        return self._problem.s

    def filter_factors(self, penalty: float) -> Floats:
        """Return the share of each component that is kept, sigma^2 / (sigma^2 + lambda).

        Parameters
        ----------
        penalty : float
            lambda, at least 0.

        Returns
        -------
        ndarray (min(m, n),), float64
            From 0 to 1.

        Raises
        ------
        UsageError
            If the penalty is not a number of at least 0.
        """
        kept, _ = _filtered(self.s, _checked(penalty))
        return kept

    def solve(self, penalty: float) -> RidgeSolution:
        """Return the solution for one penalty.

        Parameters
        ----------
        penalty : float
            lambda, at least 0. 0 gives the least-squares solution of smallest norm.

        Returns
        -------
        RidgeSolution
            The solution, with its residual, norm and score.

        Raises
        ------
        MatrixError
            If the solution is out of the dtype's range.
        UsageError
            If the penalty is not a number of at least 0.
        """
        problem, penalty = self._problem, _checked(penalty)
        kept, _ = _filtered(self.s, penalty)
        # sigma / (sigma^2 + lambda), without squaring a small sigma.
        weights = np.divide(kept, self.s, out=np.zeros_like(self.s), where=kept > 0)
        x = conjugate_transpose(problem.Vh) @ (weights[:, None] * problem.coordinates)  # (n, k)
        residual, norm = self._sizes(penalty)
        return RidgeSolution(
            to_dtype(x[:, 0] if self._is_vector else x, self._dtype, "RidgePath.solve"),
            penalty,
            float(np.sqrt(residual)),
            float(np.sqrt(norm)),
            float(kept.sum()),
            self.gcv(penalty),
        )

    def gcv(self, penalty: float) -> float:
        """Return the score of generalised cross-validation; lower is better.

        It is the leave-one-out error, made independent of the coordinates of b.

        Parameters
        ----------
        penalty : float
            lambda, at least 0.

        Returns
        -------
        float
            m ||A x - b||^2 / (m - degrees of freedom)^2; inf if the model uses all m degrees of freedom.

        Raises
        ------
        UsageError
            If the penalty is not a number of at least 0.

        References
        ----------
        Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good
        ridge parameter, Technometrics 21, equation 1.4.
        """
        m = self._problem.shape[0]
        kept, lost = _filtered(self.s, _checked(penalty))
        left = float(lost.sum()) + max(m - len(kept), 0)  # m - sum(kept) would cancel
        return m * self._sizes(penalty)[0] / left**2 if left > 0 else float("inf")

    def curvature(self, penalty: float) -> float:
        """Return the curvature of the L-curve (log ||A x - b||, log ||x||).

        Parameters
        ----------
        penalty : float
            lambda, above 0.

        Returns
        -------
        float
            Positive where the curve bends like the corner of an L; 0 if a norm is 0.

        Raises
        ------
        UsageError
            If the penalty is not a number above 0.

        Notes
        -----
        Uses the exact derivatives of both squared norms in lambda and the chain rule for the logarithms,
        for real and complex data.
        """
        penalty = _checked(penalty)
        if penalty == 0:
            raise UsageError(
                "RidgePath.curvature(0)", "expected a penalty above 0, because the curve uses its logarithm"
            )
        kept, lost = _filtered(self.s, penalty)
        safe = np.where(self.s > 0, self.s, 1.0)
        parts = np.where(self.s > 0, (kept / safe) ** 2, 0.0) * self._squares  # terms of ||x||^2
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
        """Return the penalty with the lowest `gcv` score.

        Returns
        -------
        float
            lambda.

        Raises
        ------
        UsageError
            If A is zero.

        Notes
        -----
        The score can have several minima. `POINTS` penalties between sigma_1^2 and the square of the
        rounding of sigma_1 (or of the least sigma above that) are scored, and the best one is
        refined. Suited to white noise in b; correlated noise is mistaken for signal.
        """
        return self._best(self.gcv)

    def corner(self) -> float:
        """Return the penalty at the corner of the L-curve, where its curvature is largest.

        Returns
        -------
        float
            lambda.

        Raises
        ------
        UsageError
            If A is zero.

        Notes
        -----
        Needs no model of the noise. It is known to choose too small a penalty for smooth solutions
        (Hanke, 1996) and not to converge as the noise goes to zero (Vogel, 1996): on the blurred signals
        of the tests its error is up to 25 times the best, that of `best_by_gcv` up to 3.3 times. If the
        curve has no corner, the result is an arbitrary bend.

        References
        ----------
        Hansen (1992), Analysis of discrete ill-posed problems by means of the L-curve, SIAM Review 34.
        """
        return self._best(lambda penalty: -self.curvature(penalty))

    def _best(self, score: Callable[[float], float]) -> float:
        """Return the penalty with the lowest score."""
        from scipy.optimize import minimize_scalar

        above = self.s[self.s > (self.s.max(initial=0.0) * np.finfo(np.float64).eps * len(self.s))]
        if not len(above):
            raise UsageError("RidgePath", "A is zero, so every penalty gives x = 0")
        grid = np.linspace(2 * np.log(above[-1]), 2 * np.log(above[0]), POINTS) if len(above) > 1 else None
        if grid is None or grid[0] == grid[-1]:
            grid = 2 * np.log(above[0]) + np.linspace(-30.0, 0.0, POINTS)
        scores = [score(float(np.exp(t))) for t in grid]
        best = int(np.argmin(scores))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
        refined = minimize_scalar(lambda t: score(float(np.exp(t))), bounds=(low, high), method="bounded")
        return float(np.exp(refined.x if refined.fun <= scores[best] else grid[best]))

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
        The matrix.
    b : array_like (m,) or (m, k)
        One right-hand side, or k of them as columns.
    penalty : float, "gcv" or "l-curve"
        lambda, or a method that chooses it: see `RidgePath.best_by_gcv` and `RidgePath.corner`.

    Returns
    -------
    RidgeSolution
        The solution, with its residual, norm and score.

    Raises
    ------
    MatrixError
        As for `RidgePath`, or if the solution is out of the dtype's range.
    UsageError
        If the penalty is neither a number of at least 0 nor one of the two names.

    Notes
    -----
    One SVD (see `lstsq` for its cost). A method adds about 230 scores of min(m, n) flops each.

    Examples
    --------
    >>> ridge([[3.0, 0.0], [0.0, 1.0]], [3.0, 1.0], 1.0).x.round(12).tolist()
    [0.9, 0.5]
    """
    if not isinstance(penalty, str):
        penalty = _checked(penalty)
    elif penalty not in ("gcv", "l-curve"):
        raise UsageError(f"ridge(penalty={penalty!r})", "expected a number, 'gcv' or 'l-curve'")
    path = RidgePath(A, b)
    if penalty == "gcv":
        penalty = path.best_by_gcv()
    elif penalty == "l-curve":
        penalty = path.corner()
    return path.solve(float(penalty))


def _filtered(s: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Return the shares of each component that are kept and lost, each without cancellation."""
    if penalty == 0:
        # As in `lstsq`, singular values below rounding count as zero.
        kept = (s > s.max(initial=0.0) * len(s) * np.finfo(np.float64).eps).astype(np.float64)
        return kept, 1.0 - kept
    root = np.sqrt(penalty)
    scale = np.maximum(s, root)
    signal, damping = (s / scale) ** 2, (root / scale) ** 2
    return signal / (signal + damping), damping / (signal + damping)


def _checked(penalty: float) -> float:
    """Return a penalty as a float, or refuse it."""
    if not is_number(penalty) or penalty < 0:
        raise UsageError(f"penalty={penalty!r}", "expected a number of at least 0")
    return float(penalty)
