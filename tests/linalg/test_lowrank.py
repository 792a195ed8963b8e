"""The algebra of LowRank compared with the same algebra on dense float64 matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eckart
from eckart import LowRank, Spectrum
from support.matrices import ROUTES, best_error, with_values

sizes = st.integers(1, 40)


@st.composite
def matrices(draw, m=None, n=None, dtype=None):
    """Draw a matrix of at most 40 x 40 whose spectrum may contain zeros and repeated values."""
    m, n = m or draw(sizes), n or draw(sizes)
    k = draw(st.integers(1, min(m, n)))
    sigma = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.0, 3.142]), min_size=k, max_size=k))
    dtype = dtype or draw(st.sampled_from([np.float32, np.float64]))
    seed = draw(st.integers(0, 10**6))
    return with_values(np.sort(sigma)[::-1], m, n, seed).astype(dtype)


def wide(f):
    return (f.U.astype(np.float64) * f.s) @ f.Vh.astype(np.float64)


def near(A, *more):
    """Return a bound on rounding in a sum of 40 products: 200 eps of the largest squared norm."""
    size = max(1.0, *(float(np.linalg.norm(x)) for x in (A, *more)))
    return 200 * float(np.finfo(A.dtype).eps) * size**2


@given(
    matrices(), st.sampled_from(ROUTES), st.sampled_from([{}, {"energy": 0.9}, {"error": 0.2}, {"rank": 1}])
)
def test_any_matrix_by_any_route(A, method, goal):
    f = eckart.svd(A, method=method, **goal)
    true = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    whole = float(np.linalg.norm(true))
    eps = float(np.finfo(A.dtype).eps)
    left = float(np.linalg.norm(A - wide(f)))
    assert left <= (best_error(true, f.rank) * 1.005 + 200 * eps) * whole
    assert f.error * whole == pytest.approx(left, rel=2e3 * eps, abs=200 * eps * whole)
    assert (f.s <= true[: f.rank] + 200 * eps * whole).all()


@given(st.data(), matrices())
def test_products_with_arrays_and_with_each_other(data, A):
    f = eckart.svd(A)
    x = data.draw(matrices(m=A.shape[1], dtype=A.dtype))
    y = data.draw(matrices(n=A.shape[0], dtype=A.dtype))
    limit = near(A, x, y)
    assert f @ x == pytest.approx(A @ x, abs=limit)
    assert y @ f == pytest.approx(y @ A, abs=limit)
    assert f @ x[:, 0] == pytest.approx(A @ x[:, 0], abs=limit)
    assert y[0] @ f == pytest.approx(y[0] @ A, abs=limit)
    both = f @ eckart.svd(x)
    assert isinstance(both, LowRank)
    assert both.dense() == pytest.approx(A @ x, abs=limit)


@given(st.data(), matrices(), st.floats(-8, 8))
def test_sums_differences_and_multiples(data, A, c):
    B = data.draw(matrices(*A.shape, dtype=A.dtype))
    f, g = eckart.svd(A), eckart.svd(B)
    limit = near(A, B)
    assert (f + g).dense() == pytest.approx(A + B, abs=limit)
    assert (f - g).dense() == pytest.approx(A - B, abs=limit)
    assert (f + g).rank <= min(f.rank + g.rank, *A.shape)
    for scaled in (c * f, f * c, np.float64(c) * f):
        assert scaled.dense() == pytest.approx(c * A, abs=8 * limit)
        assert scaled.s == pytest.approx(abs(c) * f.s)
    assert (-f).dense() == pytest.approx(-A, abs=limit)
    assert (f - f).norm() <= limit


@given(matrices(), st.sampled_from([-3.0, 0.25, 2.0]))
def test_multiple_keeps_energy_and_error(A, c):
    f = eckart.svd(A, rank=1)
    g = f * c
    assert (g.energy, g.error) == pytest.approx((f.energy, f.error))
    assert g.tail == pytest.approx(c * c * f.tail)
    assert g.spectrum.values == pytest.approx(abs(c) * f.spectrum.values)


@given(matrices())
def test_transpose_norms_and_factors(A):
    f = eckart.svd(A)
    limit = near(A)
    assert f.T.shape == A.T.shape == f.shape[::-1]
    assert f.T.dense() == pytest.approx(A.T, abs=limit)
    assert f.T.T.U.tobytes() == f.U.tobytes()
    assert f.norm() == pytest.approx(np.linalg.norm(A), abs=limit)
    assert f.norm(2) == pytest.approx(np.linalg.norm(A, 2), abs=limit)
    assert f.norm("nuc") == pytest.approx(np.linalg.norm(A, "nuc"), abs=40 * limit)
    left, right = f.factors()
    assert left.shape == (A.shape[0], f.rank) and right.shape == (f.rank, A.shape[1])
    assert left @ right == pytest.approx(A, abs=limit)
    assert f.parameters == left.size + right.size
    # The factors are balanced: each component has the same norm in both.
    assert np.linalg.norm(left, axis=0) == pytest.approx(np.linalg.norm(right, axis=1), abs=limit)


@given(matrices(dtype=np.float64), st.data())
def test_every_truncation_is_the_best_of_its_rank(A, data):
    f = eckart.svd(A)
    rank = data.draw(st.integers(1, f.rank))
    g = f.truncate(rank)
    true = np.linalg.svd(A, compute_uv=False)
    whole = float(np.linalg.norm(A))
    assert g.rank == rank
    assert np.linalg.norm(A - g.dense()) == pytest.approx(best_error(true, rank) * whole, abs=near(A))
    assert g.tail == pytest.approx(float((true[rank:] ** 2).sum()), abs=near(A))
    again = g.truncate(max(rank - 1, 1))
    assert again.dense() == pytest.approx(f.truncate(max(rank - 1, 1)).dense(), abs=near(A))
    assert again.tail == pytest.approx(float((true[again.rank :] ** 2).sum()), abs=near(A))


def test_truncate_uses_energy_of_this_matrix_and_tail_of_the_original():
    f = eckart.svd(np.diag([3.0, 2.0, 1.0]), rank=2)
    g = f.truncate(energy=9 / 13)  # 9 of the 9 + 4 that f holds
    assert (g.rank, g.tail) == (1, pytest.approx(5.0))
    assert g.energy == pytest.approx(9 / 14)
    assert f.truncate(error=0.6).rank == 1  # sqrt(4/13) = 0.55
    assert f.truncate(error=0.5).rank == 2
    assert f.truncate().rank == 2


def test_truncate_drops_rank_bounds():
    g = eckart.svd(np.diag([3.0, 2.0, 1.0]), rank=3).truncate(rank=1)
    assert g.rank_bounds is None


@given(matrices(), st.data())
def test_product_equals_the_svd_of_the_dense_product(B, data):
    A = data.draw(matrices(m=B.shape[1], dtype=B.dtype))
    f = LowRank.from_product(B, A)
    dense = B.astype(np.float64) @ A.astype(np.float64)
    true = np.linalg.svd(dense, compute_uv=False)
    size = float(np.linalg.norm(B)) * float(np.linalg.norm(A))
    # The core is solved in float64, so values are accurate to its rounding for any dtype of the factors.
    assert f.s == pytest.approx(true[: f.rank], abs=1e-14 * max(size, 1e-300) * 40)
    assert np.abs(true[f.rank :]).max(initial=0.0) <= 1e-14 * 40 * size
    assert wide(f) == pytest.approx(dense, abs=200 * float(np.finfo(B.dtype).eps) * max(size, 1.0))
    assert f.U.dtype == B.dtype
    assert f.rank <= min(*B.shape, *A.shape)
    assert f.rank_bounds == (f.rank, f.rank) and f.tail == 0


def test_product_drops_components_that_are_rounding():
    left = with_values(np.array([3.0, 2.0]), 30, 8, 1)
    right = with_values(np.array([5.0, 1.0, 1.0]), 8, 20, 2)
    f = LowRank.from_product(left, right)
    assert f.rank == 2
    zero = LowRank.from_product(np.zeros((4, 2)), np.ones((2, 3)))
    assert (zero.rank, zero.shape, zero.energy, zero.error) == (0, (4, 3), 1.0, 0.0)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_product_of_factors_of_opposite_sizes_is_accurate(scale):
    f = LowRank.from_product(np.array([[3.0], [4.0]]) * scale, np.array([[1.0, 0.0]]) / scale)
    assert f.s == pytest.approx([5.0], rel=1e-14)


def test_integer_and_small_float_factors():
    assert LowRank.from_product([[3], [4]], [[1, 0]]).s == pytest.approx([5.0])
    f = LowRank.from_product(np.array([[3], [4]], np.float16), np.array([[1, 0]], np.float16))
    assert f.U.dtype == np.float32


def test_algebra_with_a_zero_matrix():
    zero = eckart.svd(np.zeros((3, 4)), energy=0.9)
    f = eckart.svd(np.ones((3, 4)), energy=0.9)
    assert (zero.rank, zero.energy, zero.error, zero.norm(), zero.norm(2)) == (0, 1.0, 0.0, 0.0, 0.0)
    assert not zero.dense().any() and zero.dense().shape == (3, 4)
    assert (zero + f).dense() == pytest.approx(np.ones((3, 4)))
    assert not (zero @ np.ones((4, 2))).any()
    assert zero.T.shape == (4, 3)
    assert zero.truncate(energy=0.5).rank == 0
    assert (zero + zero).rank == 0
    assert (zero @ f.T).shape == (3, 3)


def test_repr_shows_shape_rank_energy_and_route():
    f = eckart.svd(np.diag([3.0, 2.0, 1.0]), energy=0.9)
    assert repr(f) == "LowRank(3 x 3, rank 2, energy 0.9286, by lapack)"
    assert repr(Spectrum([3.0], 5.0, 3)) == "Spectrum(leading 1 of 3, total=14)"


def test_html_table_shows_the_main_numbers():
    html = eckart.svd(np.diag([3.0, 2.0, 1.0]), energy=0.9)._repr_html_()
    for label, value in (
        ("shape", "3 x 3"),
        ("rank", "2"),
        ("energy kept", "92.8571%"),
        ("relative error", "0.2673"),
        ("parameters", "12 (dense: 9)"),
        ("method", "lapack"),
        ("least rank for the goal", "proven: 2"),
    ):
        assert f'<th scope="row">{label}</th><td>{value}</td>' in html
    factors = LowRank(np.eye(3)[:, :1], np.ones(1), np.eye(3)[:1], rank_bounds=(1, 2))
    assert "<td>between 1 and 2</td>" in factors._repr_html_()
    assert "least rank" not in LowRank(np.eye(3)[:, :1], np.ones(1), np.eye(3)[:1])._repr_html_()
