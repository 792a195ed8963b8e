"""The spectral norm lies between its bounds on every matrix of the table, by either proof."""

import ml_dtypes
import numpy as np
import pytest

from eckart.errors import MatrixError, UsageError
from eckart.linalg import spectral_norm, spectral_normalise
from support.matrices import CASES, with_values

EPS = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize(("proof", "tolerance"), [("cholesky", 1e-3), ("cholesky", 1e-6), ("random", 0.3)])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_norm_lies_between_the_bounds(case, proof, tolerance):
    found = spectral_norm(case.A, proof=proof, tolerance=tolerance)
    true = float(case.values[0])  # of the matrix divided by its unit, by LAPACK: itself right to a few eps
    assert found.lower / case.unit <= true * (1 + 8 * EPS * np.sqrt(max(case.A.shape)))
    assert found.upper / case.unit >= true * (1 - 8 * EPS * np.sqrt(max(case.A.shape)))
    assert found.gap <= tolerance
    assert found.value == found.lower


def test_a_proof_is_not_taken_in_by_a_start_that_misses():
    """sigma_1 belongs to one direction in a thousand, next to many nearly as large."""
    A = with_values(np.r_[1.02, np.ones(299)], 300, 300, 4)
    for seed in range(5):
        found = spectral_norm(A, tolerance=1e-3, seed=seed)
        assert found.proof in ("cholesky", "svd")
        assert found.lower <= 1.02 * (1 + 1e-13) and found.upper >= 1.02 * (1 - 1e-13)


def test_a_value_that_the_search_cannot_see_is_found_by_the_proof(monkeypatch):
    """A start without the first direction: the iteration converges to sigma_2, Cholesky says no."""
    from eckart.linalg.routes.krylov import BlockKrylov

    A = np.diag(np.r_[2.0, np.linspace(1.0, 0.1, 49)])
    gaussian = BlockKrylov._gaussian

    def blind(self, rows, columns):
        start = gaussian(self, rows, columns)
        start[:, 0] = 0.0
        return start

    monkeypatch.setattr(BlockKrylov, "_gaussian", blind)
    found = spectral_norm(A, tolerance=1e-3)
    assert found.proof == "svd"
    assert found.lower <= 2.0 <= found.upper


def longest(A):
    """sigma_1 to 18 digits: power iteration in long double from where float64 ends."""
    wide = A.astype(np.longdouble)
    v = np.linalg.svd(A.astype(np.float64))[2][0].astype(np.longdouble)
    for _ in range(4):
        v = wide.T @ (wide @ v)
        v /= np.sqrt(v @ v)
    return np.sqrt(((wide @ v) ** 2).sum())


@pytest.mark.parametrize(("proof", "tolerance"), [("cholesky", 1e-3), ("cholesky", 1e-8), ("random", 0.5)])
@pytest.mark.parametrize("kind", ["outer", "one column", "orthonormal", "gaussian"])
def test_rounding_breaks_neither_bound(kind, proof, tolerance):
    """Outer products have sigma_1 = ||A||_F, which the bound by chance is cut to: no room for rounding."""
    for seed in range(12):
        random = np.random.default_rng(seed)
        A = random.standard_normal(random.integers(2, 90, 2))
        A = {"outer": np.outer(A[:, 0], A[0]), "one column": A[:, :1], "gaussian": A,
             "orthonormal": np.linalg.qr(A)[0]}[kind]  # fmt: skip
        found, true = spectral_norm(A, proof=proof, tolerance=tolerance), longest(A)
        assert found.lower <= true <= found.upper


def test_the_random_bound_fails_as_seldom_as_it_says():
    A = with_values(1 - np.linspace(0, 1, 100) ** 2, 100, 100, 1)
    failure = 0.2
    wrong = sum(
        spectral_norm(A, proof="random", tolerance=0.5, failure=failure, seed=i).upper < 1 for i in range(200)
    )
    assert wrong <= 60  # 40 expected at worst; 60 is 3.5 standard deviations more


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bound", [1.0, 0.3])
def test_normalised_is_proven_to_be_under_the_bound(dtype, bound):
    W = (np.random.default_rng(0).standard_normal((60, 90)) * 5).astype(dtype)
    done = spectral_normalise(W, bound)
    norm = np.linalg.norm(done.astype(np.float64), 2)
    assert bound / (1 + 1e-3) <= norm <= bound
    direction = np.vdot(done.astype(np.float64), W.astype(np.float64))
    assert direction == pytest.approx(np.linalg.norm(done) * np.linalg.norm(W.astype(np.float64)), rel=1e-6)


def test_torch_tensors_stay_tensors():
    torch = pytest.importorskip("torch")
    W = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    done = spectral_normalise(W)
    assert isinstance(done, torch.Tensor) and done.dtype == torch.float32
    assert 0.999 <= float(torch.linalg.matrix_norm(done.double(), 2)) <= 1.0


def test_zero_has_norm_zero():
    found = spectral_norm(np.zeros((3, 4)))
    assert (found.lower, found.upper, found.gap) == (0.0, 0.0, 0.0)
    assert not spectral_normalise(np.zeros((3, 4))).any()


REFUSED = [
    (lambda: spectral_norm(np.eye(2), tolerance=0), UsageError, "tolerance=0"),
    (lambda: spectral_norm(np.eye(2), tolerance=1e-12), UsageError, "1e-9"),
    (lambda: spectral_norm(np.eye(2), failure=1.5), UsageError, "failure=1.5"),
    (lambda: spectral_norm(np.eye(2), proof="faith"), UsageError, "'faith'"),
    (lambda: spectral_norm([[np.nan]]), MatrixError, "NaN"),
    (lambda: spectral_norm(np.eye(2), seed=-1), UsageError, "seed=-1"),
    (lambda: spectral_norm(np.eye(2) * 1e200), MatrixError, r"spectral_norm\(A\).*range"),
    (lambda: spectral_normalise(np.eye(2) * 1e200), MatrixError, r"spectral_normalise\(W\).*range"),
    (lambda: spectral_normalise(np.eye(2), 0.0), UsageError, "bound=0.0"),
    (lambda: spectral_normalise(np.eye(2, dtype=np.float32), tolerance=1e-7), MatrixError, "rounding"),
]


@pytest.mark.parametrize(("call", "error", "word"), REFUSED)
def test_refusals(call, error, word):
    with pytest.raises(error, match=word):
        call()
