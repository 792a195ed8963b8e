"""Soft-impute: the completion of least nuclear norm, along a path of regularisations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from eckart.applications.completion.baseline import fit_biases
from eckart.applications.completion.entries import Entries, Floats
from eckart.applications.completion.model import Completion, completion, standardise
from eckart.applications.completion.operator import SparsePlusLowRank, leading_triplets

STEP = 0.87  # from one regularisation of the path to the next: five of them halve it
EXTRA = 6  # columns beyond the rank in hand: how many components one iteration can find anew
MOST = 200  # iterations at one point of the path, should it not settle before


@dataclass(frozen=True, eq=False)
class Imputed:
    """A point of the path: the solution U diag(s) V^T for one regularisation.

    Parameters
    ----------
    share : float
        The regularisation over the largest singular value of the zero-filled matrix.
    threshold : float
        The regularisation itself.
    U, V : ndarray (m, k) and (n, k)
        Orthonormal columns.
    s : ndarray (k,)
        Largest first, what is left of the singular values of the filled matrix after the threshold.
    iterations : int
    """

    share: float
    threshold: float
    U: Floats
    s: Floats
    V: Floats
    iterations: int


def path_to(share: float) -> list[float]:
    """Return the path STEP, STEP^2, ... down to ``share``, which it ends in."""
    steps: list[float] = []
    while (point := STEP ** (len(steps) + 1)) > share * (1 + 1e-9):
        steps.append(point)
    return [*steps, share]


def soft_impute(
    entries: Entries, shares: Iterable[float], rank: int, tolerance: float = 1e-2, seed: int = 0
) -> Iterator[Imputed]:
    """Minimise 1/2 sum_known (x_ij - M_ij)^2 + lambda ||M||_* for a falling lambda, over rank(M) <= rank.

    Parameters
    ----------
    entries : Entries
        The known x_ij, about mean 0.
    shares : iterable of float
        Falling; lambda is this share of sigma_1 of the matrix with zeros for what is not known. From
        share 1 on, M = 0 is the solution.
    rank : int
        The most components that M may have; min(m, n) for the convex problem itself.
    tolerance : float
        An iteration that changes M by less than this, relative and in Frobenius norm, is the last. The
        change is known to 1e-8.
    seed : int
        Of the directions in which new components are looked for.

    Yields
    ------
    Imputed
        For each share, warm-started from the one before.

    Notes
    -----
    Each iteration replaces M by the singular values, less lambda, of the matrix filled up by M: S + M,
    with S the misfit at the known entries. That matrix is sparse plus low rank and is never formed. Its
    leading components come from one block power step on the subspace of the last iteration and a few fresh
    random directions, so that an iteration costs 2 N k for the misfit and two products of k + 6 columns
    with the operator; the change from one iteration to the next is what an exact SVD would spend its
    digits on. Converges linearly at best, slower where lambda is small and little is known.

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
    empty = SparsePlusLowRank(matrix, np.zeros((m, 0)), np.zeros((n, 0)))
    _, first, Vh = leading_triplets(empty, EXTRA, seed)
    largest = float(first[0]) if len(first) else 0.0
    U, s, V = np.zeros((m, 0)), np.zeros(0), np.zeros((n, 0))
    W = np.asarray(Vh).T  # the subspace searched last, (n, w)
    for share in shares:
        threshold, count = share * largest, 0
        while largest > 0 and count < MOST:
            count += 1
            matrix.data = entries.values - entries.inner(U * s, V)
            wide = min(len(s) + EXTRA, m, n)
            fresh = random.standard_normal((n, max(wide - W.shape[1], 1)))
            W = np.concatenate([W[:, :wide], fresh], axis=1)
            left, sigma, W = _power_step(SparsePlusLowRank(matrix, U * s, V), W)
            k = min(int(np.count_nonzero(sigma > threshold)), rank)
            old, U, s, V = (U, s, V), left[:, :k], sigma[:k] - threshold, W[:, :k]
            if _change(old, (U, s, V)) <= tolerance:
                break
        yield Imputed(share, threshold, U, s, V, count)


def complete_by_soft_impute(
    entries: Entries, rank: int, share: float, shrink: float, seed: int = 0, tolerance: float = 1e-2
) -> Completion:
    """Complete a matrix by its biases, and what they leave by soft-impute at one regularisation."""
    mean, scale, standard = standardise(entries)
    b, c = fit_biases(standard, shrink)
    rest = standard.with_values(standard.values - b[standard.rows] - c[standard.columns])
    *_, last = soft_impute(rest, path_to(share), rank, tolerance, seed)
    return as_completion(mean, scale, b, c, last)


def as_completion(mean: float, scale: float, b: Floats, c: Floats, point: Imputed) -> Completion:
    """Return a point of the path, and the biases it rests on, in the unit of the ratings."""
    root = np.sqrt(point.s)
    return completion(mean, scale, b, c, point.U * root, point.V * root)


def _power_step(A: SparsePlusLowRank, W: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the singular triplets of Q Q^T A, with Q an orthonormal basis of A W."""
    Q = np.linalg.qr(A @ W)[0]  # (m, w)
    V, s, Zt = np.linalg.svd(A.T @ Q, full_matrices=False)  # (n, w), (w,), (w, w)
    return Q @ Zt.T, s, V


def _change(old: tuple[Floats, Floats, Floats], new: tuple[Floats, Floats, Floats]) -> float:
    """Return ||M - M'||_F / ||M'||_F from the factors; 0 if both are zero."""
    (U, s, V), (U2, s2, V2) = old, new
    cross = float((((U * s).T @ (U2 * s2)) * (V.T @ V2)).sum())
    before, after = float((s**2).sum()), float((s2**2).sum())
    if after == 0:
        return 0.0 if before == 0 else 1.0
    return float(np.sqrt(max(before + after - 2 * cross, 0.0) / after))
