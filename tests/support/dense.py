"""Independent second opinions, all of them dense: for small matrices, and to be read at a glance."""

from __future__ import annotations

import numpy as np


def dense(entries):
    """Return the matrix with zeros, and the mask of what is known."""
    X, known = np.zeros(entries.shape), np.zeros(entries.shape, bool)
    X[entries.rows, entries.columns] = entries.values
    known[entries.rows, entries.columns] = True
    return X, known


def dense_soft_impute(X, known, threshold, start=None, iterations=20_000, tolerance=1e-12):
    """Mazumder, Hastie and Tibshirani (2010), algorithm 1, by a full SVD in each iteration."""
    M = np.zeros_like(X) if start is None else start
    for _ in range(iterations):
        U, s, Vh = np.linalg.svd(np.where(known, X, M), full_matrices=False)
        new = (U * np.maximum(s - threshold, 0)) @ Vh
        if np.linalg.norm(new - M) <= tolerance * max(np.linalg.norm(new), 1e-300):
            return new
        M = new
    return M


def mean_filled_svd(kept, held, ranks, by_column):
    """Fill what is missing with a mean, truncate the SVD, and return the error for each rank.

    What an introduction to the SVD does with ratings: the best low-rank approximation of a matrix that
    consists, for the most part, of guesses.
    """
    X, known = dense(kept)
    counts = known.sum(0)
    means = np.where((counts > 0) & by_column, X.sum(0) / np.maximum(counts, 1), kept.values.mean())
    U, s, Vh = np.linalg.svd(np.where(known, X, means), full_matrices=False)
    errors = {}
    for rank in ranks:
        found = ((U[:, :rank] * s[:rank]) @ Vh[:rank])[held.rows, held.columns]
        errors[rank] = float(np.sqrt(np.mean((found - held.values) ** 2)))
    return errors
