"""torch tensors take the same routes with other array operations, and results are torch tensors."""

import numpy as np
import pytest

import eckart
from eckart import LowRank
from eckart.errors import MatrixError
from support.matrices import CASES, ROUTES, best_error, case

torch = pytest.importorskip("torch")

NAMES = [
    "1/i 40x60 float32",
    "spikes 60x33 float64",
    "one row",
    "1x1 float64",
    "transposed view",
    "1/i times 1e-30 40x60 float32",
    "1/i 300x400 float32",
    "i^-0.3 600x300 float64",
    "noise 300x400 float32",
]


def tensor(A):
    return torch.tensor(A)  # a copy, because torch does not support read-only arrays


def rounding(c):
    return 8 * c.eps * float(np.sqrt(max(c.A.shape)))  # as in test_routes


@pytest.mark.parametrize("method", ROUTES)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_equal_those_of_numpy(name, method):
    c = case(name)
    for goal in ({"energy": 0.9}, {"rank": min(20, *c.A.shape)}):
        f, g = eckart.svd(c.A, method=method, **goal), eckart.svd(tensor(c.A), method=method, **goal)
        assert isinstance(g.U, torch.Tensor) and isinstance(g.Vh, torch.Tensor)
        assert isinstance(g.s, np.ndarray) and g.s.dtype == np.float64
        assert g.U.dtype == g.Vh.dtype == tensor(c.A).dtype
        assert (g.rank, g.method, g.rank_bounds) == (f.rank, f.method, f.rank_bounds)
        # The sketch is the same, but BLAS is another: a Ritz value that has not converged may differ by more
        # than rounding, but by at most its square root.
        assert g.s == pytest.approx(f.s, rel=np.sqrt(c.eps), abs=rounding(c) * c.values[0] * c.unit)
        dense = (g.U.double().numpy() * (g.s / c.unit)) @ g.Vh.double().numpy()
        whole = np.linalg.norm(c.wide)
        left = float(np.linalg.norm(c.wide - dense) / whole)
        assert g.error == pytest.approx(left, rel=2e3 * c.eps, abs=5 * rounding(c))
        if "rank" in goal:
            assert left <= 1.005 * best_error(c.values, g.rank) + 5 * rounding(c)


@pytest.mark.parametrize("method", ["auto", "lapack", "gram"])
@pytest.mark.parametrize("name", ["1/i 40x60 float32", "1/i 300x400 float32", "exp(-i/20) 600x300 float64"])
def test_spectrum(name, method):
    c = case(name)
    s = eckart.spectrum(tensor(c.A), method=method)
    # The Gram matrix loses values below sqrt(n eps) sigma_1, in float64.
    lost = np.sqrt(max(c.A.shape) * np.finfo(np.float64).eps)
    assert s.values == pytest.approx(
        c.values * c.unit, rel=0, abs=(rounding(c) + lost) * c.values[0] * c.unit
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_small_floats_become_float32(dtype):
    T = tensor(case("1/i 40x60 float32").A).to(getattr(torch, dtype))
    true = np.linalg.svd(T.double().numpy(), compute_uv=False)
    f = eckart.svd(T)
    assert f.U.dtype == torch.float32
    assert f.s == pytest.approx(true, abs=1e-5 * true[0])


def test_integers_become_float64():
    f = eckart.svd(torch.tensor([[4, 0], [3, 5]]))
    assert f.U.dtype == torch.float64
    assert f.s == pytest.approx(np.sqrt([40, 10]), rel=1e-14)


def test_parameter_is_factored_without_its_gradient():
    T = torch.tensor([[4.0, 0.0], [3.0, 5.0]], requires_grad=True)
    f = eckart.svd(T, rank=1)
    assert not f.U.requires_grad
    assert T.grad is None


@pytest.mark.parametrize("method", ROUTES)
def test_two_runs_give_equal_bytes_and_keep_the_input(method):
    T = tensor(case("i^-0.5 300x400 float32").A)
    before = T.clone()
    f, g = (eckart.svd(T, rank=30, method=method) for _ in range(2))
    assert torch.equal(f.U, g.U) and torch.equal(f.Vh, g.Vh) and (f.s == g.s).all()
    assert torch.equal(T, before)


def test_algebra_of_factors_stays_in_torch():
    A, B = torch.randn(7, 5, generator=torch.manual_seed(0)), torch.ones(7, 5)
    f, g = eckart.svd(A), eckart.svd(B, rank=1)
    close = {"atol": 1e-5, "rtol": 0}  # values of order 1 to 10 in float32
    pairs = [(f + g, A + B), (f - g, A - B), (2.0 * f, 2 * A), (f.T, A.T), (-f, -A), (f @ g.T, A @ B.T)]
    for lazy, dense in pairs:
        assert isinstance(lazy, LowRank)
        assert torch.allclose(lazy.dense(), dense, **close)
    assert torch.allclose(f @ torch.ones(5), A @ torch.ones(5), **close)
    assert torch.allclose(torch.ones(2, 7) @ f, torch.ones(2, 7) @ A, **close)
    left, right = f.factors()
    assert torch.allclose(left @ right, A, **close)
    assert torch.allclose(f.truncate(2).dense(), eckart.svd(A, rank=2).dense(), **close)
    assert isinstance(LowRank.from_product(left, right).U, torch.Tensor)


@pytest.mark.parametrize(
    ("T", "message"),
    [
        (torch.ones(3), "(3,)"),
        (torch.ones(2, 3, 4), "(2, 3, 4)"),
        (torch.ones(0, 3), "(0, 3)"),
        (torch.ones(2, 2, dtype=torch.complex64), "complex"),
        (torch.tensor([[1.0, float("nan")]]), "[0, 1]"),
        (torch.tensor([[1.0], [float("inf")]]).bfloat16(), "[1, 0]"),
    ],
)
def test_invalid_tensors_are_refused(T, message):
    with pytest.raises(MatrixError) as caught:
        eckart.svd(T)
    assert message in str(caught.value)
    assert str(caught.value).startswith("`eckart.svd(A)`: ")


def test_names_are_in_the_table():
    assert {c.name for c in CASES} >= set(NAMES)
