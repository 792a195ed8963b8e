"""ALS compared with its objective, with a plain loop over rows and with matrices of known completion."""

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
    """Return entries whose number per row varies from 0 to n."""
    random = np.random.default_rng(seed)
    X = low_rank(m, n, 2, seed) + 0.1 * random.standard_normal((m, n))
    rows, columns = np.nonzero(random.random((m, n)) < np.linspace(0, 1, m)[:, None] ** 2)
    return Entries.of(rows, columns, X[rows, columns], (m, n))


def test_groups_contain_every_entry_once():
    entries = uneven()
    seen = []
    for group in groups(entries):
        for row, columns, values, count in zip(
            group.rows, group.columns, group.values, group.counts, strict=True
        ):
            is_entry = columns < entries.shape[1]
            assert is_entry.sum() == count and (values[~is_entry] == 0).all()
            seen += [(row, c, v) for c, v in zip(columns[is_entry], values[is_entry], strict=True)]
    expected = zip(entries.rows, entries.columns, entries.values.astype(np.float32), strict=True)
    assert sorted(seen) == sorted(expected)


def test_a_half_sweep_is_a_ridge_regression_per_row():
    entries, r = uneven(), 3
    m, n = entries.shape
    random = np.random.default_rng(1)
    Q = np.zeros((n + 1, r + 2), np.float32)
    Q[:n] = random.standard_normal((n, r + 2))
    Q[:n, ONE] = 1
    P = np.zeros((m + 1, r + 2), np.float32)
    objective, penalty = _solve(list(groups(entries)), Q, P, Ridge(0.3, 0.5, 2.0))
    expected_objective = expected_penalty = 0.0
    for i in range(m):
        in_row = entries.rows == i
        count = in_row.sum()
        if not count:
            assert (P[i] == 0).all()
            continue
        side = Q[entries.columns[in_row]].astype(float)
        X = np.column_stack([np.ones(count), side[:, 2:]])
        y = entries.values[in_row] - side[:, OWN]
        D = np.diag([2.0] + [0.3 * count**0.5] * r)
        x = np.linalg.solve(X.T @ X + D, X.T @ y)
        # The products of about 40 terms are formed in float32, with a relative error of about 1e-6.
        assert np.allclose(P[i, [OWN, 2, 3, 4]], x, atol=2e-5)
        expected_objective += ((y - X @ x) ** 2).sum() + x @ D @ x
        expected_penalty += x @ D @ x
    assert objective == pytest.approx(expected_objective, rel=1e-4)
    assert penalty == pytest.approx(expected_penalty, rel=1e-4)


def test_low_rank_matrix_with_biases_is_recovered():
    random = np.random.default_rng(5)
    truth = 7 + random.standard_normal((60, 1)) + random.standard_normal((1, 50)) + low_rank(60, 50, 2)
    model = complete_by_als(entries_of(truth, 0.5), 2, 1e-5, 1.0, 1e-3, tolerance=1e-7)
    completed = np.array([model.row(i) for i in range(60)])
    # Products in float32 and the penalty of 1e-5 per rating each cause an error of about 1e-4.
    assert np.linalg.norm(completed - truth) <= 1e-3 * np.linalg.norm(truth - 7)


def test_more_sweeps_never_raise_the_objective():
    entries = uneven(seed=4)
    _, scale, _ = standardise(entries)
    in_row, in_column = entries.counts()
    objectives = []
    for tolerance in (0.3, 1e-2, 1e-3, 1e-5):
        model = complete_by_als(entries, 3, 0.1, 1.0, 2.0, tolerance=tolerance)
        misfit = (((model.at(entries.rows, entries.columns) - entries.values) / scale) ** 2).sum()
        P, Q = (side.astype(float) / np.sqrt(scale) for side in (model.P, model.Q))
        b, c = model.row_bias / scale, model.column_bias / scale
        penalty = 2.0 * ((b**2).sum() + (c**2).sum())
        penalty += 0.1 * ((in_row * (P**2).sum(1)).sum() + (in_column * (Q**2).sum(1)).sum())
        objectives.append(misfit + penalty)
    assert (np.diff(objectives) <= 1e-6 * objectives[0]).all()  # the result is rounded to float32
    assert objectives[-1] < objectives[0]


def test_result_does_not_depend_on_the_unit_of_the_values():
    entries = uneven(seed=2)
    plain = complete_by_als(entries, 2, 0.1, 0.5, 4.0)
    rescaled = complete_by_als(entries.with_values(1000 * entries.values + 5000), 2, 0.1, 0.5, 4.0)
    a, b = (model.at(entries.rows, entries.columns) for model in (plain, rescaled))
    # Both are the same standardised numbers up to float32 rounding, 1e-4 of values near 1 (as above).
    assert np.allclose(1000 * a + 5000, b, atol=1e-3 * 1000)


def test_rows_and_columns_without_entries_have_zero_bias_and_factors():
    entries = Entries.of(np.array([0, 0, 2]), np.array([0, 3, 3]), np.array([1.0, 2.0, 5.0]), (4, 5))
    model = complete_by_als(entries, 2, 0.1, 1.0, 1.0)
    assert model.row_bias[1] == model.row_bias[3] == model.column_bias[4] == 0
    assert (model.P[1] == 0).all() and (model.Q[[1, 2, 4]] == 0).all()
    assert model.at(np.array([1]), np.array([4]))[0] == pytest.approx(8 / 3)  # the mean


def test_biases_solve_their_normal_equations():
    entries = uneven(seed=6)
    b, c = fit_biases(entries, 3.0)
    residual = entries.values - b[entries.rows] - c[entries.columns]
    by_row = np.bincount(entries.rows, residual, entries.shape[0])
    by_column = np.bincount(entries.columns, residual, entries.shape[1])
    # At the minimum the gradient is zero, so the residual sum of a row equals shrink times its bias. Both
    # sums are at most a hundred, and conjugate gradients stop at a relative residual of 1e-6.
    assert np.allclose(by_row, 3.0 * b, atol=1e-4)
    assert np.allclose(by_column, 3.0 * c, atol=1e-4)


@settings(max_examples=40)
@given(
    m=st.integers(1, 8),
    n=st.integers(1, 8),
    count=st.integers(1, 20),
    rank=st.integers(1, 6),
    seed=st.integers(0, 999),
    constant=st.booleans(),
)
def test_any_small_matrix_is_completed(m, n, count, rank, seed, constant):
    random = np.random.default_rng(seed)
    positions = random.permutation(m * n)[:count]
    values = np.full(len(positions), 4.0) if constant else random.integers(1, 6, len(positions)).astype(float)
    entries = Entries.of(positions // n, positions % n, values, (m, n))
    model = complete_by_als(entries, rank, 0.1, 0.5, 1.0)
    assert model.rank <= min(rank, m, n)
    completed = np.array([model.row(i) for i in range(m)])
    assert np.isfinite(completed).all()
    if constant:
        assert np.allclose(completed, 4.0)
