"""The SVD of a product compared with NumPy's, for ill-conditioned, dependent and badly scaled factors."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.errors import MatrixError
from eckart.linalg import LowRank
from eckart.linalg.routes.product import Product, ProductCore, Triplets
from eckart.linalg.routes.tall import Tall
from support.matrices import orthonormal, with_values

EPS = float(np.finfo(np.float64).eps)


def factors(m, r, n, seed=0, condition=1.0):
    """Return random factors whose singular values fall geometrically to 1 / condition."""
    random = np.random.default_rng(seed)
    if condition == 1.0:
        return random.standard_normal((m, r)), random.standard_normal((r, n))
    left, right = (np.logspace(0, -np.log10(condition), min(r, k)) for k in (m, n))
    return with_values(left, m, r, seed), with_values(right, r, n, seed + 1)


# name: B (m, r) and A (r, n)
CASES = {
    "tall": lambda: factors(200, 4, 30),
    "wide": lambda: factors(30, 4, 200),
    "square": lambda: factors(20, 20, 20),
    "r over m": lambda: factors(5, 12, 40),
    "r over n": lambda: factors(40, 12, 5),
    "r over both": lambda: factors(6, 40, 7),
    "one column": lambda: factors(50, 1, 40),
    "one entry": lambda: factors(1, 1, 1),
    "one row": lambda: factors(1, 8, 40),
    "condition 1e3": lambda: factors(100, 8, 90, 1, 1e3),
    "condition 1e5": lambda: factors(100, 8, 90, 2, 1e5),
    "condition 1e7": lambda: factors(100, 8, 90, 3, 1e7),
    "condition 1e14": lambda: factors(100, 8, 90, 4, 1e14),
    "left of condition 1e9": lambda: (factors(100, 8, 90, 5, 1e9)[0], factors(100, 8, 90, 5)[1]),
    "right of condition 1e9": lambda: (factors(100, 8, 90, 6)[0], factors(100, 8, 90, 6, 1e9)[1]),
    "columns twice": lambda: (np.tile(factors(60, 3, 1)[0], 2), factors(1, 6, 50)[1]),
    "rows that cancel": lambda: (
        np.tile(factors(60, 3, 1)[0], 2),
        np.tile(factors(1, 3, 50)[1], (2, 1)) * np.repeat([1.0, -0.5], 3)[:, None],
    ),
    "a column of zeros": lambda: (factors(60, 4, 1)[0] * [1, 0, 1, 1], factors(1, 4, 50)[1]),
    "columns of all sizes": lambda: (factors(60, 4, 1)[0] * [1e30, 1, 1e-30, 1e-60], factors(1, 4, 50)[1]),
    "opposite sizes": lambda: (
        factors(60, 3, 1)[0] * [1e8, 1, 1e-8],
        factors(1, 3, 50)[1] * np.array([[1e-8], [1], [1e8]]),
    ),
    "ties": lambda: (orthonormal(60, 5, 0) * 2.0, orthonormal(50, 5, 1).T),
    "tiny": lambda: tuple(f * 1e-30 for f in factors(60, 4, 50)),
    "tinier": lambda: tuple(f * 1e-60 for f in factors(60, 4, 50)),
    "huge": lambda: tuple(f * 1e30 for f in factors(60, 4, 50)),
    "huger": lambda: tuple(f * 1e60 for f in factors(60, 4, 50)),
    "tiny times huge": lambda: (factors(60, 4, 1)[0] * 1e-100, factors(1, 4, 50)[1] * 1e100),
    "left zero": lambda: (np.zeros((60, 4)), factors(1, 4, 50)[1]),
    "right zero": lambda: (factors(60, 4, 1)[0], np.zeros((4, 50))),
    "orthogonal spaces": lambda: (
        orthonormal(60, 6, 0) * [1, 1, 1, 0, 0, 0],
        orthonormal(50, 6, 1).T * np.array([[0], [0], [0], [1], [1], [1]]),
    ),
    "no columns": lambda: (np.zeros((60, 0)), np.zeros((0, 50))),
}


def of(B, A):
    return Product(Tall([B]), Tall([A.T]), np.ones(B.shape[1]))


def exact(B, A):
    """Return the product in float64, of factors scaled to a size near 1, and the two scales."""
    units = [2.0 ** np.floor(np.log2(np.abs(M).max())) if M.any() else 1.0 for M in (B, A)]
    product = (B / units[0]) @ (A / units[1])
    return product, units[0], units[1]


def check(B, A, digits=1e3):
    """Compare values and truncations with NumPy's, to a thousand roundings of the factors' norms."""
    core = ProductCore.of(of(B, A))
    product, u, v = exact(B, A)
    values = np.linalg.svd(product, compute_uv=False) if product.size else np.zeros(0)
    # Relative to the norms of the factors, because cancellation in B A is not the solver's error.
    size = np.linalg.norm(B / u) * np.linalg.norm(A / v)
    tolerance = digits * EPS * size
    ours = np.zeros(len(values))
    ours[: len(core.s)] = core.s / u / v
    np.testing.assert_allclose(ours, values, rtol=0, atol=tolerance)
    assert np.all(np.diff(core.s) <= 0) and np.all(core.s > 0) and core.shape == (len(B), A.shape[1])
    for rank in {0, 1, len(core.s) // 2, len(core.s)} - ({1} if not len(core.s) else set()):
        f = core.cut(of(B, A), rank)
        assert isinstance(f, Triplets) and len(f.s) == rank
        approximation = (f.U * (f.s / u / v)) @ f.Vh
        left = np.linalg.norm(product - approximation)
        assert left <= np.sqrt(np.square(values[rank:]).sum()) + tolerance
        np.testing.assert_allclose(np.sqrt(f.tail) / u / v, left, rtol=1e-6, atol=tolerance)
    return core, f


@pytest.mark.parametrize("name", CASES)
def test_values_and_truncations_equal_numpys(name):
    check(*CASES[name]())


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"left zero", "right zero", "no columns"}))
def test_singular_vectors_are_orthonormal(name):
    B, A = CASES[name]()
    core = ProductCore.of(of(B, A))
    f = core.cut(of(B, A), len(core.s))
    eye = np.eye(len(f.s))
    # U = B W loses log10(cond(B)) digits, and is computed this way only for a condition up to 1e4.
    np.testing.assert_allclose(f.U.T @ f.U, eye, rtol=0, atol=1e-8)
    np.testing.assert_allclose(f.Vh @ f.Vh.T, eye, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "name", ["columns twice", "rows that cancel", "a column of zeros", "orthogonal spaces"]
)
def test_rank_of_dependent_factors(name):
    expected = {"columns twice": 3, "rows that cancel": 3, "a column of zeros": 3}.get(name, 0)
    B, A = CASES[name]()
    core = ProductCore.of(of(B, A))
    if expected:
        assert len(core.s) == expected
    else:  # the two spaces are orthogonal only to rounding
        assert core.s.max(initial=0.0) < 100 * EPS


@pytest.mark.parametrize("m, n", [(60, 50), (5, 50), (60, 5)])
def test_given_singular_values_are_recovered(m, n):
    sigma = np.array([3.142, 2.718, 1.414, 0.577])
    B, A = orthonormal(m, 4, 1) * np.sqrt(sigma), np.sqrt(sigma)[:, None] * orthonormal(n, 4, 2).T
    core = ProductCore.of(of(B, A))
    np.testing.assert_allclose(core.s, sigma, rtol=1e-13)
    assert core.spectrum.rank_at_energy(0.5) == 1
    assert core.spectrum.total == pytest.approx(np.square(sigma).sum(), rel=1e-13)


def test_product_computed_by_hand():
    product = of(np.array([[3.0], [4.0]]), np.array([[0.0, 2.0]]))
    core = ProductCore.of(product)
    np.testing.assert_allclose(core.s, [10.0], rtol=1e-15)
    f = core.cut(product, 1)
    np.testing.assert_allclose((f.U * f.s) @ f.Vh, [[0, 6], [0, 8]], atol=1e-14)


def test_factors_whose_squares_are_out_of_range():
    B, A = factors(60, 4, 50)
    check(B * 1e-200, A * 1e200)


EMPTY = {"left zero", "right zero", "no columns", "orthogonal spaces"}


def both_ways(B, A, rank):
    """Return the leading components as balanced factors, with one thread and with two."""
    product = of(B, A)
    results = []
    for threads in (1, 2):
        core = ProductCore.of(product, threads)
        results.append(core.factors(product, rank, threads))
    return core, *results


@pytest.mark.parametrize("name", sorted(CASES.keys() - EMPTY))
def test_balanced_factors_equal_the_truncation_for_any_threads(name):
    B, A = CASES[name]()
    for rank in (1, len(ProductCore.of(of(B, A)).s)):
        core, one, two = both_ways(B, A, rank)
        for left, right in zip(one, two, strict=True):
            assert left.tobytes() == right.tobytes()
        f = core.cut(of(B, A), rank)
        unit = np.sqrt(f.s[0])
        ours, theirs = (one[0] / unit) @ (one[1] / unit), (f.U * (f.s / f.s[0])) @ f.Vh
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)
        np.testing.assert_allclose(np.square(one[0] / unit).sum(axis=0), f.s / f.s[0], rtol=1e-6)
        np.testing.assert_allclose(np.square(one[1] / unit).sum(axis=1), f.s / f.s[0], rtol=1e-6)


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e9, 1e14])
def test_leading_components_of_an_ill_conditioned_product_are_accurate(condition):
    """Components far above rounding need no second orthogonalisation, whatever the smaller ones are."""
    B, A = factors(300, 12, 200, 7, condition)
    core = ProductCore.of(of(B, A))
    U, s, Vh = np.linalg.svd(B @ A, full_matrices=False)
    rank = min(core.faithful, 4)
    assert rank >= 1
    f = core.cut(of(B, A), rank)
    np.testing.assert_allclose((f.U * f.s) @ f.Vh, (U[:, :rank] * s[:rank]) @ Vh[:rank], atol=1e-10 * s[0])
    np.testing.assert_allclose(f.U.T @ f.U, np.eye(rank), rtol=0, atol=1e-9)


@settings(max_examples=80, derandomize=True)
@given(
    m=st.integers(1, 40),
    r=st.integers(1, 24),
    n=st.integers(1, 40),
    seed=st.integers(0, 99),
    power=st.sampled_from([0, 2, 5, 8, 12, 16]),
    scale=st.sampled_from([1.0, 1e-30, 1e30, 1e-100]),
    repeated=st.integers(0, 3),
)
def test_random_factors(m, r, n, seed, power, scale, repeated):
    B, A = factors(m, r, n, seed, 10.0**power)
    if repeated:
        B, A = np.hstack([B, B[:, :repeated]]), np.vstack([A, -A[:repeated] / 3])
    check(B * scale, A)


@settings(max_examples=60, derandomize=True)
@given(
    entries=st.lists(
        st.sampled_from([0.0, 1.0, -1.0, 1e-8, -3.0, 1e8, 2.0**-40, 1e-60, 1e60]), min_size=24, max_size=24
    )
)
def test_factors_with_zeros_ties_and_extreme_numbers(entries):
    B, A = np.reshape(entries[:12], (4, 3)), np.reshape(entries[12:], (3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(B, A)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_product_keeps_the_dtype(dtype):
    B, A = (f.astype(dtype) for f in factors(60, 4, 50))
    f = LowRank.from_product(B, A)
    assert f.U.dtype == f.Vh.dtype == dtype and f.rank == 4 and f.rank_bounds == (4, 4)
    wide = B.astype(np.float64) @ A.astype(np.float64)
    np.testing.assert_allclose(f.s, np.linalg.svd(wide, compute_uv=False)[:4], rtol=1e-12)
    np.testing.assert_allclose(f.dense(), wide, atol=50 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_factor_that_is_not_finite_is_refused(bad):
    B, A = factors(6, 2, 5)
    B[3, 1] = bad
    with pytest.raises(MatrixError, match="NaN or an infinity"):
        LowRank.from_product(B, A)


def test_factors_that_do_not_chain_are_refused():
    with pytest.raises(MatrixError, match="do not chain"):
        LowRank.from_product(np.ones((4, 3)), np.ones((2, 5)))


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("shape", [(256, 160), (160, 432), (40, 30), (2000, 1500)])
def test_product_minus_itself_is_zero(shape, rank):
    """Cancellation leaves rounding of the size of the factors, for columns of any length."""
    for seed in range(5):
        B, A = (M * 7.0 for M in factors(shape[0], rank, shape[1], seed))
        twice = np.hstack([B, B]), np.vstack([A, -A])
        assert not len(ProductCore.of(of(*twice)).s), seed
