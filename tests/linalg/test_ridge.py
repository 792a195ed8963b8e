"""Ridge compared with the normal equations, its scores with their definitions, its choices with the truth."""

import numpy as np
import pytest

from eckart.errors import MatrixError, UsageError
from eckart.linalg import RidgePath, lstsq, ridge
from support.matrices import with_values

PENALTIES = [1e-6, 1e-3, 0.1, 1.0, 30.0]


def problem(m=30, n=12, seed=0):
    random = np.random.default_rng(seed)
    return with_values(np.geomspace(3, 0.03, min(m, n)), m, n, seed), random.standard_normal(m)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (12, 12), (200, 4)])
def test_solution_satisfies_the_normal_equations(shape, penalty):
    A, b = problem(*shape)
    solution = ridge(A, b, penalty)
    by_hand = np.linalg.solve(A.T @ A + penalty * np.eye(shape[1]), A.T @ b)
    # The normal equations square the condition, at most 1e4. With more columns than rows their error is
    # eps / penalty.
    assert solution.x == pytest.approx(by_hand, abs=1e-8 * np.abs(by_hand).max())
    assert solution.residual == pytest.approx(np.linalg.norm(A @ by_hand - b), rel=1e-8)
    assert solution.norm == pytest.approx(np.linalg.norm(by_hand), rel=1e-8)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_degrees_of_freedom_and_gcv_equal_those_of_the_hat_matrix(penalty):
    A, b = problem()
    hat = A @ np.linalg.solve(A.T @ A + penalty * np.eye(12), A.T)
    left = np.eye(30) - hat
    score = (left @ b) @ (left @ b) / 30 / (np.trace(left) / 30) ** 2
    path = RidgePath(A, b)
    assert path.solve(penalty).degrees_of_freedom == pytest.approx(np.trace(hat), rel=1e-9)
    assert path.gcv(penalty) == pytest.approx(score, rel=1e-9)
    assert path.filter_factors(penalty) == pytest.approx(path.s**2 / (path.s**2 + penalty), rel=1e-12)


# At the smallest penalty the curve hardly moves, and differences are rounding.
@pytest.mark.parametrize("penalty", PENALTIES[1:])
def test_curvature_equals_finite_differences(penalty):
    path = RidgePath(*problem())
    t = np.log(penalty) + 1e-3 * np.arange(-2, 3)
    points = [path.solve(float(np.exp(u))) for u in t]
    x, y = np.log([p.residual for p in points]), np.log([p.norm for p in points])

    def first(v):
        return (v[3] - v[1]) / 2e-3

    def second(v):
        return (v[3] - 2 * v[2] + v[1]) / 1e-6

    by_differences = (first(x) * second(y) - second(x) * first(y)) / np.hypot(first(x), first(y)) ** 3
    # The error of a step is O(h^2), since derivatives are of order 1; rounding adds 1e-16 / h^2.
    assert path.curvature(penalty) == pytest.approx(by_differences, rel=1e-3, abs=1e-4)


def smooth_problem(noise, seed=5):
    """Return a blur A, a bump x and noisy data A x: an integral equation with geometrically falling sigma."""
    t = np.linspace(-3, 3, 64)
    A = np.exp(-0.5 * ((t[:, None] - t) / 0.35) ** 2) * (t[1] - t[0])
    x = np.where(np.abs(t) < 1.5, np.cos(t * np.pi / 3) ** 2, 0.0)
    b = A @ x
    return A, x, b + noise * np.random.default_rng(seed).standard_normal(64)


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
@pytest.mark.parametrize(("choice", "factor"), [("gcv", 5), ("l-curve", 40)])
@pytest.mark.parametrize("seed", range(4))
def test_both_choices_are_close_to_the_best_penalty(noise, choice, factor, seed):
    """The corner is known to be too small a penalty for smooth solutions: Hanke (1996)."""
    A, x, b = smooth_problem(noise, seed)
    path = RidgePath(A, b)
    best = min(np.linalg.norm(path.solve(p).x - x) for p in np.geomspace(1e-12, 10, 200))
    chosen = np.linalg.norm(ridge(A, b, choice).x - x)
    naive = np.linalg.norm(lstsq(A, b).x - x)
    assert chosen < factor * best
    assert chosen < naive / 1000


def test_best_score_is_the_minimum_of_a_finer_grid():
    path = RidgePath(*smooth_problem(1e-2)[::2])
    grid = np.geomspace(1e-14, 10, 3000)
    assert path.gcv(path.best_by_gcv()) <= min(map(path.gcv, grid)) * (1 + 1e-9)
    assert path.curvature(path.corner()) >= max(map(path.curvature, grid)) * (1 - 1e-3)


def test_zero_penalty_gives_least_squares():
    A, b = with_values(np.array([2.0, 1.0]), 9, 4), np.arange(9.0)
    assert ridge(A, b, 0.0).x == pytest.approx(lstsq(A, b).x, abs=1e-13)
    assert ridge(A, b, 0).degrees_of_freedom == 2
    square, c = problem(12, 12)
    assert RidgePath(square, c).gcv(0.0) == np.inf  # no degrees of freedom are left


def test_columns_share_a_penalty_and_dtypes_are_kept():
    A, b = problem()
    B = np.column_stack([b, 2 * b])
    both = ridge(A.astype(np.float32), B.astype(np.float32), 0.1)
    assert both.x.shape == (12, 2)
    assert both.x.dtype == np.float32
    assert both.x[:, 1] == pytest.approx(2 * both.x[:, 0], rel=1e-5)


def test_matrix_with_equal_singular_values():
    solution = ridge(np.eye(5)[:, :3], np.ones(5), "gcv")
    assert 0 < solution.penalty <= 1.001


@pytest.mark.parametrize(("A", "b"), [(1e200, 1), (1e-200, 1), (1, 1e200), (1, 1e-200), (1e-310, 1)])
def test_squares_out_of_range_are_refused(A, b):
    """A penalty of the order of sigma^2 would be out of range, and the scores would be 0 or infinite."""
    argument = "b of" if A == 1 else "A of"
    with pytest.raises(MatrixError, match=f"{argument} .*RidgePath.*out of float64's range"):
        ridge(A * problem()[0], b * problem()[1])


@pytest.mark.parametrize("unit", [1e100, 1e-100])
def test_scaling_within_range_changes_nothing(unit):
    A, b = problem()
    path, scaled = RidgePath(A, b), RidgePath(A * unit, b * unit)
    for choice in ("best_by_gcv", "corner"):
        one, other = getattr(path, choice)(), getattr(scaled, choice)() / unit**2
        assert other == pytest.approx(one, rel=1e-3)
        assert scaled.solve(one * unit**2).x == pytest.approx(path.solve(one).x, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: ridge(np.eye(2), np.ones(2), -1.0), ["penalty=-1.0"]),
        (lambda: ridge(np.eye(2), np.ones(2), np.nan), ["penalty=nan"]),
        (lambda: ridge(np.eye(2), np.ones(2), "best"), ["'best'", "'l-curve'"]),
        (lambda: ridge(np.zeros((2, 2)), np.ones(2)), ["zero"]),
        (lambda: RidgePath(np.eye(2), np.ones(2)).curvature(0.0), ["above 0"]),
    ],
)
def test_invalid_arguments_are_refused(call, parts):
    with pytest.raises(UsageError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)
