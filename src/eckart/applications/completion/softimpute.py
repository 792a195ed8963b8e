"""Soft-impute: matrix completion with a nuclear-norm penalty, along a path of decreasing regularisation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from eckart.applications.completion.baseline import fit_biases
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import Completion, completion, standardise
from eckart.applications.completion.operator import SparsePlusLowRank, leading_triplets
from eckart.arrays import Floats

STEP = 0.87  # ratio of consecutive regularisations on the path; five steps halve it
EXTRA = 6  # columns beyond the current rank: the number of new components that one iteration can find
MAX_ITERATIONS = 200  # at one point of the path


@dataclass(frozen=True, eq=False)
class Imputed:
    """A point on the path: the solution U diag(s) V^T for one regularisation.

    Parameters
    ----------
    share : float
        The regularisation divided by the largest singular value of the zero-filled matrix.
    threshold : float
        The regularisation.
    U : ndarray (m, k)
        Left singular vectors.
    s : ndarray (k,)
        Singular values of the filled matrix less the threshold, in decreasing order.
    V : ndarray (n, k)
        Right singular vectors.
    iterations : int
        Number of iterations at this point.
    """

    share: float
    threshold: float
    U: Floats
    s: Floats
    V: Floats
    iterations: int


def path_to(share: float) -> list[float]:
    """Return the path of regularisations that leads to a given one.

    Parameters
    ----------
    share : float
        The last point of the path.

    Returns
    -------
    list of float
        The powers of 0.87 that are greater than `share`, and `share`.
    """
    points: list[float] = []
    point = STEP
    while point > share * (1 + 1e-9):
        points.append(point)
        point = STEP ** (len(points) + 1)
    return [*points, share]


def soft_impute(
    entries: Entries, shares: Iterable[float], rank: int, tolerance: float = 1e-2, seed: int = 0
) -> Iterator[Imputed]:
    """Minimise 1/2 sum_known (x_ij - M_ij)^2 + lambda ||M||_* subject to rank(M) <= rank, for each lambda.

    Parameters
    ----------
    entries : Entries
        The known x_ij, with a mean near 0.
    shares : iterable of float
        Decreasing values of lambda / sigma_1, where sigma_1 is the largest singular value of the matrix with
        zeros for unknown entries. From share 1 upwards the solution is M = 0.
    rank : int
        Maximum rank of M. With min(m, n) the problem is convex.
    tolerance : float
        The iteration stops when the relative change of M in the Frobenius norm is below this, or after 200
        iterations. The change itself is computed to about 1e-8.
    seed : int
        Random seed of the directions in which new components are searched.

    Yields
    ------
    Imputed
        The solution for each share, started from the previous one.

    Notes
    -----
    Each iteration fills the unknown entries with M and replaces M by the soft-thresholded SVD of the result.
    The filled matrix is S + M, where S is the residual at the known entries: it is sparse plus low rank and
    is never formed. Its leading components come from one block power step on the subspace of the previous
    iteration and a few random directions. An iteration costs 2 N k flops for the residual and two products
    of the operator with k + 6 columns. An exact SVD would spend its digits on a matrix that the next
    iteration changes. Convergence is linear at best, and slow if lambda is small and few entries are known.

    References
    ----------
    Mazumder, Hastie and Tibshirani (2010), JMLR 11, algorithm 1 and equation 13. Hastie, Mazumder, Lee
    and Zadeh (2015), JMLR 16, for the rank restriction. Yao and Kwok (2015), IJCAI, for the power step.

    Examples
    --------
    >>> import numpy as np
    >>> e = Entries.of(np.array([0, 0, 1]), np.array([0, 1, 0]), np.ones(3), (2, 2))  # [[1, 1], [1, ?]]
    >>> *_, last = soft_impute(e, path_to(1e-4), rank=1, tolerance=1e-6)
    >>> np.round(last.U * last.s @ last.V.T, 2)
    array([[1., 1.],
           [1., 1.]])
    """
    m, n = entries.shape
    rank = min(rank, m, n)
    random = np.random.default_rng(seed)
    matrix = entries.matrix()
    zero_filled = SparsePlusLowRank(matrix, np.zeros((m, 0)), np.zeros((n, 0)))
    _, leading, Vh = leading_triplets(zero_filled, EXTRA, seed)
    largest = float(leading[0]) if len(leading) else 0.0
    U, s, V = np.zeros((m, 0)), np.zeros(0), np.zeros((n, 0))
    W = np.asarray(Vh).T  # (n, w): basis of the last subspace
    for share in shares:
        threshold, count = share * largest, 0
        while largest > 0 and count < MAX_ITERATIONS:
            count += 1
            matrix.data = entries.values - entries.inner(U * s, V)
            width = min(len(s) + EXTRA, m, n)
            fresh = random.standard_normal((n, max(width - W.shape[1], 1)))
            W = np.concatenate([W[:, :width], fresh], axis=1)
            left, sigma, W = _power_step(SparsePlusLowRank(matrix, U * s, V), W)
            k = min(int(np.count_nonzero(sigma > threshold)), rank)
            old, U, s, V = (U, s, V), left[:, :k], sigma[:k] - threshold, W[:, :k]
            if _change(old, (U, s, V)) <= tolerance:
                break
        yield Imputed(share, threshold, U, s, V, count)


def complete_by_soft_impute(
    entries: Entries, rank: int, share: float, shrink: float, seed: int = 0, tolerance: float = 1e-2
) -> Completion:
    """Complete a matrix by biases, and by soft-impute applied to the residual.

    Parameters
    ----------
    entries : Entries
        The known entries.
    rank : int
        Maximum number of factors.
    share : float
        Regularisation as a share of the largest singular value; see `soft_impute`.
    shrink : float
        Regularisation strength of the biases; see `fit_biases`.
    seed, tolerance
        As for `soft_impute`.

    Returns
    -------
    Completion
        The fitted model.
    """
    mean, scale, standard = standardise(entries)
    b, c = fit_biases(standard, shrink)
    residual = standard.with_values(standard.values - b[standard.rows] - c[standard.columns])
    *_, last = soft_impute(residual, path_to(share), rank, tolerance, seed)
    return as_completion(mean, scale, b, c, last)


def as_completion(mean: float, scale: float, b: Floats, c: Floats, point: Imputed) -> Completion:
    """Return the model that consists of biases and a point on the path, in the unit of the ratings.

    Parameters
    ----------
    mean, scale : float
        Mean and standard deviation of the ratings; see `standardise`.
    b, c : ndarray (m,) and (n,)
        Row and column biases of the standardised ratings.
    point : Imputed
        The completed residual.

    Returns
    -------
    Completion
        The fitted model.
    """
    root = np.sqrt(point.s)
    return completion(mean, scale, b, c, point.U * root, point.V * root)


def _power_step(A: SparsePlusLowRank, W: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the singular triplets of Q Q^T A, where Q is an orthonormal basis of A W."""
    Q = np.linalg.qr(A @ W)[0]  # (m, w)
    V, s, Zt = np.linalg.svd(A.T @ Q, full_matrices=False)  # (n, w), (w,), (w, w)
    return Q @ Zt.T, s, V


def _change(old: tuple[Floats, Floats, Floats], new: tuple[Floats, Floats, Floats]) -> float:
    """Return ||M - M'||_F / ||M'||_F, computed from the factors; 0 if both are zero."""
    (U, s, V), (U2, s2, V2) = old, new
    cross = float((((U * s).T @ (U2 * s2)) * (V.T @ V2)).sum())
    before, after = float((s**2).sum()), float((s2**2).sum())
    if after == 0:
        return 0.0 if before == 0 else 1.0
    return float(np.sqrt(max(before + after - 2 * cross, 0.0) / after))
