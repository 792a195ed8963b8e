"""ALS against its own objective and against a plain loop over rows; recovery of what was built."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.applications.completion.als import ONE, OWN, Ridge, _solve, complete_by_als, groups
from eckart.applications.completion.baseline import fit_biases
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import standardise
from support.ratings import entries_of, low_rank


def uneven(m=50, n=40, seed=0):
    """Entries whose counts per row run from 0 to n."""
    random = np.random.default_rng(seed)
    X = low_rank(m, n, 2, seed) + 0.1 * random.standard_normal((m, n))
    rows, columns = np.nonzero(random.random((m, n)) < np.linspace(0, 1, m)[:, None] ** 2)
    return Entries.of(rows, columns, X[rows, columns], (m, n))


def test_groups_hold_every_entry_once():
    entries = uneven()
    seen = []
    for group in groups(entries):
        for row, columns, values, count in zip(
            group.rows, group.columns, group.values, group.counts, strict=True
        ):
            real = columns < entries.shape[1]
            assert real.sum() == count and (values[~real] == 0).all()
            seen += [(row, c, v) for c, v in zip(columns[real], values[real], strict=True)]
    there = zip(entries.rows, entries.columns, entries.values.astype(np.float32), strict=True)
    assert sorted(seen) == sorted(there)


def test_a_half_sweep_is_a_ridge_regression_per_row():
    entries, r = uneven(), 3
    m, n = entries.shape
    random = np.random.default_rng(1)
    Q = np.zeros((n + 1, r + 2), np.float32)
    Q[:n] = random.standard_normal((n, r + 2))
    Q[:n, ONE] = 1
    P = np.zeros((m + 1, r + 2), np.float32)
    misfit, penalty = _solve(list(groups(entries)), Q, P, Ridge(0.3, 0.5, 2.0))
    left = shrunk = 0.0
    for i in range(m):
        mine = entries.rows == i
        count = mine.sum()
        if not count:
            assert (P[i] == 0).all()
            continue
        side = Q[entries.columns[mine]].astype(float)
        X = np.column_stack([np.ones(count), side[:, 2:]])
        y = entries.values[mine] - side[:, OWN]
        D = np.diag([2.0] + [0.3 * count**0.5] * r)
        x = np.linalg.solve(X.T @ X + D, X.T @ y)
        assert np.allclose(P[i, [OWN, 2, 3, 4]], x, atol=2e-5)  # products in float32
        left += ((y - X @ x) ** 2).sum() + x @ D @ x
        shrunk += x @ D @ x
    assert misfit == pytest.approx(left, rel=1e-4) and penalty == pytest.approx(shrunk, rel=1e-4)


def test_a_low_rank_matrix_with_biases_is_found_again():
    random = np.random.default_rng(5)
    truth = 7 + random.standard_normal((60, 1)) + random.standard_normal((1, 50)) + low_rank(60, 50, 2)
    found = complete_by_als(entries_of(truth, 0.5), 2, 1e-5, 1.0, 1e-3, tolerance=1e-7)
    everywhere = np.array([found.row(i) for i in range(60)])
    # Float32 products leave 1e-4; the penalty of 1e-5 per rating as much.
    assert np.linalg.norm(everywhere - truth) <= 1e-3 * np.linalg.norm(truth - 7)


def test_more_sweeps_never_raise_the_objective():
    entries = uneven(seed=4)
    _, scale, _ = standardise(entries)
    in_row, in_column = entries.counts()
    objectives = []
    for tolerance in (0.3, 1e-2, 1e-3, 1e-5):
        found = complete_by_als(entries, 3, 0.1, 1.0, 2.0, tolerance=tolerance)
        misfit = (((found.at(entries.rows, entries.columns) - entries.values) / scale) ** 2).sum()
        P, Q = (side.astype(float) / np.sqrt(scale) for side in (found.P, found.Q))
        b, c = found.row_bias / scale, found.column_bias / scale
        penalty = 2.0 * ((b**2).sum() + (c**2).sum())
        penalty += 0.1 * ((in_row * (P**2).sum(1)).sum() + (in_column * (Q**2).sum(1)).sum())
        objectives.append(misfit + penalty)
    assert (np.diff(objectives) <= 1e-6 * objectives[0]).all()  # rounding to float32 at the end
    assert objectives[-1] < objectives[0]


def test_units_do_not_matter():
    entries = uneven(seed=2)
    one = complete_by_als(entries, 2, 0.1, 0.5, 4.0)
    big = complete_by_als(entries.with_values(1000 * entries.values + 5000), 2, 0.1, 0.5, 4.0)
    a, b = (x.at(entries.rows, entries.columns) for x in (one, big))
    assert np.allclose(1000 * a + 5000, b, atol=1e-3 * 1000)


def test_rows_and_columns_without_entries_have_nothing():
    entries = Entries.of(np.array([0, 0, 2]), np.array([0, 3, 3]), np.array([1.0, 2.0, 5.0]), (4, 5))
    found = complete_by_als(entries, 2, 0.1, 1.0, 1.0)
    assert found.row_bias[1] == found.row_bias[3] == found.column_bias[4] == 0
    assert (found.P[1] == 0).all() and (found.Q[[1, 2, 4]] == 0).all()
    assert found.at(np.array([1]), np.array([4]))[0] == pytest.approx(8 / 3)  # the mean


def test_biases_solve_their_normal_equations():
    entries = uneven(seed=6)
    b, c = fit_biases(entries, 3.0)
    rest = entries.values - b[entries.rows] - c[entries.columns]
    by_row = np.bincount(entries.rows, rest, entries.shape[0])
    by_column = np.bincount(entries.columns, rest, entries.shape[1])
    # The gradient is zero at the minimum: the misfit of a row equals shrink times its bias. Both sums are
    # a hundred at most, and the residual is 1e-6 of their norm.
    assert np.allclose(by_row, 3.0 * b, atol=1e-4)
    assert np.allclose(by_column, 3.0 * c, atol=1e-4)


@settings(max_examples=40)
@given(
    m=st.integers(1, 8), n=st.integers(1, 8), count=st.integers(1, 20), rank=st.integers(1, 6),
    seed=st.integers(0, 999), constant=st.booleans(),
)  # fmt: skip
def test_any_small_matrix(m, n, count, rank, seed, constant):
    random = np.random.default_rng(seed)
    places = random.permutation(m * n)[:count]
    values = np.full(len(places), 4.0) if constant else random.integers(1, 6, len(places)).astype(float)
    entries = Entries.of(places // n, places % n, values, (m, n))
    found = complete_by_als(entries, rank, 0.1, 0.5, 1.0)
    assert found.rank <= min(rank, m, n)
    everywhere = np.array([found.row(i) for i in range(m)])
    assert np.isfinite(everywhere).all()
    if constant:
        assert np.allclose(everywhere, 4.0)
