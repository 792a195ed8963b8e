"""Matrices whose completion is known, and random samples of their entries."""

from __future__ import annotations

import numpy as np

from eckart.applications.completion.entries import Entries
from support.matrices import with_values


def entries_of(X, share, seed=0):
    """Return a random share of the entries of a matrix."""
    rows, columns = np.nonzero(np.random.default_rng(seed).random(X.shape) < share)
    return Entries.of(rows, columns, X[rows, columns], X.shape)


def low_rank(m, n, rank, seed=0):
    """Return a matrix with singular values sqrt(mn) / 1, sqrt(mn) / 2, ..., whose entries are about 1."""
    return with_values(np.sqrt(m * n) / np.arange(1, rank + 1), m, n, seed)
