"""Independent reference implementations with dense matrices, simple enough to verify by reading."""

from __future__ import annotations

import numpy as np


def dense(entries):
    """Return the matrix with zeros for unknown entries, and the mask of the known ones."""
    X, known = np.zeros(entries.shape), np.zeros(entries.shape, bool)
    X[entries.rows, entries.columns] = entries.values
    known[entries.rows, entries.columns] = True
    return X, known


def dense_soft_impute(X, known, threshold, start=None, iterations=20_000, tolerance=1e-12):
    """Algorithm 1 of Mazumder, Hastie and Tibshirani (2010), with a full SVD in each iteration."""
    M = np.zeros_like(X) if start is None else start
    for _ in range(iterations):
        U, s, Vh = np.linalg.svd(np.where(known, X, M), full_matrices=False)
        new = (U * np.maximum(s - threshold, 0)) @ Vh
        if np.linalg.norm(new - M) <= tolerance * max(np.linalg.norm(new), 1e-300):
            return new
        M = new
    return M


def mean_filled_svd(kept, held, ranks, by_column):
    """Fill unknown entries with a mean, truncate the SVD, and return the error on held-out entries by rank.

    Introductions to the SVD treat ratings like this. The result approximates a matrix that consists mostly
    of guesses.
    """
    X, known = dense(kept)
    counts = known.sum(0)
    means = np.where((counts > 0) & by_column, X.sum(0) / np.maximum(counts, 1), kept.values.mean())
    U, s, Vh = np.linalg.svd(np.where(known, X, means), full_matrices=False)
    errors = {}
    for rank in ranks:
        predicted = ((U[:, :rank] * s[:rank]) @ Vh[:rank])[held.rows, held.columns]
        errors[rank] = float(np.sqrt(np.mean((predicted - held.values) ** 2)))
    return errors
